//! Writing objects only when they differ.

use crate::Error;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::core::object::HasStatus;
use kube::{Client, Resource, ResourceExt, core::NamespaceResourceScope};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// An object's namespace; every namespaced object has one.
///
/// # Errors
/// [`Error::Incomplete`] when the API sent an object without it.
pub fn namespace_of<K: Resource>(object: &K) -> Result<&str, Error> {
    object.meta().namespace.as_deref().ok_or(Error::Incomplete("namespace"))
}

/// The typed API of an object's own namespace.
///
/// # Errors
/// [`Error::Incomplete`] when the object has no namespace.
pub fn api_of<K>(client: &Client, beside: &impl Resource) -> Result<Api<K>, Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    Ok(Api::namespaced(client.clone(), namespace_of(beside)?))
}

/// Stores `status` when it differs from what the object has. Conflicts come back as errors: the reconcile is repeated
/// with fresh data.
///
/// # Errors
/// [`Error::Api`].
pub async fn status<K>(api: &Api<K>, object: &K, status: K::Status) -> Result<bool, Error>
where
    K: Resource<DynamicType = ()> + HasStatus + Clone + Serialize + DeserializeOwned + Debug,
    K::Status: PartialEq,
{
    if object.status() == Some(&status) {
        return Ok(false);
    }
    let mut wanted = object.clone();
    *wanted.status_mut() = Some(status);
    let name = object.name_any();
    api.replace_status(&name, &PostParams::default(), &wanted)
        .await
        .map_err(Error::api(format!("write the status of {} {name}", K::kind(&()))))?;
    Ok(true)
}

/// Merges `patch` into the object, refusing if somebody wrote it since it was read.
///
/// # Errors
/// [`Error::Api`].
pub async fn merge<K>(api: &Api<K>, object: &K, mut patch: serde_json::Value) -> Result<K, Error>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    patch["metadata"]["resourceVersion"] = serde_json::json!(object.meta().resource_version);
    let name = object.name_any();
    api.patch(&name, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .map_err(Error::api(format!("change {} {name}", K::kind(&()))))
}

/// Creates the object, or says that it is there already by `None`.
///
/// # Errors
/// [`Error::Api`].
pub async fn create<K>(api: &Api<K>, object: &K) -> Result<Option<K>, Error>
where
    K: Resource<DynamicType = ()> + Clone + Serialize + DeserializeOwned + Debug,
{
    match api.create(&PostParams::default(), object).await {
        Ok(made) => Ok(Some(made)),
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => Ok(None),
        Err(error) => Err(Error::api(format!("create {} {}", K::kind(&()), object.name_any()))(error)),
    }
}

/// Replaces the whole object, refusing if somebody wrote it since it was read.
///
/// # Errors
/// [`Error::Api`].
pub async fn replace<K>(api: &Api<K>, object: &K) -> Result<K, Error>
where
    K: Resource<DynamicType = ()> + Clone + Serialize + DeserializeOwned + Debug,
{
    let name = object.name_any();
    api.replace(&name, &PostParams::default(), object)
        .await
        .map_err(Error::api(format!("change {} {name}", K::kind(&()))))
}

/// Whether `owner` is the controller of `object`.
pub fn is_owned_by(object: &impl Resource, owner: &impl Resource) -> bool {
    object
        .meta()
        .owner_references
        .iter()
        .flatten()
        .any(|reference| reference.controller == Some(true) && Some(&reference.uid) == owner.meta().uid.as_ref())
}
