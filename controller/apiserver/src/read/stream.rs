//! From store events to the lines of one watch.
//!
//! Pure: what a watcher is told about a change depends on whether the object was in its selection before and is now.
//!
//! | before | now | told |
//! |---|---|---|
//! | – | in | ADDED |
//! | in | in | MODIFIED |
//! | in | out or gone | DELETED |
//! | out | out | nothing |

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::json;
use store::{Entry, Event, EventKind, Revision};

use super::Selection;
use crate::answer;
use crate::error::Error;
use crate::object::{Object, View};
use crate::registry::Resource;
use crate::request::accept::{Accept, Form};
use crate::schema::table::Include;
use crate::stored;

/// Writes the lines of one watch.
pub(super) struct Lines {
    pub(super) resource: Resource,
    pub(super) selection: Selection,
    pub(super) accept: Accept,
    pub(super) include: Include,
    headers_sent: bool,
}

impl Lines {
    pub(super) fn new(resource: Resource, selection: Selection, accept: Accept, include: Include) -> Self {
        Self { resource, selection, accept, include, headers_sent: false }
    }

    /// The line of a change, if the watcher is to hear of it.
    pub(super) fn event(&mut self, event: &Event) -> Result<Option<Bytes>, Error> {
        let before = match &event.previous {
            Some(previous) => self.selection.matches(&Object::of(previous)?),
            None => false,
        };
        if event.kind == EventKind::Delete {
            if !before {
                return Ok(None);
            }
            let object = Object::of_deletion(event)?;
            return Ok(Some(self.line("DELETED", &self.resource.view(&object))));
        }
        let object = Object::of(&event.entry)?;
        let line = match (before, self.selection.matches(&object)) {
            (false, false) => return Ok(None),
            (false, true) => self.line("ADDED", &self.resource.view(&object)),
            (true, true) => self.line("MODIFIED", &self.resource.view(&object)),
            (true, false) => {
                let last = event.previous.as_ref().map(|p| p.value.clone()).unwrap_or_default();
                let object = std::sync::Arc::new(crate::object::parse(&event.entry.key, &last, event.revision())?);
                self.line("DELETED", &self.resource.view(&object))
            }
        };
        Ok(Some(line))
    }

    /// Adds the line of an object the watch begins with, if the watcher is to hear of it.
    pub(super) fn initial(&mut self, entry: &Entry, out: &mut Vec<u8>) -> Result<(), Error> {
        if self.selection.is_everything() && self.accept.form == Form::Object {
            begin("ADDED", out);
            stored::append(entry, &self.resource, &self.resource.api_version(), out)?;
            out.extend_from_slice(END);
            return Ok(());
        }
        let object = Object::of(entry)?;
        if self.selection.matches(&object) {
            out.extend_from_slice(&self.line("ADDED", &self.resource.view(&object)));
        }
        Ok(())
    }

    fn line(&mut self, kind: &str, view: &View) -> Bytes {
        match self.accept.form {
            Form::Object => wrap(kind, &view.raw()),
            Form::Partial(version) => wrap(kind, &answer::partial_view(view, version)),
            Form::Table(version) => {
                let headers = !std::mem::replace(&mut self.headers_sent, true);
                let metadata = json!({"resourceVersion": crate::object::meta(view.value(), "resourceVersion")});
                let options = answer::table_options(version, self.include, headers);
                let table = answer::table(&self.resource, std::slice::from_ref(view), metadata, options);
                wrap(kind, table.to_string().as_bytes())
            }
        }
    }

    /// A bookmark: everything up to `revision` has been told.
    pub(super) fn bookmark(&self, revision: Revision, initial_end: bool) -> Bytes {
        let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if initial_end {
            metadata["annotations"] = json!({
                "k8s.io/initial-events-end": "true",
                "kubernetes.io/initial-events-list-blueprint": self.blueprint(),
            });
        }
        let object = json!({
            "kind": self.resource.definition.kind,
            "apiVersion": self.resource.api_version(),
            "metadata": metadata,
        });
        let document = match self.accept.form {
            Form::Object => object,
            Form::Partial(version) => answer::partial(&object, version),
            Form::Table(version) => {
                let row = json!({"cells": [], "object": answer::partial(&object, version)});
                json!({
                    "kind": "Table", "apiVersion": version,
                    "metadata": {"resourceVersion": revision.to_string()},
                    "columnDefinitions": null, "rows": [row],
                })
            }
        };
        wrap("BOOKMARK", document.to_string().as_bytes())
    }

    /// The empty list that a client makes of the initial events, for those that build their answers from it.
    fn blueprint(&self) -> String {
        let (kind, api_version) = match self.accept.form {
            Form::Object => (self.resource.definition.list_kind.as_str(), self.resource.api_version()),
            Form::Partial(version) => ("PartialObjectMetadataList", version.to_owned()),
            Form::Table(version) => ("Table", version.to_owned()),
        };
        let list = json!({"kind": kind, "apiVersion": api_version, "metadata": {}, "items": []});
        STANDARD.encode(list.to_string())
    }
}

/// The last line of a watch that failed.
pub(super) fn failure(error: &Error) -> Bytes {
    wrap("ERROR", error.status().to_string().as_bytes())
}

/// The end of a line.
const END: &[u8] = b"}\n";

/// The beginning of a line, up to its object.
fn begin(kind: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\",\"object\":");
}

fn wrap(kind: &str, object: &[u8]) -> Bytes {
    let mut line = Vec::with_capacity(object.len() + kind.len() + 24);
    begin(kind, &mut line);
    line.extend_from_slice(object);
    line.extend_from_slice(END);
    Bytes::from(line)
}
