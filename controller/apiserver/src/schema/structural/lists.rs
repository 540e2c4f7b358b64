//! List types: items of a set are unique, items of a map are unique by their keys, and old items are found by them.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::Value;

use super::super::error::FieldError;
use super::{ListKind, Path};

/// Below this many items comparing all pairs is faster than hashing.
const FEW: usize = 16;

/// Reports items that occur twice.
pub(crate) fn check_unique(list: &ListKind, items: &[Value], path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if matches!(list, ListKind::Atomic) || items.len() < 2 {
        return;
    }
    let mut seen: HashMap<u64, Vec<usize>> = HashMap::new();
    for (index, item) in items.iter().enumerate() {
        let twice = if items.len() <= FEW {
            items[..index].iter().any(|earlier| same(list, earlier, item))
        } else {
            let bucket = seen.entry(digest(list, item)).or_default();
            let twice = bucket.iter().any(|&earlier| same(list, &items[earlier], item));
            if !twice {
                bucket.push(index);
            }
            twice
        };
        if twice {
            errors.push(FieldError::duplicate(path.index(index).to_string(), &identity(list, item)));
        }
    }
}

/// Finds the old item that corresponds to a new one; only maps have such a correspondence.
pub(super) struct Correspondence<'a> {
    list: &'a ListKind,
    old: &'a [Value],
    index: Option<HashMap<u64, Vec<usize>>>,
}

impl<'a> Correspondence<'a> {
    /// `None` when the list has no keys or there is no old list.
    pub(super) fn new(list: &'a ListKind, old: Option<&'a Value>) -> Option<Self> {
        let (ListKind::Map(_), Some(Value::Array(old))) = (list, old) else { return None };
        let index = (old.len() > FEW).then(|| {
            let mut index: HashMap<u64, Vec<usize>> = HashMap::with_capacity(old.len());
            for (position, item) in old.iter().enumerate() {
                index.entry(digest(list, item)).or_default().push(position);
            }
            index
        });
        Some(Self { list, old, index })
    }

    /// The old item with the same keys as `item`.
    pub(super) fn find(&self, item: &Value) -> Option<&'a Value> {
        match &self.index {
            None => self.old.iter().find(|old| same(self.list, old, item)),
            Some(index) => index
                .get(&digest(self.list, item))?
                .iter()
                .map(|&position| &self.old[position])
                .find(|old| same(self.list, old, item)),
        }
    }
}

fn same(list: &ListKind, a: &Value, b: &Value) -> bool {
    match list {
        ListKind::Map(keys) => keys.iter().all(|key| a.get(key) == b.get(key)),
        _ => a == b,
    }
}

fn digest(list: &ListKind, item: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    match list {
        ListKind::Map(keys) => keys.iter().for_each(|key| feed(item.get(key).unwrap_or(&Value::Null), &mut hasher)),
        _ => feed(item, &mut hasher),
    }
    hasher.finish()
}

fn feed(value: &Value, hasher: &mut DefaultHasher) {
    value.hash(hasher);
}

fn identity(list: &ListKind, item: &Value) -> Value {
    match list {
        ListKind::Map(keys) => keys
            .iter()
            .filter_map(|key| Some((key.clone(), item.get(key)?.clone())))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        _ => item.clone(),
    }
}
