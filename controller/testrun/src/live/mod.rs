//! The effects on a real installation, all of them through the API.

mod artifact;
mod store;

pub use artifact::sweep;

use crate::effects::{Effects, ReachError, SaveError, States, StoreError};
use crds::exec::{ExecRequest, ExecResult};
use crds::reference::ObjectReference;
use crds::{
    Cluster, DNSRecordSet, DNSZone, ExternalNetwork, Fault, Host, Image, LoadBalancer, Node, Port, Router,
    SecurityGroup, ServiceIP, TenantNetwork, TestRun, TestRunStatus, VirtualMachine, Volume,
};
use futures::{StreamExt, stream};
use jiff::Timestamp;
use kube::api::{ListParams, PostParams};
use kube::core::{ApiResource, DynamicObject};
use kube::runtime::WatchStreamExt;
use kube::runtime::events::Recorder;
use kube::runtime::watcher::watch_object;
use kube::{Api, Client, ResourceExt};
use std::path::PathBuf;
use tokio::sync::Mutex;

/// The world of one run.
pub struct Live {
    client: Client,
    recorder: Recorder,
    namespace: String,
    artifacts: PathBuf,
    /// The status as the API last knew it from us.
    known: Mutex<Option<TestRunStatus>>,
}

impl Live {
    /// The world as `run` sees it; `run` has just been read.
    #[must_use]
    pub fn new(client: Client, recorder: Recorder, artifacts: PathBuf, run: &TestRun) -> Self {
        Self {
            client,
            recorder,
            namespace: run.namespace().unwrap_or_default(),
            artifacts,
            known: Mutex::new(run.status.clone()),
        }
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}

impl Effects for Live {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn store(&self, run: &TestRun) -> Result<TestRun, StoreError> {
        let mut known = self.known.lock().await;
        let stored = store::store(&self.api(), run, known.as_ref()).await?;
        let before = known.as_ref().map(|status| status.phase);
        *known = run.status.clone();
        store::announce(&self.recorder, run, before.unwrap_or_default()).await;
        Ok(stored)
    }

    async fn exec(&self, machine: &str, request: &ExecRequest) -> Result<ExecResult, ReachError> {
        check_name(machine)?;
        let path = format!(
            "/apis/{}/{}/namespaces/{}/virtualmachines/{machine}/exec",
            crds::GROUP,
            crds::VERSION,
            self.namespace
        );
        let body = serde_json::to_vec(request).map_err(|e| ReachError::Refused(e.to_string()))?;
        let request = http::Request::post(path)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(|error| ReachError::Refused(error.to_string()))?;
        self.client.request(request).await.map_err(reach_error)
    }

    async fn inject(&self, fault: &Fault) -> Result<(), ReachError> {
        let api: Api<Fault> = self.api();
        match api.create(&PostParams::default(), fault).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
            result => result.map(drop).map_err(reach_error),
        }
    }

    fn watch(&self, object: &ObjectReference) -> States {
        let refused = |why| stream::once(async { Err(ReachError::Refused(why)) }).boxed();
        let Some((resource, namespaced)) = resource(&object.kind) else {
            return refused(format!("there is no kind {}", object.kind));
        };
        if let Err(error) = check_name(&object.name) {
            return refused(error.to_string());
        }
        let api: Api<DynamicObject> = if namespaced {
            Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
        } else {
            Api::all_with(self.client.clone(), &resource)
        };
        watch_object(api, &object.name)
            .default_backoff()
            .map(|state| match state {
                Ok(None) => Ok(None),
                Ok(Some(found)) => {
                    serde_json::to_value(found).map(Some).map_err(|error| ReachError::Refused(error.to_string()))
                }
                Err(error) => Err(ReachError::Unavailable(error.to_string())),
            })
            .boxed()
    }

    async fn list(&self, kind: &str) -> Result<Vec<serde_json::Value>, ReachError> {
        let refused = |why: String| ReachError::Refused(why);
        let (resource, namespaced) = resource(kind).ok_or_else(|| refused(format!("there is no kind {kind}")))?;
        let api: Api<DynamicObject> = if namespaced {
            Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
        } else {
            Api::all_with(self.client.clone(), &resource)
        };
        let found = api.list(&ListParams::default()).await.map_err(reach_error)?;
        found
            .items
            .into_iter()
            .map(|one| serde_json::to_value(one).map_err(|error| refused(error.to_string())))
            .collect()
    }

    async fn save(&self, path: &str, content: &str) -> Result<(), SaveError> {
        artifact::save(&self.artifacts, path, content).await
    }
}

/// The resource of a kind of ours, and whether it lives in namespaces.
fn resource(kind: &str) -> Option<(ApiResource, bool)> {
    let of = match kind {
        "Cluster" => ApiResource::erase::<Cluster>(&()),
        "DNSRecordSet" => ApiResource::erase::<DNSRecordSet>(&()),
        "DNSZone" => ApiResource::erase::<DNSZone>(&()),
        "ExternalNetwork" => return Some((ApiResource::erase::<ExternalNetwork>(&()), false)),
        "Fault" => ApiResource::erase::<Fault>(&()),
        "Host" => return Some((ApiResource::erase::<Host>(&()), false)),
        "Image" => ApiResource::erase::<Image>(&()),
        "LoadBalancer" => ApiResource::erase::<LoadBalancer>(&()),
        "Node" => ApiResource::erase::<Node>(&()),
        "Port" => ApiResource::erase::<Port>(&()),
        "SecurityGroup" => ApiResource::erase::<SecurityGroup>(&()),
        "Router" => ApiResource::erase::<Router>(&()),
        "ServiceIP" => ApiResource::erase::<ServiceIP>(&()),
        "TenantNetwork" => ApiResource::erase::<TenantNetwork>(&()),
        "TestRun" => ApiResource::erase::<TestRun>(&()),
        "VirtualMachine" => ApiResource::erase::<VirtualMachine>(&()),
        "Volume" => ApiResource::erase::<Volume>(&()),
        _ => return None,
    };
    Some((of, true))
}

/// Names go into paths and selectors: nothing but an object's name may get there.
fn check_name(name: &str) -> Result<(), ReachError> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    if !name.is_empty() && name.chars().all(fits) {
        return Ok(());
    }
    Err(ReachError::Refused(format!("{name:?} is no object's name")))
}

fn reach_error(error: kube::Error) -> ReachError {
    match error {
        kube::Error::Api(status) => {
            let message = status.message.clone();
            match status.code {
                404 => ReachError::Missing(message),
                400 | 401 | 403 | 405 | 413 | 422 | 501 => ReachError::Refused(message),
                _ => ReachError::Unavailable(message),
            }
        }
        error => ReachError::Unavailable(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_can_be_watched_and_nothing_else() {
        for crd in crds::all() {
            let kind = &crd.spec.names.kind;
            let (found, namespaced) = resource(kind).unwrap();
            assert_eq!(found.plural, crd.spec.names.plural);
            assert_eq!(namespaced, crd.spec.scope == "Namespaced", "{kind}");
        }
        assert!(resource("Secret").is_none());
        assert!(check_name("node01").is_ok());
        for name in ["", "a/b", "a,metadata.name=b", "..%2f", "A"] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
