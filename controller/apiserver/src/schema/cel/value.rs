//! JSON lent to the interpreter.
//!
//! A rule mostly touches a few fields of a large object, so nothing is converted ahead: a map or list wraps a reference
//! and makes a child only when it is asked for one. Where the interpreter insists on its own containers (iteration,
//! equality with literals, `+`), one level is unfolded, once, and its children stay references.
//!
//! The schema decides types that JSON cannot tell apart: a `number` is a double even when written `3`, a `date-time` is a
//! timestamp, `byte` is bytes. Property names that are no CEL identifiers are reachable by Kubernetes' escapes
//! (`__dash__`, `__dot__`, …).

use std::collections::HashMap;
use std::sync::OnceLock;

use ::cel::ExecutionError;
use ::cel::common::traits::{Adder, Container, Indexer, Iterable, Iterator as CelIterator, Sizer, Zeroer};
use ::cel::common::types::{
    CelBool, CelBytes, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelUInt, Type,
};
use ::cel::common::value::{BuiltinRef, CowVal, Val};
use serde_json::{Map, Value};

use super::super::structural::{Format, Kind, Node};
use super::words::unescape;
use super::{ENV, meter};

/// A JSON value as a CEL value; `node` is its schema where known.
pub(super) fn lend<'v>(value: &'v Value, node: Option<&'v Node>) -> Box<dyn Val + 'v> {
    let kind = node.map_or(Kind::Any, |node| node.kind);
    match value {
        Value::Null => Box::new(CelNull),
        Value::Bool(flag) => Box::new(CelBool::from(*flag)),
        Value::Number(number) => match (kind, number.as_i64(), number.as_u64(), number.as_f64()) {
            (Kind::Number, _, _, Some(float)) => Box::new(CelDouble::from(float)),
            (_, Some(int), _, _) => Box::new(CelInt::from(int)),
            (_, None, Some(large), _) => Box::new(CelUInt::from(large)),
            (Kind::Integer, _, _, Some(float)) if float.fract() == 0.0 => Box::new(CelInt::from(float as i64)),
            (_, _, _, float) => Box::new(CelDouble::from(float.unwrap_or(f64::NAN))),
        },
        Value::String(text) => lend_text(text, node.and_then(|node| node.format)),
        Value::Array(items) => {
            Box::new(List { items, node: node.and_then(|node| node.items.as_deref()), unfolded: OnceLock::new() })
        }
        Value::Object(map) => Box::new(Object { map, node, unfolded: OnceLock::new() }),
    }
}

fn lend_text<'v>(text: &'v str, format: Option<Format>) -> Box<dyn Val + 'v> {
    let convert = match format {
        Some(Format::DateTime | Format::Date) => "timestamp",
        Some(Format::Duration) => "duration",
        Some(Format::Byte) => {
            let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text).unwrap_or_default();
            return Box::new(CelBytes::from(bytes));
        }
        _ => return Box::new(CelString::from(text)),
    };
    let full = if format == Some(Format::Date) { format!("{text}T00:00:00Z") } else { text.to_owned() };
    let arguments: Vec<CowVal<'static, 'static>> = vec![CowVal::owned(CelString::from(full))];
    ENV.find_overload(convert, &arguments)
        .and_then(|operation| operation(arguments).ok())
        .map_or_else(|| Box::new(CelString::from(text)) as Box<dyn Val + 'v>, CowVal::into_owned)
}

/// A JSON object as a CEL map.
#[derive(Debug)]
struct Object<'v> {
    map: &'v Map<String, Value>,
    node: Option<&'v Node>,
    unfolded: OnceLock<CelMap<'v>>,
}

impl<'v> Object<'v> {
    fn child(&self, key: &str) -> Option<Box<dyn Val + 'v>> {
        let (name, value) = match self.map.get_key_value(key) {
            Some(found) => found,
            None if key.contains("__") => self.map.get_key_value(&unescape(key))?,
            None => return None,
        };
        Some(lend(value, self.node.and_then(|node| node.child(name))))
    }

    fn get_owned(&self, key: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError> {
        let name = key.downcast_ref::<CelString>().ok_or_else(|| ExecutionError::UnexpectedType {
            got: key.get_type().name().to_owned(),
            want: "map key".to_owned(),
        })?;
        self.child(name.inner()).ok_or_else(|| ExecutionError::no_such_key(name.inner()))
    }

    fn unfold(&self) -> &CelMap<'v> {
        self.unfolded.get_or_init(|| {
            let mut entries: HashMap<CelMapKey<'v>, Box<dyn Val + 'v>> = HashMap::with_capacity(self.map.len());
            for (key, value) in self.map {
                let name = CelMapKey::String(CelString::from(key.as_str()));
                entries.insert(name, lend(value, self.node.and_then(|node| node.child(key))));
            }
            CelMap::from(entries)
        })
    }
}

impl Val for Object<'_> {
    fn get_type(&self) -> &Type {
        <Self as Val>::cel_type()
    }

    fn cel_type() -> &'static Type {
        <CelMap<'_> as Val>::cel_type()
    }

    fn as_container(&self) -> Option<&dyn Container> {
        Some(self)
    }

    fn as_indexer<'b, 'w>(&'b self) -> Option<&'b (dyn Indexer + 'w)>
    where
        Self: 'w,
    {
        Some(self)
    }

    fn into_indexer<'w>(self: Box<Self>) -> Option<Box<dyn Indexer + 'w>>
    where
        Self: 'w,
    {
        Some(self)
    }

    fn as_iterable<'b, 'w>(&'b self) -> Option<&'b (dyn Iterable + 'w)>
    where
        Self: 'w,
    {
        Some(self)
    }

    fn as_sizer(&self) -> Option<&dyn Sizer> {
        Some(self)
    }

    fn as_zeroer(&self) -> Option<&dyn Zeroer> {
        Some(self)
    }

    fn equals(&self, other: &dyn Val) -> bool {
        meter::charge(self.map.len() as u64 + 1).is_ok() && self.unfold().equals(other)
    }

    fn clone_as_boxed<'w>(&self) -> Box<dyn Val + 'w>
    where
        Self: 'w,
    {
        Box::new(Object { map: self.map, node: self.node, unfolded: OnceLock::new() })
    }

    fn as_builtin<'b, 'w>(&'b self) -> BuiltinRef<'b, 'w>
    where
        Self: 'w,
    {
        BuiltinRef::Map(self.unfold())
    }
}

impl Indexer for Object<'_> {
    fn get<'b, 'w>(&'b self, key: &dyn Val) -> Result<CowVal<'b, 'w>, ExecutionError>
    where
        Self: 'w,
    {
        self.get_owned(key).map(|value| CowVal::Owned(value as Box<dyn Val + 'w>))
    }

    fn steal<'w>(self: Box<Self>, key: &dyn Val) -> Result<Box<dyn Val + 'w>, ExecutionError>
    where
        Self: 'w,
    {
        self.get_owned(key).map(|value| value as Box<dyn Val + 'w>)
    }
}

impl Container for Object<'_> {
    fn contains(&self, key: &dyn Val) -> Result<bool, ExecutionError> {
        Ok(key.downcast_ref::<CelString>().is_some_and(|key| self.map.contains_key(key.inner())))
    }
}

impl Iterable for Object<'_> {
    fn iter<'b, 'w>(&'b self) -> Box<dyn CelIterator<'b, 'w> + 'b>
    where
        Self: 'w,
    {
        Iterable::iter(self.unfold())
    }
}

impl Sizer for Object<'_> {
    fn size(&self) -> CelInt {
        CelInt::from(self.map.len() as i64)
    }
}

impl Zeroer for Object<'_> {
    fn is_zero_value(&self) -> bool {
        self.map.is_empty()
    }
}

/// A JSON array as a CEL list.
#[derive(Debug)]
struct List<'v> {
    items: &'v [Value],
    node: Option<&'v Node>,
    unfolded: OnceLock<CelList<'v>>,
}

impl<'v> List<'v> {
    fn get_owned(&self, index: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError> {
        let wanted = if let Some(index) = index.downcast_ref::<CelInt>() {
            *index.inner()
        } else if let Some(index) = index.downcast_ref::<CelUInt>() {
            i64::try_from(*index.inner()).unwrap_or(i64::MAX)
        } else {
            return Err(ExecutionError::UnexpectedType {
                got: index.get_type().name().to_owned(),
                want: "int|uint".to_owned(),
            });
        };
        usize::try_from(wanted)
            .ok()
            .and_then(|index| self.items.get(index))
            .map(|value| lend(value, self.node))
            .ok_or_else(|| ExecutionError::IndexOutOfBounds(wanted.into()))
    }

    fn unfold(&self) -> &CelList<'v> {
        self.unfolded
            .get_or_init(|| CelList::from(self.items.iter().map(|value| lend(value, self.node)).collect::<Vec<_>>()))
    }
}

impl Val for List<'_> {
    fn get_type(&self) -> &Type {
        <Self as Val>::cel_type()
    }

    fn cel_type() -> &'static Type {
        <CelList<'_> as Val>::cel_type()
    }

    fn as_adder<'b, 'w>(&'b self) -> Option<&'b (dyn Adder + 'w)>
    where
        Self: 'w,
    {
        Some(self)
    }

    fn as_container(&self) -> Option<&dyn Container> {
        Some(self)
    }

    fn as_indexer<'b, 'w>(&'b self) -> Option<&'b (dyn Indexer + 'w)>
    where
        Self: 'w,
    {
        Some(self)
    }

    fn into_indexer<'w>(self: Box<Self>) -> Option<Box<dyn Indexer + 'w>>
    where
        Self: 'w,
    {
        Some(self)
    }

    fn as_iterable<'b, 'w>(&'b self) -> Option<&'b (dyn Iterable + 'w)>
    where
        Self: 'w,
    {
        Some(self)
    }

    fn as_sizer(&self) -> Option<&dyn Sizer> {
        Some(self)
    }

    fn as_zeroer(&self) -> Option<&dyn Zeroer> {
        Some(self)
    }

    fn equals(&self, other: &dyn Val) -> bool {
        meter::charge(self.items.len() as u64 + 1).is_ok() && self.unfold().equals(other)
    }

    fn clone_as_boxed<'w>(&self) -> Box<dyn Val + 'w>
    where
        Self: 'w,
    {
        Box::new(List { items: self.items, node: self.node, unfolded: OnceLock::new() })
    }

    fn as_builtin<'b, 'w>(&'b self) -> BuiltinRef<'b, 'w>
    where
        Self: 'w,
    {
        BuiltinRef::List(self.unfold())
    }
}

impl Adder for List<'_> {
    fn add<'b, 'w>(&'b self, rhs: &(dyn Val + 'w)) -> Result<CowVal<'b, 'w>, ExecutionError>
    where
        Self: 'w,
    {
        Adder::add(self.unfold(), rhs)
    }
}

impl Indexer for List<'_> {
    fn get<'b, 'w>(&'b self, index: &dyn Val) -> Result<CowVal<'b, 'w>, ExecutionError>
    where
        Self: 'w,
    {
        self.get_owned(index).map(|value| CowVal::Owned(value as Box<dyn Val + 'w>))
    }

    fn steal<'w>(self: Box<Self>, index: &dyn Val) -> Result<Box<dyn Val + 'w>, ExecutionError>
    where
        Self: 'w,
    {
        self.get_owned(index).map(|value| value as Box<dyn Val + 'w>)
    }
}

impl Container for List<'_> {
    fn contains(&self, value: &dyn Val) -> Result<bool, ExecutionError> {
        meter::charge(self.items.len() as u64)?;
        Container::contains(self.unfold(), value)
    }
}

impl Iterable for List<'_> {
    fn iter<'b, 'w>(&'b self) -> Box<dyn CelIterator<'b, 'w> + 'b>
    where
        Self: 'w,
    {
        Iterable::iter(self.unfold())
    }
}

impl Sizer for List<'_> {
    fn size(&self) -> CelInt {
        CelInt::from(self.items.len() as i64)
    }
}

impl Zeroer for List<'_> {
    fn is_zero_value(&self) -> bool {
        self.items.is_empty()
    }
}
