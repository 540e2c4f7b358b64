//! Which form of an answer the client wants.

use http::{HeaderMap, header};

use crate::error::Error;

/// The transformation asked for by `as=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The object as it is.
    Object,
    /// A `meta.k8s.io` Table of this version.
    Table(&'static str),
    /// Metadata only, of this version.
    Partial(&'static str),
}

/// The encoding of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// The negotiated answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accept {
    /// What to show.
    pub form: Form,
    /// How to write it.
    pub encoding: Encoding,
    /// Whether the client unpacks gzip.
    pub gzip: bool,
}

impl Accept {
    /// JSON objects, uncompressed.
    pub const PLAIN: Self = Self { form: Form::Object, encoding: Encoding::Json, gzip: false };

    /// Picks the form that the headers like best, and of several the first.
    pub fn negotiate(headers: &HeaderMap) -> Result<Self, Error> {
        let gzip = headers
            .get_all(header::ACCEPT_ENCODING)
            .iter()
            .filter_map(|v| v.to_str().ok())
            .flat_map(|v| v.split(','))
            .any(|v| v.trim().split(';').next().is_some_and(|name| name.trim() == "gzip"));
        let mut asked = false;
        let mut best: Option<(f32, Form, Encoding)> = None;
        for clause in clauses(headers) {
            asked = true;
            let liking = liking(clause);
            if liking > best.map_or(0.0, |(most, ..)| most)
                && let Some((form, encoding)) = understand(clause)
            {
                best = Some((liking, form, encoding));
            }
        }
        match best {
            Some((_, form, encoding)) => Ok(Self { form, encoding, gzip }),
            None if asked => Err(Error::NotAcceptable("application/json, application/yaml".to_owned())),
            None => Ok(Self { gzip, ..Self::PLAIN }),
        }
    }
}

/// The clauses of all Accept headers, in order.
pub fn clauses(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .map(str::trim)
        .filter(|c| !c.is_empty())
}

/// The value of parameter `name` in a clause such as `application/json;as=Table;v=v1`.
pub fn parameter<'a>(clause: &'a str, name: &str) -> Option<&'a str> {
    clause.split(';').skip(1).filter_map(|p| p.trim().split_once('=')).find(|(k, _)| *k == name).map(|(_, v)| v)
}

/// The weight of a clause (RFC 9110 §12.4.2): 1 unless it says otherwise, 0 for what is not wanted.
fn liking(clause: &str) -> f32 {
    parameter(clause, "q").map_or(1.0, |q| q.trim().parse().ok().filter(|q| (0.0..=1.0).contains(q)).unwrap_or(1.0))
}

fn understand(clause: &str) -> Option<(Form, Encoding)> {
    let media = clause.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    let encoding = match media.as_str() {
        "application/json" | "application/*" | "*/*" => Encoding::Json,
        "application/yaml" => Encoding::Yaml,
        _ => return None,
    };
    let version = match parameter(clause, "v") {
        Some("v1") => "meta.k8s.io/v1",
        Some("v1beta1") => "meta.k8s.io/v1beta1",
        _ => "",
    };
    let form = match (parameter(clause, "as"), parameter(clause, "g")) {
        (None, _) => Form::Object,
        _ if version.is_empty() => return None,
        (Some("Table"), Some("meta.k8s.io")) => Form::Table(version),
        (Some("PartialObjectMetadata" | "PartialObjectMetadataList"), Some("meta.k8s.io")) => Form::Partial(version),
        _ => return None,
    };
    Some((form, encoding))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(text: &str) -> Result<Accept, Error> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, text.parse().unwrap());
        Accept::negotiate(&headers)
    }

    #[test]
    fn kubectl_gets_tables_and_protobuf_clients_fall_back_to_json() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(accept(kubectl).unwrap().form, Form::Table("meta.k8s.io/v1"));
        assert_eq!(accept("application/vnd.kubernetes.protobuf,application/json").unwrap().form, Form::Object);
        assert_eq!(accept("application/json;stream=watch").unwrap().form, Form::Object);
        assert!(matches!(accept("application/vnd.kubernetes.protobuf"), Err(Error::NotAcceptable(_))));
        assert!(matches!(accept("text/html"), Err(Error::NotAcceptable(_))));
        assert_eq!(accept("text/html, */*;q=0.8").unwrap().encoding, Encoding::Json);
        assert_eq!(accept("application/yaml").unwrap().encoding, Encoding::Yaml);
    }

    #[test]
    fn weights_decide_before_order_and_case_does_not_matter() {
        assert_eq!(accept("Application/JSON").unwrap().encoding, Encoding::Json);
        assert_eq!(accept("application/json;q=0.2, application/yaml;q=0.9").unwrap().encoding, Encoding::Yaml);
        assert_eq!(accept("application/json;q=0, application/yaml;q=0.1").unwrap().encoding, Encoding::Yaml);
        assert!(matches!(accept("application/json;q=0"), Err(Error::NotAcceptable(_))));
        assert_eq!(accept("application/json;q=loud").unwrap().encoding, Encoding::Json);
    }
}
