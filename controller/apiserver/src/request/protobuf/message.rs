//! From a message's bytes to the JSON object it stands for, by the message's table.
//!
//! Go writes every field that is no pointer, empty or not, and its JSON leaves empty ones out. So an empty value of such
//! a field means nothing here; of a pointer (`set()` in the tables) it is a value like any other.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::wire::{Malformed, Payload, Reader};

/// The fields of a message.
pub type Fields = &'static [Field];

/// One field of a message.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    tag: u64,
    name: &'static str,
    shape: Shape,
    /// Comes any number of times and becomes a list.
    many: bool,
    /// Stays although it is empty.
    kept: bool,
}

/// What a field's payload is.
#[derive(Debug, Clone, Copy)]
enum Shape {
    Text,
    Bytes,
    Flag,
    Number,
    Time {
        fraction: bool,
    },
    Message(Fields),
    /// A message that is nothing but a list of texts.
    Texts,
    /// A message that is nothing but JSON in bytes.
    Json,
    TextMap,
    BytesMap,
    TextsMap,
}

const fn field(tag: u64, name: &'static str, shape: Shape) -> Field {
    Field { tag, name, shape, many: false, kept: false }
}

/// A text.
pub const fn text(tag: u64, name: &'static str) -> Field {
    field(tag, name, Shape::Text)
}

/// A list of texts.
pub const fn texts(tag: u64, name: &'static str) -> Field {
    Field { many: true, ..field(tag, name, Shape::Text) }
}

/// A truth value.
pub const fn flag(tag: u64, name: &'static str) -> Field {
    field(tag, name, Shape::Flag)
}

/// An integer.
pub const fn number(tag: u64, name: &'static str) -> Field {
    field(tag, name, Shape::Number)
}

/// A moment in whole seconds.
pub const fn time(tag: u64, name: &'static str) -> Field {
    field(tag, name, Shape::Time { fraction: false })
}

/// A moment with microseconds.
pub const fn micro_time(tag: u64, name: &'static str) -> Field {
    field(tag, name, Shape::Time { fraction: true })
}

/// A message.
pub const fn message(tag: u64, name: &'static str, fields: Fields) -> Field {
    field(tag, name, Shape::Message(fields))
}

/// A list of messages.
pub const fn messages(tag: u64, name: &'static str, fields: Fields) -> Field {
    Field { many: true, ..message(tag, name, fields) }
}

/// JSON in a message of its own.
pub const fn json(tag: u64, name: &'static str) -> Field {
    field(tag, name, Shape::Json)
}

/// A map of texts.
pub const fn text_map(tag: u64, name: &'static str) -> Field {
    field(tag, name, Shape::TextMap)
}

/// A map of bytes, which JSON carries in base64.
pub const fn bytes_map(tag: u64, name: &'static str) -> Field {
    field(tag, name, Shape::BytesMap)
}

/// A map of lists of texts.
pub const fn texts_map(tag: u64, name: &'static str) -> Field {
    field(tag, name, Shape::TextsMap)
}

impl Field {
    /// Its absence says something: an empty value is kept.
    pub const fn set(mut self) -> Self {
        self.kept = true;
        self
    }

    /// Puts one occurrence of the field into the object.
    fn read(&self, payload: Payload<'_>, object: &mut Map<String, Value>) -> Result<(), Malformed> {
        match self.shape {
            Shape::TextMap => return self.entry(payload, &Shape::Text, object),
            Shape::BytesMap => return self.entry(payload, &Shape::Bytes, object),
            Shape::TextsMap => return self.entry(payload, &Shape::Texts, object),
            _ => {}
        }
        if self.many {
            let item = self.value(&self.shape, payload, Map::new())?;
            let list = object.entry(self.name).or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(list) = list {
                list.push(item);
            }
            return Ok(());
        }
        // A message that comes in pieces is one message.
        let before = match object.remove(self.name) {
            Some(Value::Object(map)) => map,
            _ => Map::new(),
        };
        let value = self.value(&self.shape, payload, before)?;
        if self.kept || !is_empty(&value) {
            object.insert(self.name.to_owned(), value);
        }
        Ok(())
    }

    fn value(&self, shape: &Shape, payload: Payload<'_>, before: Map<String, Value>) -> Result<Value, Malformed> {
        Ok(match (shape, payload) {
            (Shape::Flag, Payload::Number(number)) => Value::Bool(number != 0),
            (Shape::Number, Payload::Number(number)) => number.cast_signed().into(),
            (Shape::Text, Payload::Bytes(bytes)) => self.utf8(bytes)?.into(),
            (Shape::Bytes, Payload::Bytes(bytes)) => STANDARD.encode(bytes).into(),
            (Shape::Message(fields), Payload::Bytes(bytes)) => Value::Object(object(fields, bytes, before)?),
            (Shape::Time { fraction }, Payload::Bytes(bytes)) => self.moment(bytes, *fraction)?,
            (Shape::Texts, Payload::Bytes(bytes)) => {
                object(&[texts(1, "items")], bytes, Map::new())?.remove("items").unwrap_or_else(|| Value::Array(vec![]))
            }
            (Shape::Json, Payload::Bytes(bytes)) => {
                let mut found = object(&[field(1, "raw", Shape::Text)], bytes, Map::new())?;
                let text = found.remove("raw").unwrap_or_default();
                serde_json::from_str(text.as_str().unwrap_or("null")).map_err(|_| Malformed::Type(self.name))?
            }
            _ => return Err(Malformed::Type(self.name)),
        })
    }

    /// Map entries are messages of key and value; the last of one key counts.
    fn entry(&self, payload: Payload<'_>, shape: &Shape, object: &mut Map<String, Value>) -> Result<(), Malformed> {
        let Payload::Bytes(bytes) = payload else { return Err(Malformed::Type(self.name)) };
        let mut reader = Reader(bytes);
        let (mut key, mut value) = (String::new(), self.value(shape, Payload::Bytes(&[]), Map::new())?);
        while let Some((tag, payload)) = reader.next()? {
            match (tag, payload) {
                (1, Payload::Bytes(bytes)) => key = self.utf8(bytes)?.to_owned(),
                (2, payload) => value = self.value(shape, payload, Map::new())?,
                _ => {}
            }
        }
        let map = object.entry(self.name).or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(map) = map {
            map.insert(key, value);
        }
        Ok(())
    }

    fn utf8<'a>(&self, bytes: &'a [u8]) -> Result<&'a str, Malformed> {
        std::str::from_utf8(bytes).map_err(|_| Malformed::Text(self.name))
    }

    /// No bytes at all are how Go writes the moment that was never set.
    fn moment(&self, bytes: &[u8], fraction: bool) -> Result<Value, Malformed> {
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        let found = object(&[number(1, "seconds").set(), number(2, "nanos").set()], bytes, Map::new())?;
        let of = |part: &str| found.get(part).and_then(Value::as_i64).unwrap_or(0);
        let invalid = Malformed::Time(self.name);
        let nanos = i32::try_from(of("nanos")).map_err(|_| invalid)?;
        let moment = jiff::Timestamp::new(of("seconds"), nanos).map_err(|_| invalid)?;
        Ok(if fraction { format!("{moment:.6}") } else { format!("{moment:.0}") }.into())
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

/// Reads a message into `object`. Fields the table does not have are passed over, as Go passes over what it does not
/// know.
pub fn object(fields: &[Field], bytes: &[u8], mut object: Map<String, Value>) -> Result<Map<String, Value>, Malformed> {
    let mut reader = Reader(bytes);
    while let Some((tag, payload)) = reader.next()? {
        if let Some(field) = fields.iter().find(|field| field.tag == tag) {
            field.read(payload, &mut object)?;
        }
    }
    Ok(object)
}
