//! Protobuf bodies of built-in kinds, which is how kubectl's own commands and typed Go clients write.
//!
//! A body becomes the JSON document it stands for, by a table of its kind's fields ([`kinds`]); from there on it is a
//! body like any other. The answer is always JSON, which every client that sends protobuf accepts too. Custom resources
//! have no message, in Kubernetes neither.

mod kinds;
mod message;
mod wire;

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::error::Error;

/// What every protobuf body of Kubernetes begins with.
const MAGIC: &[u8] = b"k8s\0";
/// The media type of such bodies.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// The frame around every body: what it is, and the message itself.
#[derive(Debug, Default)]
struct Envelope<'a> {
    api_version: String,
    kind: String,
    raw: &'a [u8],
}

/// Reads a protobuf body as the JSON document it stands for.
pub fn decode(bytes: &Bytes) -> Result<Value, Error> {
    let body = bytes.strip_prefix(MAGIC).ok_or_else(|| malformed("the body does not begin as protobuf bodies do"))?;
    let Envelope { api_version, kind, raw } = open(body).map_err(|error| malformed(&error.to_string()))?;
    let Some(fields) = kinds::of(&api_version, &kind) else {
        return Err(Error::UnsupportedMediaType(format!(
            "the body of the request was in an unknown format - {api_version} {kind} is read as application/json or \
             application/yaml, not as {MEDIA_TYPE}"
        )));
    };
    let mut document = message::object(fields, raw, Map::new()).map_err(|error| malformed(&error.to_string()))?;
    document.insert("apiVersion".to_owned(), api_version.into());
    document.insert("kind".to_owned(), kind.into());
    Ok(document.into())
}

fn open(body: &[u8]) -> Result<Envelope<'_>, wire::Malformed> {
    let mut envelope = Envelope::default();
    let mut reader = wire::Reader(body);
    while let Some((tag, payload)) = reader.next()? {
        match (tag, payload) {
            (1, wire::Payload::Bytes(bytes)) => {
                let fields = [message::text(1, "apiVersion"), message::text(2, "kind")];
                let found = message::object(&fields, bytes, Map::new())?;
                let text = |name: &str| found.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
                (envelope.api_version, envelope.kind) = (text("apiVersion"), text("kind"));
            }
            (2, wire::Payload::Bytes(bytes)) => envelope.raw = bytes,
            _ => {}
        }
    }
    Ok(envelope)
}

fn malformed(why: &str) -> Error {
    Error::BadRequest(format!("the protobuf body cannot be read: {why}"))
}

#[cfg(test)]
mod tests;
