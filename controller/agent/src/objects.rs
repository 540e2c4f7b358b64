//! Writing to the API: finalizers, status, events. Nothing is written that would say nothing new.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};

use crds::AGENT_FINALIZER;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::core::object::HasStatus;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::Semaphore;

use crate::error::ApiError;
use crate::metrics::METRICS;
use control_loop::{Kind, sentence};

const ATTEMPTS: u32 = 4;
/// Writes under way at once: of the many that look at the same time, not all need to write at the same time.
const AT_ONCE: usize = 64;

/// A kind that lives in a namespace and can be read and written.
pub trait Stored: Kind + Resource<Scope = NamespaceResourceScope> + Serialize + DeserializeOwned {}
impl<K: Kind + Resource<Scope = NamespaceResourceScope> + Serialize + DeserializeOwned> Stored for K {}

/// The agent's pen.
pub struct Objects {
    client: Client,
    recorder: Recorder,
    writes: AtomicU64,
    turns: Semaphore,
}

impl Objects {
    /// Writes through `client`, signing events with the host's name.
    pub fn new(client: Client, host: &str) -> Self {
        let reporter = Reporter { controller: "clusterctl-agent".to_owned(), instance: Some(host.to_owned()) };
        Self {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            writes: AtomicU64::new(0),
            turns: Semaphore::new(AT_ONCE),
        }
    }

    /// The API of one kind in one namespace.
    pub fn api<K: Stored>(&self, namespace: &str) -> Api<K> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Writes made so far, events apart.
    pub fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    fn wrote<K: Kind>(&self) {
        self.writes.fetch_add(1, Ordering::Relaxed);
        METRICS.writes.with_label_values(&[K::kind(&()).as_ref()]).inc();
    }

    /// The object with our finalizer on it; `None` when it is gone or being deleted, so that nothing may be begun for it.
    pub async fn claim<K: Stored>(&self, object: &K) -> Result<Option<K>, ApiError> {
        if object.finalizers().iter().any(|f| f == AGENT_FINALIZER) {
            return Ok(Some(object.clone()));
        }
        self.change_finalizers(object, |found| {
            let ours = found.finalizers().iter().any(|f| f == AGENT_FINALIZER);
            let dying = found.meta().deletion_timestamp.is_some();
            (!ours && !dying).then(|| {
                let mut all = found.finalizers().to_vec();
                all.push(AGENT_FINALIZER.to_owned());
                all
            })
        })
        .await
        .map(|found| found.filter(|object| object.meta().deletion_timestamp.is_none()))
    }

    /// Takes our finalizer off: nothing of the object is left on this host.
    pub async fn release<K: Stored>(&self, object: &K) -> Result<(), ApiError> {
        if !object.finalizers().iter().any(|f| f == AGENT_FINALIZER) {
            return Ok(());
        }
        self.change_finalizers(object, |found| {
            let all = found.finalizers();
            all.iter()
                .any(|f| f == AGENT_FINALIZER)
                .then(|| all.iter().filter(|f| *f != AGENT_FINALIZER).cloned().collect())
        })
        .await
        .map(drop)
    }

    /// Replaces the list of finalizers by what `change` makes of it, if anything, under the version it was read at.
    async fn change_finalizers<K: Stored>(
        &self,
        object: &K,
        change: impl Fn(&K) -> Option<Vec<String>>,
    ) -> Result<Option<K>, ApiError> {
        let api = self.api::<K>(&object.namespace().unwrap_or_default());
        let name = object.name_any();
        let mut found = object.clone();
        for _ in 0..ATTEMPTS {
            let Some(finalizers) = change(&found) else { return Ok(Some(found)) };
            let _turn = self.turns.acquire().await;
            let patch = json!({"metadata": {"resourceVersion": found.resource_version(), "finalizers": finalizers}});
            match api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await {
                Ok(written) => {
                    self.wrote::<K>();
                    return Ok(Some(written));
                }
                Err(error) if is(&error, 404) => return Ok(None),
                Err(error) if is(&error, 409) => match reread(&api, object).await? {
                    Some(fresh) => found = fresh,
                    None => return Ok(None),
                },
                Err(source) => return Err(failed::<K>("patch", &name, source)),
            }
        }
        Err(ApiError::Contended { kind: K::kind(&()).into_owned(), name, attempts: ATTEMPTS })
    }

    /// Stores `status` when it differs from what the object has. We are its only writer, so on a conflict ours stands.
    pub async fn publish<K>(&self, object: &K, status: K::Status) -> Result<(), ApiError>
    where
        K: Stored + HasStatus,
        K::Status: PartialEq + Clone + Debug,
    {
        let api = self.api::<K>(&object.namespace().unwrap_or_default());
        let name = object.name_any();
        let mut next = object.clone();
        for _ in 0..ATTEMPTS {
            if next.status() == Some(&status) {
                return Ok(());
            }
            *next.status_mut() = Some(status.clone());
            let _turn = self.turns.acquire().await;
            match api.replace_status(&name, &PostParams::default(), &next).await {
                Ok(_) => {
                    self.wrote::<K>();
                    return Ok(());
                }
                Err(error) if is(&error, 404) => return Ok(()),
                Err(error) if is(&error, 409) => match reread(&api, object).await? {
                    Some(fresh) => next = fresh,
                    None => return Ok(()),
                },
                Err(source) => return Err(failed::<K>("write the status of", &name, source)),
            }
        }
        Err(ApiError::Contended { kind: K::kind(&()).into_owned(), name, attempts: ATTEMPTS })
    }

    /// Tells people what happened to the object. An event that cannot be written is logged: it must stop nothing.
    pub async fn event<K: Kind>(&self, object: &K, warning: bool, reason: &str, action: &str, note: impl Into<String>) {
        // The API refuses a longer one; in UTF-8 a character has at most four bytes.
        let note: String = note.into().chars().take(250).collect();
        let event = Event {
            type_: if warning { EventType::Warning } else { EventType::Normal },
            reason: reason.to_owned(),
            note: Some(note),
            action: action.to_owned(),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, &object.object_ref(&())).await {
            tracing::warn!(reason, error = sentence(&error), "failed to write an event");
        }
    }
}

/// The present object, when it is still the same one.
async fn reread<K: Stored>(api: &Api<K>, object: &K) -> Result<Option<K>, ApiError> {
    let name = object.name_any();
    let found = api.get_opt(&name).await.map_err(|source| failed::<K>("read", &name, source))?;
    Ok(found.filter(|found| found.uid() == object.uid()))
}

fn is(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}

fn failed<K: Kind>(verb: &'static str, name: &str, source: kube::Error) -> ApiError {
    ApiError::Request { verb, kind: K::kind(&()).into_owned(), name: name.to_owned(), source: Box::new(source) }
}
