//! Stored objects as requests see them.
//!
//! An object is parsed once per stored state, in the slot its store entry carries, and serialised at most once more:
//! reads and watches of the storage version then copy bytes. What is stored has no `resourceVersion`: that is etcd's
//! revision, and is put in here.
//!
//! `metadata.managedFields` is kept beside the document, as the bytes it is stored in: it is as large as a small object
//! and as deep as its document, and nobody but a write looks into it.

use std::cell::Cell;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use store::{Entry, Event, Revision};

use crate::error::Error;
use crate::schema::managed::Managed;

/// One state of one object, with its `resourceVersion`.
#[derive(Debug)]
pub struct Object {
    /// The document, without `managedFields`.
    pub value: Value,
    /// `metadata.managedFields` as JSON; empty when there are none.
    pub managed: Bytes,
    raw: OnceLock<Bytes>,
}

impl Object {
    /// Gives a document its revision.
    #[must_use]
    pub fn new(mut value: Value, managed: Bytes, revision: Revision) -> Self {
        if let Some(metadata) = metadata_mut(&mut value) {
            metadata.insert("resourceVersion".to_owned(), Value::String(revision.to_string()));
        }
        Self { value, managed, raw: OnceLock::new() }
    }

    /// The state that was stored at `revision` as `text`.
    #[must_use]
    pub fn stored(value: Value, managed: Bytes, text: &Text, revision: Revision) -> Self {
        let object = Self::new(value, managed, revision);
        if let Some(raw) = text.at(revision) {
            // It has just been made, and has none.
            let _ = object.raw.set(raw);
        }
        object
    }

    /// The same state in another version.
    #[must_use]
    pub fn converted(value: Value, managed: Bytes) -> Self {
        Self { value, managed, raw: OnceLock::new() }
    }

    /// Who owns which fields; what cannot be read is nobody's.
    #[must_use]
    pub fn managed(&self) -> Managed {
        Managed::read(&self.managed).unwrap_or_default()
    }

    /// The document with its `managedFields`.
    #[must_use]
    pub fn whole(&self) -> Value {
        let mut value = self.value.clone();
        if let Ok(managed) = serde_json::from_slice(&self.managed) {
            set_meta(&mut value, "managedFields", Some(managed));
        }
        value
    }

    /// The object an entry holds.
    pub fn of(entry: &Entry) -> Result<Arc<Self>, Error> {
        entry.decoded(|bytes| parse(&entry.key, bytes, entry.mod_revision))
    }

    /// The last state of a deleted object, at the revision of the deletion.
    pub fn of_deletion(event: &Event) -> Result<Arc<Self>, Error> {
        let bytes = event.previous.as_ref().map(|previous| previous.value.clone()).unwrap_or_default();
        event.entry.decoded(|_| parse(&event.entry.key, &bytes, event.entry.mod_revision))
    }

    /// The document as JSON.
    #[must_use]
    pub fn raw(&self) -> Bytes {
        self.raw.get_or_init(|| write(&self.value, &self.managed)).clone()
    }
}

/// Reads what is stored at a key.
pub fn parse(key: &str, bytes: &Bytes, revision: Revision) -> Result<Object, Error> {
    let mut managed = Bytes::new();
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Part { bytes, managed: &mut managed, metadata: false }
        .deserialize(&mut reader)
        .and_then(|value| reader.end().map(|()| value))
        .map_err(|error| Error::Internal(format!("the object stored at {key} cannot be read: {error}")))?;
    Ok(Object::new(Value::Object(value), managed, revision))
}

/// Reads an object, or its metadata, with `managedFields` left as it is written.
struct Part<'a> {
    bytes: &'a Bytes,
    managed: &'a mut Bytes,
    metadata: bool,
}

impl<'de> DeserializeSeed<'de> for Part<'_> {
    type Value = Map<String, Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Part<'_> {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if self.metadata && key == "managedFields" {
                let raw: &RawValue = map.next_value()?;
                *self.managed = self.bytes.slice_ref(raw.get().as_bytes());
                continue;
            }
            let value = if !self.metadata && key == "metadata" {
                Value::Object(map.next_value_seed(Part { metadata: true, bytes: self.bytes, managed: self.managed })?)
            } else {
                map.next_value()?
            };
            found.insert(key, value);
        }
        Ok(found)
    }
}

/// A document as JSON, with its `managedFields` put in as they are.
#[must_use]
pub fn write(value: &Value, managed: &[u8]) -> Bytes {
    Bytes::from(render(value, managed).0)
}

/// A document as it is stored: without its `resourceVersion`, which is known only when it has been.
#[derive(Debug, Clone)]
pub struct Text {
    /// The bytes to store.
    pub bytes: Bytes,
    /// Where the fields of `metadata` begin, when there are some.
    inside: Option<usize>,
}

impl Text {
    /// The text of a document that has no `resourceVersion`.
    #[must_use]
    pub fn new(value: &Value, managed: &[u8]) -> Self {
        let (bytes, inside) = render(value, managed);
        Self { bytes: Bytes::from(bytes), inside }
    }

    /// The answer that tells of the stored document: the same bytes and its revision.
    fn at(&self, revision: Revision) -> Option<Bytes> {
        let (before, after) = self.bytes.split_at_checked(self.inside?)?;
        Some(Bytes::from([before, format!("\"resourceVersion\":\"{revision}\",").as_bytes(), after].concat()))
    }
}

/// A document as JSON, and where the fields of its `metadata` begin.
fn render(value: &Value, managed: &[u8]) -> (Vec<u8>, Option<usize>) {
    let mut out = Vec::with_capacity(2048 + managed.len());
    let inside = Cell::new(None);
    match value {
        Value::Object(map) => write_map(map, &mut out, |key, value, out| match (key, value) {
            ("metadata", Value::Object(metadata)) => {
                inside.set((!metadata.is_empty()).then_some(out.len() + 1));
                write_map(metadata, out, |_, value, out| write_value(value, out));
                if managed.is_empty() {
                    return;
                }
                // Before the brace that has just closed the metadata.
                out.pop();
                out.extend_from_slice(if metadata.is_empty() { b"\"managedFields\":" } else { b",\"managedFields\":" });
                out.extend_from_slice(managed);
                out.push(b'}');
            }
            _ => write_value(value, out),
        }),
        _ => write_value(value, &mut out),
    }
    // It is kept as long as the object is.
    out.shrink_to_fit();
    (out, inside.get())
}

fn write_map(map: &Map<String, Value>, out: &mut Vec<u8>, each: impl Fn(&str, &Value, &mut Vec<u8>)) {
    out.push(b'{');
    for (at, (key, value)) in map.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        // Writing a text to memory cannot fail.
        let _ = serde_json::to_writer(&mut *out, key);
        out.push(b':');
        each(key, value, out);
    }
    out.push(b'}');
}

fn write_value(value: &Value, out: &mut Vec<u8>) {
    // Writing a value to memory cannot fail.
    let _ = serde_json::to_writer(out, value);
}

/// An object in the version a request asked for.
#[derive(Debug, Clone)]
pub enum View {
    /// As stored; its bytes are shared.
    Shared(Arc<Object>),
    /// Converted for this request.
    Own(Arc<Object>),
}

impl View {
    /// The object.
    #[must_use]
    pub fn object(&self) -> &Arc<Object> {
        match self {
            Self::Shared(object) | Self::Own(object) => object,
        }
    }

    /// The document, without `managedFields`.
    #[must_use]
    pub fn value(&self) -> &Value {
        &self.object().value
    }

    /// The document as JSON.
    #[must_use]
    pub fn raw(&self) -> Bytes {
        self.object().raw()
    }

    /// The document, owned.
    #[must_use]
    pub fn into_value(self) -> Value {
        self.value().clone()
    }
}

/// `metadata`, made when it is missing; `None` only when the document is no object.
pub fn metadata_mut(value: &mut Value) -> Option<&mut Map<String, Value>> {
    let metadata = value.as_object_mut()?.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    if !metadata.is_object() {
        *metadata = Value::Object(Map::new());
    }
    metadata.as_object_mut()
}

/// A string in `metadata`; empty when absent.
#[must_use]
pub fn meta<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get("metadata").and_then(|m| m.get(field)).and_then(Value::as_str).unwrap_or("")
}

/// `metadata.finalizers`.
pub fn finalizers(value: &Value) -> impl Iterator<Item = &str> {
    value["metadata"]["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// Sets or, with `None`, removes a field of `metadata`.
pub fn set_meta(value: &mut Value, field: &str, to: Option<Value>) {
    let Some(metadata) = metadata_mut(value) else { return };
    match to {
        Some(to) => {
            metadata.insert(field.to_owned(), to);
        }
        None => {
            metadata.remove(field);
        }
    }
}

/// Replaces `metadata.finalizers`; an empty list is no field.
pub fn set_finalizers(value: &mut Value, finalizers: &[String]) {
    let to = (!finalizers.is_empty()).then(|| finalizers.iter().cloned().map(Value::String).collect());
    set_meta(value, "finalizers", to);
}

/// Whether the object is being deleted.
#[must_use]
pub fn is_deleting(value: &Value) -> bool {
    !meta(value, "deletionTimestamp").is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn managed_fields_are_carried_as_they_are_written() {
        let text = r#"{"kind":"A","metadata":{"managedFields":[{"manager":"m", "x":1}],"name":"n"},"spec":{}}"#;
        let object = parse("k", &Bytes::from(text), Revision::ZERO).unwrap();
        assert_eq!(&object.managed[..], br#"[{"manager":"m", "x":1}]"#);
        assert_eq!(object.value["metadata"].get("managedFields"), None);
        let mut value = object.value.clone();
        set_meta(&mut value, "resourceVersion", None);
        let written: Value = serde_json::from_slice(&write(&value, &object.managed)).unwrap();
        assert_eq!(written, serde_json::from_str::<Value>(text).unwrap());
        assert_eq!(object.whole()["metadata"]["managedFields"][0]["manager"], "m");
        let text = Text::new(&value, &object.managed);
        let stored = Object::stored(value, object.managed.clone(), &text, Revision::new(7));
        let (told, rendered): (Value, Value) = (
            serde_json::from_slice(&stored.raw()).unwrap(),
            serde_json::from_slice(&write(&stored.value, &stored.managed)).unwrap(),
        );
        assert_eq!((&told, &told["metadata"]["resourceVersion"]), (&rendered, &Value::from("7")));
        for odd in [serde_json::json!({"a": {"metadata": {"b": 1}}, "metadata": {}}), serde_json::json!({"kind": "A"})]
        {
            let text = Text::new(&odd, b"");
            let raw = Object::stored(odd.clone(), Bytes::new(), &text, Revision::new(7)).raw();
            let told: Value = serde_json::from_slice(&raw).unwrap();
            assert_eq!((&told["a"], &told["metadata"]["resourceVersion"]), (&odd["a"], &Value::from("7")));
        }
        assert!(parse("k", &Bytes::from("[]"), Revision::ZERO).is_err());
        assert!(parse("k", &Bytes::from("{} x"), Revision::ZERO).is_err());
    }
}
