//! Protobuf bodies of built-in kinds.
//!
//! `kubectl create namespace|configmap|secret|serviceaccount` writes nothing else. Only the fields a client sets are
//! read; the answer is always JSON, which every client that sends protobuf accepts too. Message layouts are those of
//! Kubernetes' `generated.proto` files.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use prost::Message;
use serde_json::{Map, Value, json};

use crate::error::Error;

/// What every protobuf body of Kubernetes begins with.
const MAGIC: &[u8] = b"k8s\0";

#[derive(Message)]
struct Envelope {
    #[prost(message, tag = 1)]
    kind: Option<TypeMeta>,
    #[prost(bytes = "bytes", tag = 2)]
    raw: Bytes,
}

#[derive(Message)]
struct TypeMeta {
    #[prost(string, tag = 1)]
    api_version: String,
    #[prost(string, tag = 2)]
    kind: String,
}

#[derive(Message)]
struct ObjectMeta {
    #[prost(string, tag = 1)]
    name: String,
    #[prost(string, tag = 2)]
    generate_name: String,
    #[prost(string, tag = 3)]
    namespace: String,
    #[prost(string, tag = 5)]
    uid: String,
    #[prost(string, tag = 6)]
    resource_version: String,
    #[prost(map = "string, string", tag = 11)]
    labels: HashMap<String, String>,
    #[prost(map = "string, string", tag = 12)]
    annotations: HashMap<String, String>,
    #[prost(string, repeated, tag = 14)]
    finalizers: Vec<String>,
}

/// Namespace and ServiceAccount: nothing but metadata matters on a write.
#[derive(Message)]
struct Named {
    #[prost(message, tag = 1)]
    metadata: Option<ObjectMeta>,
}

#[derive(Message)]
struct ConfigMap {
    #[prost(message, tag = 1)]
    metadata: Option<ObjectMeta>,
    #[prost(map = "string, string", tag = 2)]
    data: HashMap<String, String>,
    #[prost(map = "string, bytes", tag = 3)]
    binary_data: HashMap<String, Vec<u8>>,
    #[prost(bool, optional, tag = 4)]
    immutable: Option<bool>,
}

#[derive(Message)]
struct Secret {
    #[prost(message, tag = 1)]
    metadata: Option<ObjectMeta>,
    #[prost(map = "string, bytes", tag = 2)]
    data: HashMap<String, Vec<u8>>,
    #[prost(string, tag = 3)]
    kind: String,
    #[prost(map = "string, string", tag = 4)]
    string_data: HashMap<String, String>,
    #[prost(bool, optional, tag = 5)]
    immutable: Option<bool>,
}

/// Reads a protobuf body as the JSON document it stands for.
pub fn decode(bytes: &Bytes) -> Result<Value, Error> {
    let body = bytes.strip_prefix(MAGIC).ok_or_else(|| malformed("the body does not begin as protobuf bodies do"))?;
    let envelope = Envelope::decode(body).map_err(|error| malformed(&error.to_string()))?;
    let kind = envelope.kind.unwrap_or_default();
    let mut document = match (kind.api_version.as_str(), kind.kind.as_str()) {
        ("v1", "Namespace" | "ServiceAccount") => metadata(read::<Named>(&envelope.raw)?.metadata),
        ("v1", "ConfigMap") => config_map(read(&envelope.raw)?),
        ("v1", "Secret") => secret(read(&envelope.raw)?),
        (api_version, kind) => {
            return Err(Error::UnsupportedMediaType(format!(
                "the body of the request was in an unknown format - {api_version} {kind} is read as application/json \
                 or application/yaml, not as application/vnd.kubernetes.protobuf"
            )));
        }
    };
    document["apiVersion"] = json!(kind.api_version);
    document["kind"] = json!(kind.kind);
    Ok(document)
}

fn read<M: Message + Default>(raw: &Bytes) -> Result<M, Error> {
    M::decode(raw.clone()).map_err(|error| malformed(&error.to_string()))
}

fn malformed(why: &str) -> Error {
    Error::BadRequest(format!("the protobuf body cannot be read: {why}"))
}

fn metadata(from: Option<ObjectMeta>) -> Value {
    let from = from.unwrap_or_default();
    let mut metadata = Map::new();
    for (field, text) in [
        ("name", from.name),
        ("generateName", from.generate_name),
        ("namespace", from.namespace),
        ("uid", from.uid),
        ("resourceVersion", from.resource_version),
    ] {
        if !text.is_empty() {
            metadata.insert(field.to_owned(), Value::String(text));
        }
    }
    for (field, map) in [("labels", from.labels), ("annotations", from.annotations)] {
        if !map.is_empty() {
            metadata.insert(field.to_owned(), json!(map));
        }
    }
    if !from.finalizers.is_empty() {
        metadata.insert("finalizers".to_owned(), json!(from.finalizers));
    }
    json!({"metadata": metadata})
}

fn config_map(from: ConfigMap) -> Value {
    let mut document = metadata(from.metadata);
    set_map(&mut document, "data", json!(from.data));
    set_map(&mut document, "binaryData", encoded(from.binary_data));
    if let Some(immutable) = from.immutable {
        document["immutable"] = json!(immutable);
    }
    document
}

fn secret(from: Secret) -> Value {
    let mut document = metadata(from.metadata);
    set_map(&mut document, "data", encoded(from.data));
    set_map(&mut document, "stringData", json!(from.string_data));
    if !from.kind.is_empty() {
        document["type"] = json!(from.kind);
    }
    if let Some(immutable) = from.immutable {
        document["immutable"] = json!(immutable);
    }
    document
}

fn set_map(document: &mut Value, field: &str, map: Value) {
    if map.as_object().is_some_and(|map| !map.is_empty()) {
        document[field] = map;
    }
}

fn encoded(map: HashMap<String, Vec<u8>>) -> Value {
    map.into_iter().map(|(key, bytes)| (key, Value::String(STANDARD.encode(bytes)))).collect::<Map<_, _>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(kind: &str, object: &impl Message) -> Bytes {
        let kind = TypeMeta { api_version: "v1".into(), kind: kind.into() };
        let envelope = Envelope { kind: Some(kind), raw: object.encode_to_vec().into() };
        [MAGIC, &envelope.encode_to_vec()].concat().into()
    }

    #[test]
    fn a_secret_is_read_as_its_json() {
        let secret = Secret {
            metadata: Some(ObjectMeta { name: "s".into(), ..ObjectMeta::default() }),
            data: HashMap::from([("k".to_owned(), b"v".to_vec())]),
            kind: "Opaque".into(),
            ..Secret::default()
        };
        assert_eq!(
            decode(&body("Secret", &secret)).unwrap(),
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"k": "dg=="}, "type": "Opaque"})
        );
    }

    #[test]
    fn what_is_not_ours_is_refused() {
        assert_eq!(decode(&Bytes::from_static(b"k8s\0\xff\xff")).unwrap_err().code(), 400);
        assert_eq!(decode(&Bytes::from_static(b"nonsense")).unwrap_err().code(), 400);
        assert_eq!(decode(&body("Pod", &Named { metadata: None })).unwrap_err().code(), 415);
    }
}
