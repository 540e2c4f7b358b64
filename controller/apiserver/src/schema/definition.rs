//! A kind as the server serves it: compiled once from a CRD document, then shared by every request.

use serde_json::Value;

use super::error::FieldError;
use super::structural::Schema;
use super::{crd, events};

/// One kind with all its versions.
#[derive(Debug)]
pub struct Definition {
    /// API group; empty for the core group.
    pub group: String,
    /// Lower-case plural, the resource name in URLs.
    pub plural: String,
    /// Lower-case singular.
    pub singular: String,
    /// The kind's name.
    pub kind: String,
    /// The kind of its list.
    pub list_kind: String,
    /// Short names for clients.
    pub short_names: Vec<String>,
    /// Categories such as `all`.
    pub categories: Vec<String>,
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// In the order clients prefer them.
    pub versions: Vec<Version>,
    /// Index into `versions` of the one that is stored.
    pub storage_version: usize,
    /// Served by the server itself, not by a stored CRD.
    pub builtin: bool,
    /// Whether `metadata.generation` counts changes of what is wished.
    pub generation: bool,
    /// The folder under the store's prefix: `GROUP/PLURAL`, or another kind's when both share one storage (events).
    pub storage_resource: String,
    /// The CRD is being deleted: what is there may be read, changed and deleted, and nothing new is made.
    pub terminating: bool,
    /// Subresources the protocol half adds (exec, log, …); shown in discovery.
    pub connect: Vec<String>,
}

/// One version of a kind.
#[derive(Debug)]
pub struct Version {
    /// For example `v1alpha1`.
    pub name: String,
    /// Whether requests may use it.
    pub served: bool,
    /// Whether objects are stored in it.
    pub storage: bool,
    /// The compiled schema.
    pub schema: Schema,
    /// Printer columns after NAME; empty means NAME and AGE only.
    pub columns: Vec<Column>,
    /// Paths (without leading dot) that field selectors may name, besides metadata.name and metadata.namespace.
    pub selectable: Vec<String>,
    /// Whether `/status` is its own door.
    pub status_subresource: bool,
    /// Where `/scale` finds its numbers.
    pub scale: Option<Scale>,
    /// Whether clients shall be warned.
    pub deprecated: bool,
    /// The warning's own words.
    pub deprecation_warning: Option<String>,
}

/// JSONPaths of the scale subresource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scale {
    /// Path of the wished number.
    pub spec_replicas: String,
    /// Path of the observed number.
    pub status_replicas: String,
    /// Path of the selector in text form.
    pub label_selector: Option<String>,
}

/// A printer column.
#[derive(Debug, Clone)]
pub struct Column {
    /// Header.
    pub name: String,
    /// OpenAPI type: `string`, `integer`, `number`, `boolean`, `date`.
    pub kind: String,
    /// OpenAPI format.
    pub format: String,
    /// Help text.
    pub description: String,
    /// 0 is shown always, more only with `-o wide`.
    pub priority: i32,
    /// Where the cell comes from.
    pub cell: super::table::Cell,
}

impl Definition {
    /// Compiles a `CustomResourceDefinition` document, or says everything that is wrong with it.
    ///
    /// The CEL parser recurses deeply for its size, so this runs on a thread with a stack of its own: a rule that a user
    /// sends may not end the server.
    pub fn from_crd(document: &Value) -> Result<Self, Vec<FieldError>> {
        std::thread::scope(|scope| {
            std::thread::Builder::new()
                .name("crd-compile".to_owned())
                .stack_size(32 << 20)
                .spawn_scoped(scope, || crd::compile(document))
                .map_err(|_| ())
                .and_then(|thread| thread.join().map_err(|_| ()))
                .unwrap_or_else(|()| {
                    let why = "Internal error: the definition could not be compiled";
                    Err(vec![FieldError::new("spec", super::Cause::Internal, why)])
                })
        })
    }

    /// The version called `name`, served or not.
    pub fn version(&self, name: &str) -> Option<&Version> {
        self.versions.iter().find(|version| version.name == name)
    }

    /// The version objects are stored in.
    pub fn storage(&self) -> &Version {
        &self.versions[self.storage_version]
    }

    /// `PLURAL.GROUP`, as in messages and CRD names; the bare plural in the core group.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// `GROUP/VERSION`, or the bare version in the core group.
    pub fn api_version(&self, version: &Version) -> String {
        if self.group.is_empty() { version.name.clone() } else { format!("{}/{}", self.group, version.name) }
    }

    /// `KIND.GROUP` as in `VirtualMachine.photoncloud.dev "x" is invalid`.
    pub fn qualified_kind(&self) -> String {
        if self.group.is_empty() { self.kind.clone() } else { format!("{}.{}", self.kind, self.group) }
    }

    /// Turns a stored object into `version` of this definition (apiVersion, and fields where kinds share one storage).
    pub fn decode(&self, version: &Version, object: &mut Value) {
        if self.shares_event_storage() {
            events::to_events_group(object);
        }
        if let Value::Object(map) = object {
            map.insert("apiVersion".to_owned(), self.api_version(version).into());
        }
    }

    /// Turns an object of this definition into what is stored.
    pub fn encode(&self, object: &mut Value) {
        if self.shares_event_storage() {
            events::to_core_group(object);
        } else if let Value::Object(map) = object {
            map.insert("apiVersion".to_owned(), self.api_version(self.storage()).into());
        }
    }

    fn shares_event_storage(&self) -> bool {
        self.builtin && self.group == events::GROUP
    }
}

impl Version {
    /// The text of the Warning header for a deprecated version.
    pub fn warning(&self, definition: &Definition) -> Option<String> {
        self.deprecated.then(|| {
            self.deprecation_warning
                .clone()
                .unwrap_or_else(|| format!("{} {} is deprecated", definition.api_version(self), definition.kind))
        })
    }
}
