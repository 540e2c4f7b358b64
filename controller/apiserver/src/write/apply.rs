//! PATCH `application/apply-patch+yaml`: server-side apply.
//!
//! The body is what its manager wants of the object, no more. What that means for the stored object is decided in
//! `schema::managed`; here it is put through the same checks as every other write.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::ownership::Owner;
use super::{Change, Written, admit, update};
use crate::dispatch::Call;
use crate::error::Error;
use crate::object::{Object, meta, metadata_mut, set_meta};
use crate::request::body;
use crate::request::query::{FieldValidation, invalid_options};
use crate::schema::builtin::normalize;
use crate::schema::managed::{self, Managed, Set, Wish, Writer};
use crate::schema::{self, FieldError};
use crate::server::Server;
use crate::{storage, text};

/// kubectl's annotation for what it applied last, by itself.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The manager whose applies continue what `kubectl apply` did on the client's side.
const KUBECTL: &str = "kubectl";
/// Times the object may appear or vanish under us before the caller hears of it.
const RACES: usize = 8;
/// Metadata that identifies or only the server writes.
const NOT_APPLIED: [&str; 8] = [
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "selfLink",
    "managedFields",
];

/// An apply request, read and checked.
struct Configuration {
    /// As sent, for kubectl's annotation.
    sent: Value,
    /// What this door takes of it.
    covered: Value,
    uid: String,
    revision: String,
    warnings: Vec<String>,
}

impl Server {
    /// Applies a configuration; makes the object when there is none.
    pub(super) async fn apply(&self, call: &Call, bytes: &Bytes) -> Result<Written, Error> {
        if call.query.field_manager.is_empty() {
            return Err(invalid_options(
                "PatchOptions",
                vec![FieldError::required("fieldManager", "is required for apply patch")],
            ));
        }
        let configuration = Configuration::read(call, bytes)?;
        let place = (call.namespace.as_deref(), call.name.as_str());
        let mut warnings: Vec<String> = admit::deprecation(&call.resource).into_iter().collect();
        warnings.extend(configuration.warnings.iter().cloned());
        let mut attempt = 1;
        loop {
            let change = |object: &Arc<Object>| configuration.change(call, object);
            match self.modify(&call.resource, place, call.query.dry_run, change).await {
                Ok(done) => {
                    self.settled(&call.resource, &done).await;
                    return Ok(Written {
                        code: 200,
                        changed: done.changed,
                        view: call.resource.view(&done.object),
                        warnings,
                    });
                }
                Err(Error::NotFound(_)) if call.subresource.is_none() => {}
                Err(error) => return Err(error),
            }
            match self.create_applied(call, &configuration).await {
                Ok(object) => {
                    return Ok(Written {
                        code: 201,
                        changed: !call.query.dry_run,
                        view: call.resource.view(&object),
                        warnings,
                    });
                }
                Err(Error::AlreadyExists(_)) if attempt < RACES => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }

    async fn create_applied(&self, call: &Call, configuration: &Configuration) -> Result<Arc<Object>, Error> {
        configuration.expects_nothing(call)?;
        call.may_create()?;
        let covered = &configuration.covered;
        self.check_create(&call.resource, call.namespace.as_deref(), covered).await?;
        let (object, managed) = configuration.applied(call, None, Managed::default())?;
        let owner = Owner::Applier(Bytes::from(managed.write()));
        self.insert(&call.resource, object, &owner, call.query.dry_run, Some(call)).await
    }
}

impl Configuration {
    fn read(call: &Call, bytes: &Bytes) -> Result<Self, Error> {
        // Most clients send JSON, which is read faster for what it is.
        let json = bytes.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'{');
        let mut repeated = Vec::new();
        let parsed = if json { body::json_noting(bytes, &mut repeated).ok() } else { None };
        let mut sent = match parsed {
            Some(sent) => sent,
            None => body::yaml(bytes).map_err(|error| Error::BadRequest(format!("error decoding YAML: {error}")))?,
        };
        let warnings = match call.query.field_validation {
            FieldValidation::Strict if !repeated.is_empty() => {
                return Err(Error::BadRequest(schema::strict_decoding_error(&repeated, &[])));
            }
            FieldValidation::Warn => schema::decoding_complaints(&repeated, &[]).collect(),
            _ => Vec::new(),
        };
        body::check_depth(&sent)?;
        admit::identify(call, &mut sent)?;
        if sent["metadata"].get("managedFields").is_some_and(|fields| !fields.is_null()) {
            return Err(Error::BadRequest("metadata.managedFields must be nil".to_owned()));
        }
        let (uid, revision) = (meta(&sent, "uid").to_owned(), meta(&sent, "resourceVersion").to_owned());
        let mut covered = sent.clone();
        let unknown = admit::unknown_fields(&call.resource, &mut covered);
        if !unknown.is_empty() {
            return Err(undeclared(call, &unknown));
        }
        cover(call, &mut covered);
        let root = &call.resource.version().schema.root;
        let twice = managed::duplicates(root, &covered);
        if !twice.is_empty() {
            return Err(Error::Invalid(call.resource.kind_subject(&call.name), twice));
        }
        Ok(Self { sent, covered, uid, revision, warnings })
    }

    /// The change this apply means for an object.
    fn change(&self, call: &Call, object: &Arc<Object>) -> Result<Change, Error> {
        let old = call.resource.view(object);
        let old = old.value();
        let name = meta(old, "name");
        if !self.uid.is_empty() && self.uid != meta(old, "uid") {
            let error = FieldError::invalid("metadata.uid", &json!(self.uid), "field is immutable");
            return Err(Error::Invalid(call.resource.kind_subject(name), vec![error]));
        }
        if !matches!(self.revision.as_str(), "" | "0") && self.revision != meta(old, "resourceVersion") {
            return Err(storage::modified(call.resource.subject(name)));
        }
        let before = object.managed();
        let (mut new, managed) = self.applied(call, Some(old), before.clone())?;
        self.note_last_applied(call, &mut new);
        for field in ["uid", "resourceVersion"] {
            set_meta(&mut new, field, None);
        }
        match update::finish(&call.resource, call.subresource.as_deref(), old, new, Some(call))? {
            Change::Keep if managed.agrees(&before) => Ok(Change::Keep),
            Change::Keep => Ok(Change::PutOwned(old.clone(), Bytes::from(managed.write()))),
            Change::Put(new) => Ok(Change::PutOwned(new, Bytes::from(managed.write()))),
            other => Ok(other),
        }
    }

    fn applied(&self, call: &Call, live: Option<&Value>, before: Managed) -> Result<(Value, Managed), Error> {
        let resource = &call.resource;
        let api_version = resource.api_version();
        let subresource = call.subresource.as_deref().unwrap_or("");
        let yielding = live.filter(|_| call.manager == KUBECTL).and_then(|live| client_side(call, live));
        let wish = Wish {
            definition: &resource.definition,
            version: resource.version(),
            config: &self.covered,
            writer: Writer { manager: &call.manager, api_version: &api_version, subresource, now: &text::now() },
            force: call.query.force,
            yielding: yielding.as_ref(),
        };
        managed::apply(live, before, &wish).map_err(|conflicts| {
            let message = conflicts.message();
            Error::ApplyConflict(message, conflicts.0.into_iter().map(|c| (c.manager, c.path)).collect())
        })
    }

    /// Keeps kubectl's annotation true, so that its client-side apply still works on the object.
    fn note_last_applied(&self, call: &Call, new: &mut Value) {
        if call.manager != KUBECTL
            || call.subresource.is_some()
            || new["metadata"]["annotations"][LAST_APPLIED].is_null()
        {
            return;
        }
        let mut sent = self.sent.clone();
        if let Some(annotations) = sent["metadata"]["annotations"].as_object_mut() {
            annotations.remove(LAST_APPLIED);
        }
        new["metadata"]["annotations"][LAST_APPLIED] = json!(format!("{sent}\n"));
    }

    /// Who expects a certain object does not want a new one.
    fn expects_nothing(&self, call: &Call) -> Result<(), Error> {
        let subject = || call.resource.subject(&call.name);
        if !self.uid.is_empty() {
            let uid = &self.uid;
            let why =
                format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found");
            return Err(Error::Conflict(subject(), why));
        }
        if !matches!(self.revision.as_str(), "" | "0") {
            let why = format!(
                "the provided object specified resourceVersion {}, and no existing object was found",
                self.revision
            );
            return Err(Error::Conflict(subject(), why));
        }
        Ok(())
    }
}

/// Reduces a configuration to what its door covers: who applies a spec says nothing of the status, and the reverse.
fn cover(call: &Call, configuration: &mut Value) {
    if call.subresource.is_some() {
        let keep = call.subresource.as_deref().unwrap_or("");
        if let Some(map) = configuration.as_object_mut() {
            map.retain(|key, _| matches!(key.as_str(), "apiVersion" | "kind") || key == keep);
        }
        return;
    }
    if call.resource.version().status_subresource
        && let Some(map) = configuration.as_object_mut()
    {
        map.remove("status");
    }
    normalize(&call.resource.definition, configuration);
    if let Some(metadata) = metadata_mut(configuration) {
        metadata.retain(|key, value| !NOT_APPLIED.contains(&key.as_str()) && !value.is_null());
    }
}

/// The fields that an earlier `kubectl apply` on the client's side has set, by its annotation.
fn client_side(call: &Call, live: &Value) -> Option<Set> {
    let text = live["metadata"]["annotations"][LAST_APPLIED].as_str()?;
    let last: Value = serde_json::from_str(text).ok()?;
    last.is_object().then(|| managed::spoken_of(&call.resource.version().schema.root, &last))
}

fn undeclared(call: &Call, unknown: &[String]) -> Error {
    let resource = &call.resource;
    let version = &resource.version().name;
    let (group, kind) = (&resource.definition.group, &resource.definition.kind);
    let place = format!("{}/{}", call.namespace.as_deref().unwrap_or(""), call.name);
    let fields: Vec<String> = unknown.iter().map(|path| format!(".{path}: field not declared in schema")).collect();
    Error::BadRequest(format!(
        "failed to create typed patch object ({place}; {group}/{version}, Kind={kind}): {}",
        fields.join(", ")
    ))
}
