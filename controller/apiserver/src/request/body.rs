//! Reading bodies: bounded in size, time and depth, JSON or YAML.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::{BodyExt, Limited};
use serde_json::Value;

use crate::error::Error;

/// The official server's limit on request bodies.
pub const LIMIT: usize = 3 * 1024 * 1024;
/// A body must be there within this time, however slowly it drips.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// serde_json stops at 128 levels; what is stored must stay readable inside a list or a watch event.
pub const MAX_DEPTH: usize = 100;

/// Reads a whole body.
pub async fn read(body: Body) -> Result<Bytes, Error> {
    read_within(body, READ_TIMEOUT).await
}

async fn read_within(body: Body, within: Duration) -> Result<Bytes, Error> {
    let collected = tokio::time::timeout(within, Limited::new(body, LIMIT).collect());
    match collected.await {
        Err(_) => Err(Error::Timeout("the request body did not arrive in time".to_owned())),
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            Err(Error::TooLarge(format!("Request entity too large: limit is {LIMIT}")))
        }
        Ok(Err(_)) => Err(Error::BadRequest("the request body could not be read".to_owned())),
    }
}

/// The media type of the body, without parameters.
#[must_use]
pub fn media_type(headers: &HeaderMap) -> &str {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .map_or("", |v| v.split(';').next().unwrap_or("").trim())
}

/// Decodes an object's body by its media type.
pub fn decode(headers: &HeaderMap, bytes: &Bytes) -> Result<Value, Error> {
    decode_noting(headers, bytes, &mut Vec::new())
}

/// Decodes an object's body, and notes the paths of fields that come twice, of which the last one counts.
pub fn decode_noting(headers: &HeaderMap, bytes: &Bytes, repeated: &mut Vec<String>) -> Result<Value, Error> {
    let value = match media_type(headers) {
        "" | "application/json" => json_noting(bytes, repeated)?,
        // A YAML mapping with a key twice is no YAML: the parser refuses it.
        "application/yaml" => yaml(bytes)?,
        super::protobuf::MEDIA_TYPE => super::protobuf::decode(bytes)?,
        other => {
            return Err(Error::UnsupportedMediaType(format!(
                "the body of the request was in an unknown format ({other}) - accepted media types include: \
                 application/json, application/yaml"
            )));
        }
    };
    check_depth(&value)?;
    Ok(value)
}

/// Parses JSON.
pub fn json(bytes: &Bytes) -> Result<Value, Error> {
    json_noting(bytes, &mut Vec::new())
}

/// Parses JSON, and notes the paths of fields that come twice.
pub fn json_noting(bytes: &Bytes, repeated: &mut Vec<String>) -> Result<Value, Error> {
    super::json::parse(bytes, repeated)
        .map_err(|error| Error::BadRequest(format!("couldn't get version/kind; json parse error: {error}")))
}

/// Parses one YAML document; aliases and depth are bounded by the parser's own budget.
pub fn yaml(bytes: &Bytes) -> Result<Value, Error> {
    let text = std::str::from_utf8(bytes).map_err(|_| Error::BadRequest("yaml: the body is not UTF-8".to_owned()))?;
    serde_saphyr::from_str(text).map_err(|error| {
        let told = error.render_with_formatter(&serde_saphyr::UserMessageFormatter);
        Error::BadRequest(format!("yaml: {told}"))
    })
}

/// Refuses values nested so deep that they could not be read back.
pub fn check_depth(value: &Value) -> Result<(), Error> {
    let mut level: Vec<&Value> = vec![value];
    for _ in 0..MAX_DEPTH {
        let mut next = Vec::new();
        for value in level {
            match value {
                Value::Array(items) => next.extend(items.iter().filter(|v| v.is_array() || v.is_object())),
                Value::Object(map) => next.extend(map.values().filter(|v| v.is_array() || v.is_object())),
                _ => {}
            }
        }
        if next.is_empty() {
            return Ok(());
        }
        level = next;
    }
    Err(Error::BadRequest(format!("the object is nested deeper than {MAX_DEPTH} levels")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deep_bodies_are_refused_not_crashed_on() {
        let deep = |n: usize| Bytes::from(format!("{}1{}", "[".repeat(n), "]".repeat(n)));
        assert!(json(&deep(100_000)).is_err());
        assert!(check_depth(&json(&deep(120)).unwrap()).is_err());
        assert!(check_depth(&json(&deep(90)).unwrap()).is_ok());
        let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
                    d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\n\
                    f: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: [*f,*f,*f,*f,*f,*f,*f,*f,*f]\n";
        assert!(yaml(&Bytes::from(bomb)).is_err());
    }

    #[test]
    fn a_yaml_key_that_comes_twice_is_refused_with_its_place() {
        let text = "kind: ConfigMap\nmetadata:\n  name: a\ndata:\n  colour: red\n  size: big\n  colour: blue\n";
        let told = yaml(&Bytes::from(text)).unwrap_err().to_string();
        assert!(told.starts_with("yaml: error: line 7 column 3: duplicate mapping key `colour`"), "{told}");
    }

    #[tokio::test]
    async fn bodies_over_the_limit_are_413() {
        let error = read(Body::from(vec![b' '; LIMIT + 1])).await.unwrap_err();
        assert_eq!(error.code(), 413);
    }

    #[tokio::test]
    async fn a_body_that_drips_is_given_up() {
        let drops = futures::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            Some((Ok::<_, std::io::Error>(Bytes::from_static(b" ")), ()))
        });
        let error = read_within(Body::from_stream(drops), Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(error.code(), 504);
    }
}
