//! `metadata.managedFields`: who owns which fields of one object.

use serde::{Deserialize, Serialize};

use super::set::Set;

/// Managers that wrote without applying, before the oldest are put together.
const MOST_UPDATERS: usize = 10;
/// The name under which they are put together.
const ANCIENT: &str = "ancient-changes";

/// How a manager came to own fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Operation {
    /// By applying: what it applies no longer is removed.
    Apply,
    /// By any other write.
    Update,
}

/// One manager's fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Entry {
    #[serde(default)]
    pub api_version: String,
    #[serde(default)]
    fields_type: FieldsType,
    #[serde(default, rename = "fieldsV1")]
    pub fields: Set,
    #[serde(default)]
    pub manager: String,
    pub operation: Operation,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subresource: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
enum FieldsType {
    #[default]
    FieldsV1,
}

/// Who writes, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Writer<'a> {
    /// The field manager's name.
    pub manager: &'a str,
    /// `GROUP/VERSION` of the request.
    pub api_version: &'a str,
    /// The subresource; empty for the object itself.
    pub subresource: &'a str,
    /// The time of the write.
    pub now: &'a str,
}

impl Writer<'_> {
    /// The entry for these fields.
    pub(super) fn entry(&self, operation: Operation, fields: Set) -> Entry {
        Entry {
            api_version: self.api_version.to_owned(),
            fields_type: FieldsType::FieldsV1,
            fields,
            manager: self.manager.to_owned(),
            operation,
            subresource: self.subresource.to_owned(),
            time: Some(self.now.to_owned()),
        }
    }

    /// Whether an entry is this writer's. An applier is the same in every version.
    pub(super) fn is(&self, operation: Operation, entry: &Entry) -> bool {
        entry.operation == operation
            && entry.manager == self.manager
            && entry.subresource == self.subresource
            && (operation == Operation::Apply || entry.api_version == self.api_version)
    }
}

/// All entries of one object, in the order they are shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Managed {
    pub entries: Vec<Entry>,
}

impl Managed {
    /// Reads what this server has written; an empty text is no entry.
    pub(crate) fn read(text: &[u8]) -> Result<Self, serde_json::Error> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_slice::<Self>(text).map(Self::rooted)
    }

    /// Reads what a client has written; `None` when it cannot be understood.
    pub(crate) fn from_client(value: serde_json::Value) -> Option<Self> {
        let mut managed = serde_json::from_value::<Self>(value).ok()?.rooted();
        for entry in &mut managed.entries {
            entry.fields = std::mem::take(&mut entry.fields).canonical()?;
        }
        managed.settle();
        Some(managed)
    }

    /// An empty set of fields is written as a leaf is; the object itself is never a member.
    fn rooted(mut self) -> Self {
        self.entries.iter_mut().for_each(|entry| entry.fields.owned = false);
        self
    }

    /// As it is stored; empty when there is no entry.
    pub(crate) fn write(&self) -> Vec<u8> {
        if self.entries.is_empty() {
            return Vec::new();
        }
        // Texts and sets of texts always can be written.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Whether both say the same, whenever it was said.
    pub(crate) fn agrees(&self, other: &Self) -> bool {
        let same = |(a, b): (&Entry, &Entry)| {
            a.operation == b.operation
                && a.manager == b.manager
                && a.api_version == b.api_version
                && a.subresource == b.subresource
                && a.fields == b.fields
        };
        self.entries.len() == other.entries.len() && self.entries.iter().zip(&other.entries).all(same)
    }

    /// Drops who owns nothing, limits how many there are, and puts them in order.
    pub(super) fn settle(&mut self) {
        self.entries.retain(|entry| !entry.fields.is_empty());
        self.cap();
        self.entries.sort_by(|a, b| {
            let order = (a.operation, &a.time, &a.manager, &a.api_version, &a.subresource);
            order.cmp(&(b.operation, &b.time, &b.manager, &b.api_version, &b.subresource))
        });
    }

    /// Puts the oldest updaters of a version together while there are too many.
    fn cap(&mut self) {
        let mut updaters: Vec<usize> =
            (0..self.entries.len()).filter(|at| self.entries[*at].operation == Operation::Update).collect();
        let mut count = updaters.len();
        if count <= MOST_UPDATERS {
            return;
        }
        updaters.sort_by(|a, b| {
            let key = |at: usize| (&self.entries[at].time, &self.entries[at].manager);
            key(*a).cmp(&key(*b))
        });
        let mut buckets: Vec<usize> = Vec::new();
        for at in updaters {
            if count <= MOST_UPDATERS {
                break;
            }
            let version = self.entries[at].api_version.clone();
            let Some(&bucket) = buckets.iter().find(|bucket| self.entries[**bucket].api_version == version) else {
                buckets.push(at);
                continue;
            };
            let fields = std::mem::take(&mut self.entries[at].fields);
            let time = self.entries[at].time.take();
            let into = &mut self.entries[bucket];
            into.fields.add(fields);
            into.time = time;
            ANCIENT.clone_into(&mut into.manager);
            into.subresource.clear();
            count -= 1;
        }
        self.entries.retain(|entry| !entry.fields.is_empty());
    }
}
