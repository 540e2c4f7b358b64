//! POST to a collection.

use std::sync::Arc;

use serde_json::{Value, json};
use store::Revision;

use super::{Change, Written, admit, ownership};
use crate::dispatch::Call;
use crate::error::Error;
use crate::object::{Object, is_deleting, meta, set_meta};
use crate::registry::{CRD_GROUP, CRD_PLURAL, Resource};
use crate::server::Server;
use crate::{special, storage, text};

/// Fresh names tried for a `generateName` before the clash is the client's.
const NAME_ATTEMPTS: usize = 8;

impl Server {
    /// Creates an object from a request's body.
    pub(crate) async fn create(&self, call: &Call, mut body: Value) -> Result<Written, Error> {
        admit::identify(call, &mut body)?;
        if !meta(&body, "resourceVersion").is_empty() {
            return Err(Error::BadRequest("resourceVersion should not be set on objects to be created".to_owned()));
        }
        let mut warnings = admit::prune(call, &mut body)?;
        warnings.extend(admit::deprecation(&call.resource));
        self.check_create(&call.resource, call.namespace.as_deref(), &body).await?;
        let owner = ownership::Owner::updates(call);
        let object = self.insert(&call.resource, body, &owner, call.query.dry_run, Some(call)).await?;
        Ok(Written { code: 201, changed: !call.query.dry_run, view: call.resource.view(&object), warnings })
    }

    /// Whether an object may be made here.
    pub(super) async fn check_create(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        body: &Value,
    ) -> Result<(), Error> {
        if resource.definition.terminating {
            return Err(Error::Terminating);
        }
        self.check_namespace(resource, namespace, meta(body, "name")).await?;
        self.check_group(resource, body)
    }

    /// Stores a new object of the server's own making.
    pub(crate) async fn make(&self, resource: &Resource, body: Value) -> Result<Arc<Object>, Error> {
        self.insert(resource, body, &ownership::Owner::Nobody, false, None).await
    }

    /// Stores a new object, trying several names when it leaves the choice to us. `by` is the request it is made for;
    /// without one, the server itself makes it.
    pub(super) async fn insert(
        &self,
        resource: &Resource,
        body: Value,
        owner: &ownership::Owner,
        dry_run: bool,
        by: Option<&Call>,
    ) -> Result<Arc<Object>, Error> {
        let generate = meta(&body, "generateName").to_owned();
        if generate.is_empty() || !meta(&body, "name").is_empty() {
            return self.insert_named(resource, body, owner, dry_run, by).await;
        }
        let mut attempt = 1;
        loop {
            let mut object = body.clone();
            set_meta(&mut object, "name", Some(json!(generated_name(&generate))));
            match self.insert_named(resource, object, owner, dry_run, by).await {
                Err(Error::AlreadyExists(_)) if attempt < NAME_ATTEMPTS => attempt += 1,
                other => return other,
            }
        }
    }

    async fn insert_named(
        &self,
        resource: &Resource,
        mut object: Value,
        owner: &ownership::Owner,
        dry_run: bool,
        by: Option<&Call>,
    ) -> Result<Arc<Object>, Error> {
        let definition = &resource.definition;
        if resource.version().status_subresource
            && let Some(map) = object.as_object_mut()
        {
            map.remove("status");
        }
        special::prepare_create(resource, &mut object);
        resource.version().schema.default(&mut object);
        for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "managedFields", "selfLink"] {
            set_meta(&mut object, field, None);
        }
        set_meta(&mut object, "uid", Some(json!(uuid::Uuid::new_v4().to_string())));
        set_meta(&mut object, "creationTimestamp", Some(json!(text::now())));
        set_meta(&mut object, "generation", definition.generation.then(|| json!(1)));
        admit::validate(resource, &object, None)?;
        by.map_or(Ok(()), |call| call.may_store(None, &object))?;
        let name = meta(&object, "name").to_owned();
        let namespace = definition.namespaced.then(|| meta(&object, "namespace").to_owned());
        let key = storage::key(&self.store, definition, namespace.as_deref(), &name);
        let managed = owner.of_new(resource, &object);
        let (value, text) = storage::encode(resource, object, &managed);
        if dry_run {
            if self.store.get(&key).await?.is_some() {
                return Err(Error::AlreadyExists(resource.subject(&name)));
            }
            let mut object = Object::new(value, managed, Revision::ZERO);
            set_meta(&mut object.value, "resourceVersion", None);
            return Ok(Arc::new(object));
        }
        let written = self.store.create(&key, text.bytes.clone()).await;
        let written = written.map_err(|e| storage::refused(e, resource.subject(&name)))?;
        self.metrics.wrote(&definition.plural);
        let object = Arc::new(Object::stored(value, managed, &text, written.mod_revision));
        written.remember(object.clone());
        self.note_chore("create", resource, &object, written.mod_revision);
        if resource.is(CRD_GROUP, CRD_PLURAL) {
            self.registry.reached(written.mod_revision).await;
        }
        Ok(object)
    }

    /// Objects are only made in namespaces that exist and stay.
    pub(crate) async fn check_namespace(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<(), Error> {
        let Some(namespace) = namespace else { return Ok(()) };
        let namespaces = self.builtin("", "namespaces")?;
        let key = storage::key(&self.store, &namespaces.definition, None, namespace);
        let found = match self.store.get_stale(&key) {
            Some(entry) => Some(entry),
            None => self.store.get(&key).await?,
        };
        let Some(entry) = found else { return Err(Error::NotFound(namespaces.subject(namespace))) };
        if is_deleting(&Object::of(&entry)?.value) {
            return Err(Error::Forbidden {
                subject: resource.subject(name),
                why: format!("unable to create new content in namespace {namespace} because it is being terminated"),
                cause: Some(Box::new((
                    "NamespaceTerminating",
                    format!("namespace {namespace} is being terminated"),
                    "metadata.namespace",
                ))),
            });
        }
        Ok(())
    }

    /// A CRD may not add kinds to the groups the server itself brings.
    fn check_group(&self, resource: &Resource, body: &Value) -> Result<(), Error> {
        let group = body["spec"]["group"].as_str().unwrap_or("");
        let ours = |d: &Arc<crate::schema::Definition>| d.builtin && d.group == group;
        if resource.is(CRD_GROUP, CRD_PLURAL) && self.registry.catalog().definitions.iter().any(ours) {
            let why = format!("the group {group:?} belongs to the server");
            let error = crate::schema::FieldError::forbidden("spec.group", why);
            return Err(Error::Invalid(resource.kind_subject(meta(body, "name")), vec![error]));
        }
        Ok(())
    }

    /// Makes sure an object exists and its spec is as given, for documents the server's owner brings.
    pub(crate) async fn ensure(&self, resource: &Resource, wanted: &Value) -> Result<Revision, Error> {
        let name = meta(wanted, "name").to_owned();
        let key = storage::key(&self.store, &resource.definition, None, &name);
        if self.store.get(&key).await?.is_none() {
            match self.make(resource, wanted.clone()).await {
                Ok(object) => return Ok(revision_of(&object)),
                Err(Error::AlreadyExists(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let done = self
            .modify(resource, (None, &name), false, |old| {
                let mut new = old.value.clone();
                let Some(spec) = wanted.get("spec") else { return Ok(Change::Keep) };
                new["spec"] = spec.clone();
                super::update::finish(resource, None, &old.value, new, None)
            })
            .await?;
        Ok(done.revision)
    }
}

fn revision_of(object: &Object) -> Revision {
    meta(&object.value, "resourceVersion").parse().unwrap_or(Revision::ZERO)
}

/// `prefix` cut so that the random part fits into a name.
fn generated_name(prefix: &str) -> String {
    let kept: String = prefix.chars().take(58).collect();
    format!("{kept}{}", text::random_suffix())
}
