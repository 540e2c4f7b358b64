//! `metadata.managedFields` through a write: who is noted as the owner of what.

use bytes::Bytes;
use serde_json::Value;

use super::Change;
use crate::dispatch::Call;
use crate::object::{View, metadata_mut};
use crate::registry::Resource;
use crate::schema::managed::{Managed, Writer, created, tracked};
use crate::text;

/// Who shall own the fields of a new object.
pub(super) enum Owner {
    /// The server itself made it.
    Nobody,
    /// Its maker.
    Updater { manager: String, api_version: String },
    /// Whoever applied it, in these entries.
    Applier(Bytes),
}

impl Owner {
    /// The caller of a create.
    pub(super) fn updates(call: &Call) -> Self {
        if counts(&call.resource) {
            Self::Updater { manager: call.manager.clone(), api_version: call.resource.api_version() }
        } else {
            Self::Nobody
        }
    }

    /// The entries of a new object.
    pub(super) fn of_new(&self, resource: &Resource, object: &Value) -> Bytes {
        match self {
            Self::Nobody => Bytes::new(),
            Self::Applier(managed) => managed.clone(),
            Self::Updater { manager, api_version } => {
                let writer = Writer { manager, api_version, subresource: "", now: &text::now() };
                Bytes::from(created(resource.version(), object, &writer).write())
            }
        }
    }
}

/// Events are written much and applied never: nobody owns their fields.
fn counts(resource: &Resource) -> bool {
    resource.definition.kind != "Event"
}

/// Whether a patch speaks of `managedFields` at all; most do not, and then they need not be looked at.
pub(super) fn named_in(patch: &[u8]) -> bool {
    let name = b"managedFields";
    patch.windows(name.len()).any(|window| window == name)
}

/// Takes what the client says about `managedFields` out of its document. What is empty or cannot be understood was not
/// said, so that clients which do not know of them remove nothing.
pub(super) fn take(document: &mut Value) -> Option<Managed> {
    let said = metadata_mut(document)?.remove("managedFields")?;
    let entries = said.as_array().filter(|entries| !entries.is_empty())?;
    // A single empty entry is the way to ask for none.
    if matches!(entries.as_slice(), [Value::Object(only)] if only.is_empty()) {
        return Some(Managed::default());
    }
    Managed::from_client(said)
}

/// Completes a change with who owns what after it.
pub(super) fn track(call: &Call, old: &View, provided: Option<&Managed>, change: Change) -> Change {
    let resource = &call.resource;
    let subresource = call.subresource.as_deref().unwrap_or("");
    let provided = provided.filter(|_| subresource.is_empty());
    match change {
        Change::Keep => match provided {
            Some(said) if *said != old.object().managed() => {
                Change::PutOwned(old.value().clone(), Bytes::from(said.write()))
            }
            _ => Change::Keep,
        },
        Change::Put(new) if counts(resource) => {
            let managed = provided.cloned().unwrap_or_else(|| old.object().managed());
            let now = text::now();
            let api_version = resource.api_version();
            let writer = Writer { manager: &call.manager, api_version: &api_version, subresource, now: &now };
            let managed = tracked(&resource.definition, resource.version(), (old.value(), &new), managed, &writer);
            Change::PutOwned(new, Bytes::from(managed.write()))
        }
        other => other,
    }
}
