//! Stored bytes as answers: a long list need not be parsed to be told.
//!
//! What is stored is the document without its `resourceVersion`. Where it is stored in the version that was asked for, the
//! answer is the same bytes with that one field put in.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use store::Entry;

use crate::error::Error;
use crate::object::Object;
use crate::registry::Resource;

/// The field, as it is written.
const VERSION: &str = "\"resourceVersion\"";

/// A stored document, as far as it matters here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head<'a> {
    #[serde(borrow)]
    api_version: Cow<'a, str>,
    #[serde(borrow)]
    metadata: &'a RawValue,
}

/// Adds what an entry holds to `out`, as JSON in the version that `api_version` names and `resource` has.
pub(crate) fn append(entry: &Entry, resource: &Resource, api_version: &str, out: &mut Vec<u8>) -> Result<(), Error> {
    let put_in = Head::read(&entry.value)
        .filter(|head| head.api_version == api_version)
        .is_some_and(|head| put_in(&entry.value, head.metadata.get(), &entry.mod_revision.to_string(), out));
    if !put_in {
        out.extend_from_slice(&resource.view(&Object::of(entry)?).raw());
    }
    Ok(())
}

impl<'a> Head<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

/// Adds `bytes` to `out` with a version more in `metadata`, which is a part of them; `false`, with nothing added, when that
/// cannot be done without reading it.
fn put_in(bytes: &[u8], metadata: &str, version: &str, out: &mut Vec<u8>) -> bool {
    let Some(inside) = metadata.strip_prefix('{').filter(|inside| !inside.contains(VERSION)) else { return false };
    let at = inside.as_ptr() as usize - bytes.as_ptr() as usize;
    out.extend_from_slice(&bytes[..at]);
    out.extend_from_slice(VERSION.as_bytes());
    out.extend_from_slice(b":\"");
    out.extend_from_slice(version.as_bytes());
    out.extend_from_slice(if inside.trim_start().starts_with('}') { b"\"" } else { b"\"," });
    out.extend_from_slice(&bytes[at..]);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_version(text: &str) -> Option<String> {
        let head = Head::read(text.as_bytes())?;
        let mut out = b"before ".to_vec();
        let done = put_in(text.as_bytes(), head.metadata.get(), "7", &mut out);
        let text = String::from_utf8(out).unwrap();
        let added = text.strip_prefix("before ").unwrap();
        assert_eq!(done, !added.is_empty(), "all or nothing");
        done.then(|| added.to_owned())
    }

    #[test]
    fn a_version_is_put_into_the_metadata() {
        let found = with_version(r#"{"apiVersion":"v1","kind":"A","metadata":{"name":"a"},"spec":{"x":[1]}}"#);
        let wanted = r#"{"apiVersion":"v1","kind":"A","metadata":{"resourceVersion":"7","name":"a"},"spec":{"x":[1]}}"#;
        assert_eq!(found.as_deref(), Some(wanted));
        let found = with_version(r#"{ "metadata" : { } , "apiVersion":"v1" }"#);
        assert_eq!(found.as_deref(), Some(r#"{ "metadata" : {"resourceVersion":"7" } , "apiVersion":"v1" }"#));
    }

    #[test]
    fn what_is_not_as_ours_is_left_to_those_who_read_it() {
        let two = r#"{"apiVersion":"v1","metadata":{"resourceVersion":"3","name":"a"}}"#;
        assert_eq!(with_version(two), None, "there would be two");
        for odd in [r#"{"apiVersion":"v1","metadata":null}"#, r#"{"apiVersion":"v1"}"#, "[]", "{"] {
            assert_eq!(with_version(odd), None, "{odd}");
        }
    }
}
