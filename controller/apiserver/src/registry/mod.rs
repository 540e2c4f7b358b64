//! Which kinds are served right now.
//!
//! A [`Catalog`] is an immutable picture; requests take one and keep it to their end, so a CRD that changes meanwhile
//! cannot pull a schema from under them. `live` draws a new picture whenever a CRD changes.

mod live;
mod names;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use bytes::Bytes;
use serde_json::Value;
use store::Revision;
use tokio::sync::watch;

pub use live::Live;
pub use names::crd_status;

use crate::error::Error;
use crate::object::{Object, View};
use crate::schema::{self, Definition, Version};

/// Group of CustomResourceDefinitions.
pub const CRD_GROUP: &str = "apiextensions.k8s.io";
/// Plural of CustomResourceDefinitions.
pub const CRD_PLURAL: &str = "customresourcedefinitions";

/// A kind in one version, as a request addresses it.
#[derive(Debug, Clone)]
pub struct Resource {
    /// The kind.
    pub definition: Arc<Definition>,
    index: usize,
}

impl Resource {
    /// The addressed version.
    #[must_use]
    pub fn version(&self) -> &Version {
        &self.definition.versions[self.index]
    }

    /// The kind in the version it is stored in.
    #[must_use]
    pub fn stored(definition: &Arc<Definition>) -> Self {
        Self { index: definition.storage_version, definition: definition.clone() }
    }

    /// `GROUP/VERSION`.
    #[must_use]
    pub fn api_version(&self) -> String {
        self.definition.api_version(self.version())
    }

    /// Whether this is a certain built-in kind.
    #[must_use]
    pub fn is(&self, group: &str, plural: &str) -> bool {
        self.definition.group == group && self.definition.plural == plural
    }

    /// The object in the addressed version.
    #[must_use]
    pub fn view(&self, object: &Arc<Object>) -> View {
        let api_version = object.value["apiVersion"].as_str().unwrap_or("");
        let version = self.version();
        let same = match api_version.split_once('/') {
            Some((group, name)) => group == self.definition.group && name == version.name,
            None => self.definition.group.is_empty() && api_version == version.name,
        };
        if same {
            return View::Shared(object.clone());
        }
        let mut value = object.value.clone();
        self.definition.decode(version, &mut value);
        if !self.definition.builtin {
            // What only the stored version has does not exist in this one.
            version.schema.prune(&mut value);
        }
        View::Own(Arc::new(Object::converted(value, object.managed.clone())))
    }

    /// What an error about one object names.
    #[must_use]
    pub fn subject(&self, name: &str) -> crate::error::Subject {
        crate::error::Subject {
            group: self.definition.group.clone(),
            resource: self.definition.plural.clone(),
            name: name.to_owned(),
        }
    }

    /// What an `Invalid` names: the kind, not the plural.
    #[must_use]
    pub fn kind_subject(&self, name: &str) -> crate::error::Subject {
        crate::error::Subject { resource: self.definition.kind.clone(), ..self.subject(name) }
    }
}

/// All kinds served at one moment.
#[derive(Debug, Default)]
pub struct Catalog {
    /// Every kind; built-in ones first, then CRDs by name.
    pub definitions: Vec<Arc<Definition>>,
    /// The state of the CRDs this was made from.
    pub revision: Revision,
    index: HashMap<String, BTreeMap<String, usize>>,
    documents: Documents,
}

/// Documents derived from the whole catalog, made on demand and kept with it.
#[derive(Debug, Default)]
struct Documents {
    v3_index: OnceLock<Bytes>,
    v2_json: OnceLock<Value>,
    v2_protobuf: OnceLock<Bytes>,
    v3: std::sync::Mutex<HashMap<(String, String), Option<Bytes>>>,
}

impl Catalog {
    /// A catalog of these kinds.
    #[must_use]
    pub fn new(definitions: Vec<Arc<Definition>>, revision: Revision) -> Self {
        let mut index: HashMap<String, BTreeMap<String, usize>> = HashMap::new();
        for (at, definition) in definitions.iter().enumerate() {
            index.entry(definition.group.clone()).or_default().insert(definition.plural.clone(), at);
        }
        Self { definitions, revision, index, documents: Documents::default() }
    }

    /// The kind behind a plural.
    #[must_use]
    pub fn definition(&self, group: &str, plural: &str) -> Option<&Arc<Definition>> {
        self.index.get(group)?.get(plural).map(|at| &self.definitions[*at])
    }

    /// The kind behind a path, when that version is served.
    pub fn resource(&self, group: &str, version: &str, plural: &str) -> Result<Resource, Error> {
        let definition = self.definition(group, plural).ok_or(Error::NoRoute)?;
        let index = definition.versions.iter().position(|v| v.name == version && v.served).ok_or(Error::NoRoute)?;
        Ok(Resource { definition: definition.clone(), index })
    }

    /// `/openapi/v3`.
    pub fn openapi_v3_index(&self) -> Bytes {
        let make = || Bytes::from(schema::openapi::v3_index(&self.definitions).to_string());
        self.documents.v3_index.get_or_init(make).clone()
    }

    /// `/openapi/v3/…` of one group version.
    pub fn openapi_v3(&self, group: &str, version: &str) -> Option<Bytes> {
        let mut known = self.documents.v3.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .entry((group.to_owned(), version.to_owned()))
            .or_insert_with(|| {
                let document = schema::openapi::v3_document(&self.definitions, group, version)?;
                Some(Bytes::from(document.to_string()))
            })
            .clone()
    }

    /// `/openapi/v2` as JSON.
    pub fn openapi_v2(&self) -> &Value {
        self.documents.v2_json.get_or_init(|| schema::openapi::v2_document(&self.definitions))
    }

    /// `/openapi/v2` as gnostic's protobuf.
    pub fn openapi_v2_protobuf(&self) -> Bytes {
        let make = || Bytes::from(schema::openapi::v2_protobuf(self.openapi_v2()));
        self.documents.v2_protobuf.get_or_init(make).clone()
    }
}

/// The current catalog, replaced as CRDs change.
#[derive(Debug)]
pub struct Registry {
    current: RwLock<Arc<Catalog>>,
    revision: watch::Sender<Revision>,
    connect: RwLock<Vec<(String, String, String)>>,
    connect_changed: tokio::sync::Notify,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            current: RwLock::default(),
            revision: watch::Sender::new(Revision::ZERO),
            connect: RwLock::default(),
            connect_changed: tokio::sync::Notify::new(),
        }
    }
}

impl Registry {
    /// The catalog of this moment.
    #[must_use]
    pub fn catalog(&self) -> Arc<Catalog> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn publish(&self, catalog: Catalog) {
        let revision = catalog.revision;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(catalog);
        self.revision.send_replace(revision);
    }

    /// Waits until the catalog reflects CRDs up to `revision`.
    pub async fn reached(&self, revision: Revision) {
        let mut seen = self.revision.subscribe();
        // The sender lives in `self`, so waiting cannot fail while we are borrowed.
        let _ = seen.wait_for(|at| *at >= revision).await;
    }

    /// Tells when the catalog was drawn anew.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Revision> {
        self.revision.subscribe()
    }

    /// Declares a connect subresource, which discovery then shows.
    pub fn declare_connect(&self, group: &str, plural: &str, subresource: &str) {
        let entry = (group.to_owned(), plural.to_owned(), subresource.to_owned());
        let mut known = self.connect.write().unwrap_or_else(PoisonError::into_inner);
        if !known.contains(&entry) {
            known.push(entry);
        }
        self.connect_changed.notify_one();
    }

    fn connect_of(&self, definition: &Definition) -> Vec<String> {
        let known = self.connect.read().unwrap_or_else(PoisonError::into_inner);
        known
            .iter()
            .filter(|(group, plural, _)| *group == definition.group && *plural == definition.plural)
            .map(|(_, _, subresource)| subresource.clone())
            .collect()
    }
}
