//! JSON whose repeated fields are noticed.
//!
//! Of a field that comes twice the last one counts, which is hardly what its author meant: clients may ask to be warned
//! or refused (`fieldValidation`). Building the value and noticing are one pass.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Repeated fields told of one body; a hostile one has a million.
const MOST: usize = 64;

/// Parses a document; the paths of repeated fields are added to `repeated`.
pub fn parse(bytes: &[u8], repeated: &mut Vec<String>) -> Result<Value, serde_json::Error> {
    let found = RefCell::new(std::mem::take(repeated));
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Noting { at: None, found: &found }.deserialize(&mut reader);
    *repeated = found.into_inner();
    let value = value?;
    reader.end()?;
    Ok(value)
}

/// The way from a value up to the root; lives on the stack of the parse.
struct Step<'p> {
    name: Name<'p>,
    up: Option<&'p Step<'p>>,
}

#[derive(Clone, Copy)]
enum Name<'p> {
    Field(&'p str),
    Item(usize),
}

#[derive(Clone, Copy)]
struct Noting<'p> {
    at: Option<&'p Step<'p>>,
    found: &'p RefCell<Vec<String>>,
}

impl Noting<'_> {
    fn note(&self, field: &str) {
        let mut found = self.found.borrow_mut();
        if found.len() == MOST {
            return;
        }
        let mut names = vec![Name::Field(field)];
        let mut at = self.at;
        while let Some(step) = at {
            names.push(step.name);
            at = step.up;
        }
        let mut path = String::new();
        for name in names.into_iter().rev() {
            match name {
                Name::Field(field) if path.is_empty() => path.push_str(field),
                Name::Field(field) => path.extend([".", field]),
                Name::Item(at) => path.push_str(&format!("[{at}]")),
            }
        }
        if !found.contains(&path) {
            found.push(path);
        }
    }
}

impl<'de> DeserializeSeed<'de> for Noting<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Noting<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            let step = Step { name: Name::Item(list.len()), up: self.at };
            match items.next_element_seed(Noting { at: Some(&step), found: self.found })? {
                Some(item) => list.push(item),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(field) = fields.next_key::<String>()? {
            let step = Step { name: Name::Field(&field), up: self.at };
            let value = fields.next_value_seed(Noting { at: Some(&step), found: self.found })?;
            match map.entry(field) {
                serde_json::map::Entry::Vacant(free) => {
                    free.insert(value);
                }
                serde_json::map::Entry::Occupied(mut taken) => {
                    self.note(taken.key());
                    taken.insert(value);
                }
            }
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn repeated_fields_are_named_and_the_last_one_counts() {
        let text = r#"{"a": 1, "b": [{"c": 1, "c": 2}, {"c": 1, "c": 3, "c": 4}], "a": {"x": null}}"#;
        let mut repeated = Vec::new();
        let value = parse(text.as_bytes(), &mut repeated).unwrap();
        assert_eq!(value, json!({"a": {"x": null}, "b": [{"c": 2}, {"c": 4}]}));
        assert_eq!(repeated, ["b[0].c", "b[1].c", "a"]);
    }

    #[test]
    fn what_follows_the_document_is_an_error() {
        assert!(parse(b"{} {}", &mut Vec::new()).is_err());
        assert!(parse("[".repeat(100_000).as_bytes(), &mut Vec::new()).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

        #[test]
        fn it_reads_what_serde_reads(text in r#"[\[\]{}",:0-9a-cenrtu\\ .-]{0,40}"#) {
            let ours = parse(text.as_bytes(), &mut Vec::new());
            let theirs = serde_json::from_str::<Value>(&text);
            prop_assert_eq!(ours.ok(), theirs.ok());
        }
    }
}
