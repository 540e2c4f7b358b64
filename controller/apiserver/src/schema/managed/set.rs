//! Sets of field paths, and their written form `FieldsV1`.
//!
//! A path is a row of steps, each kept as it is written: `f:name` (a field), `k:{"name":"a"}` (an item of a list by its
//! keys), `v:"x"` (a member of a set), `i:3` (a position). So reading a set costs one string a step and no decoding, and
//! writing it back gives the same text. A set is a tree because most paths share their beginnings.

use std::cmp::Ordering;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

/// The paths below one place, and whether the place itself belongs to the set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Set {
    /// The place itself is a member.
    pub owned: bool,
    /// By step, ascending; none is empty.
    below: Vec<(Box<str>, Set)>,
}

impl Set {
    /// Nothing but the place itself.
    pub(crate) const fn leaf() -> Self {
        Self::of(true)
    }

    /// The place itself, or nothing.
    pub(crate) const fn of(owned: bool) -> Self {
        Self { owned, below: Vec::new() }
    }

    /// Whether there is no member.
    pub(crate) fn is_empty(&self) -> bool {
        !self.owned && self.below.is_empty()
    }

    /// Whether nothing below the place is a member.
    pub(crate) fn ends_here(&self) -> bool {
        self.below.is_empty()
    }

    /// What lies behind a step.
    pub(crate) fn child(&self, step: &str) -> Option<&Self> {
        self.find(step).ok().map(|at| &self.below[at].1)
    }

    /// The steps from here.
    pub(crate) fn children(&self) -> impl Iterator<Item = (&str, &Self)> {
        self.below.iter().map(|(step, set)| (&**step, set))
    }

    fn find(&self, step: &str) -> Result<usize, usize> {
        match self.below.last() {
            // Most sets are built in order.
            Some((last, _)) if &**last < step => Err(self.below.len()),
            _ => self.below.binary_search_by(|(known, _)| (**known).cmp(step)),
        }
    }

    /// Adds what lies behind a step; an empty set adds nothing.
    pub(crate) fn insert(&mut self, step: impl Into<Box<str>>, set: Self) {
        if set.is_empty() {
            return;
        }
        let step = step.into();
        match self.find(&step) {
            Ok(at) => self.below[at].1.add(set),
            Err(at) => self.below.insert(at, (step, set)),
        }
    }

    /// Union.
    pub(crate) fn add(&mut self, other: Self) {
        self.owned |= other.owned;
        if self.below.is_empty() {
            self.below = other.below;
            return;
        }
        // Side by side, as a set of a hundred thousand items must not be shifted for each of another.
        let mut merged = Vec::with_capacity(self.below.len() + other.below.len());
        let mut theirs = other.below.into_iter().peekable();
        for (step, mut set) in std::mem::take(&mut self.below) {
            while let Some(before) = theirs.next_if(|(other, _)| *other < step) {
                merged.push(before);
            }
            if let Some((_, same)) = theirs.next_if(|(other, _)| *other == step) {
                set.add(same);
            }
            merged.push((step, set));
        }
        merged.extend(theirs);
        self.below = merged;
    }

    /// A set of what lies behind these steps, in any order.
    pub(crate) fn gather(owned: bool, mut items: Vec<(Box<str>, Self)>) -> Self {
        if items.windows(2).all(|pair| pair[0].0 < pair[1].0) {
            // What comes of a map is in order, and has nothing twice.
            items.retain(|(_, below)| !below.is_empty());
            return Self { owned, below: items };
        }
        items.sort_by(|(a, _), (b, _)| a.cmp(b));
        let mut set = Self { owned, below: Vec::with_capacity(items.len()) };
        items.into_iter().for_each(|(step, below)| set.insert(step, below));
        set
    }

    /// Difference: takes away exactly the members of `other`.
    pub(crate) fn remove(&mut self, other: &Self) {
        self.owned &= !other.owned;
        if other.below.is_empty() || self.below.is_empty() {
            return;
        }
        self.below.retain_mut(|(step, set)| {
            if let Some(gone) = other.child(step) {
                set.remove(gone);
            }
            !set.is_empty()
        });
    }

    /// Takes away a step and everything behind it.
    pub(crate) fn cut(&mut self, step: &str) {
        if let Ok(at) = self.find(step) {
            self.below.remove(at);
        }
    }

    /// Changes what lies behind a step; nothing happens when there is nothing.
    pub(crate) fn change(&mut self, step: &str, change: impl FnOnce(&mut Self)) {
        if let Ok(at) = self.find(step) {
            change(&mut self.below[at].1);
            if self.below[at].1.is_empty() {
                self.below.remove(at);
            }
        }
    }

    /// The members of both.
    pub(crate) fn intersection(&self, other: &Self) -> Self {
        let mut both = Self::of(self.owned && other.owned);
        let (mut left, mut right) = (self.below.iter().peekable(), other.below.iter().peekable());
        while let (Some((step, mine)), Some((other, theirs))) = (left.peek(), right.peek()) {
            match step.cmp(other) {
                Ordering::Less => drop(left.next()),
                Ordering::Greater => drop(right.next()),
                Ordering::Equal => {
                    let common = mine.intersection(theirs);
                    if !common.is_empty() {
                        both.below.push((step.clone(), common));
                    }
                    left.next();
                    right.next();
                }
            }
        }
        both
    }

    /// Whether every member of `other` is one of ours.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        (self.owned || !other.owned)
            && other.below.iter().all(|(step, theirs)| self.child(step).is_some_and(|mine| mine.covers(theirs)))
    }

    /// Every member as people read it: `.spec.ports[name="web"].port`.
    pub(crate) fn paths(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.collect(&mut String::new(), &mut found);
        found
    }

    fn collect(&self, path: &mut String, found: &mut Vec<String>) {
        if self.owned && !path.is_empty() {
            found.push(path.clone());
        }
        for (step, set) in &self.below {
            let length = path.len();
            show(step, path);
            set.collect(path, found);
            path.truncate(length);
        }
    }

    /// The same set with every step written as this server writes it; `None` when a step cannot be read. What clients
    /// send may have spaces or another order of keys.
    pub(crate) fn canonical(self) -> Option<Self> {
        let mut clean = Vec::with_capacity(self.below.len());
        for (step, set) in self.below {
            let (kind, text) = step.split_at_checked(2)?;
            let step = match kind {
                "k:" | "v:" => {
                    let value: Value = serde_json::from_str(text).ok()?;
                    if kind == "k:" && !value.is_object() {
                        return None;
                    }
                    format!("{kind}{value}").into_boxed_str()
                }
                "i:" => {
                    text.parse::<i64>().ok()?;
                    step
                }
                _ => step,
            };
            clean.push((step, set.canonical()?));
        }
        Some(Self::gather(self.owned, clean))
    }
}

/// The step to a field.
pub(super) fn field_step(key: &str) -> Box<str> {
    // Every field of every written object comes by here: one allocation of the right size, and no formatting.
    ["f:", key].concat().into_boxed_str()
}

/// Appends a step in the form of error messages.
fn show(step: &str, out: &mut String) {
    let (kind, text) = step.split_at_checked(2).unwrap_or(("", step));
    match kind {
        "f:" => {
            out.push('.');
            out.push_str(text);
        }
        "k:" => {
            let keys: serde_json::Map<String, Value> = serde_json::from_str(text).unwrap_or_default();
            let shown: Vec<String> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
            out.push_str(&format!("[{}]", shown.join(",")));
        }
        "v:" => out.push_str(&format!("[={text}]")),
        _ => out.push_str(&format!("[{text}]")),
    }
}

impl Serialize for Set {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let dot = self.owned && !self.below.is_empty();
        let mut map = serializer.serialize_map(Some(self.below.len() + usize::from(dot)))?;
        if dot {
            map.serialize_entry(".", &Nothing)?;
        }
        for (step, set) in &self.below {
            map.serialize_entry(step, set)?;
        }
        map.end()
    }
}

/// `{}`
struct Nothing;

impl Serialize for Nothing {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_map(Some(0))?.end()
    }
}

impl<'de> Deserialize<'de> for Set {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Set;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a set of fields")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Set, A::Error> {
        let mut owned = false;
        let mut items = Vec::new();
        let mut any = false;
        while let Some(step) = map.next_key::<Box<str>>()? {
            any = true;
            let below: Set = map.next_value()?;
            match step.get(..2) {
                _ if &*step == "." => owned = true,
                Some("f:" | "k:" | "v:" | "i:") => items.push((step, below)),
                _ => return Err(A::Error::custom(format!("{step:?} is no step of a path"))),
            }
        }
        Ok(Set::gather(owned || !any, items))
    }
}
