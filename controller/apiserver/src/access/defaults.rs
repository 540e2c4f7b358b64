//! Roles and bindings that are there from the start.
//!
//! The server brings those that every Kubernetes client counts on; whoever builds it adds those of its own kinds. They are
//! set right at each start: rules, labels and aggregation of a role are exactly as shipped, a binding has at least the
//! subjects that were shipped. An annotation `rbac.authorization.kubernetes.io/autoupdate: "false"` keeps an object as its
//! owner made it.

use std::sync::Arc;

use serde_json::{Value, json};

use super::policy::GROUP;
use crate::error::Error;
use crate::object::{Object, meta, set_meta};
use crate::registry::Resource;
use crate::server::{ApiServer, Server};
use crate::storage;
use crate::write::Change;

/// What every server of this kind has.
const DOCUMENTS: &str = include_str!("defaults.yaml");
/// Says whether an object is set right at each start.
const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

impl ApiServer {
    /// Creates or sets right the roles and bindings of these documents, and returns once they are in force.
    ///
    /// # Errors
    /// [`Error::BadRequest`] when a document is none of the four kinds of `rbac.authorization.k8s.io/v1`; otherwise what the
    /// store or the checks of every write say.
    pub async fn ensure_policy(&self, documents: &[Value]) -> Result<(), Error> {
        self.server.ensure_policy(documents).await
    }
}

impl Server {
    /// The roles and bindings that come with the server itself.
    pub(crate) async fn ensure_default_policy(&self) -> Result<(), Error> {
        let documents: Vec<Value> = serde_saphyr::from_str(DOCUMENTS)
            .map_err(|error| Error::Internal(format!("the default roles cannot be read: {error}")))?;
        self.ensure_policy(&documents).await
    }

    async fn ensure_policy(&self, documents: &[Value]) -> Result<(), Error> {
        for document in documents {
            let plural = match document["kind"].as_str().unwrap_or("") {
                "Role" => "roles",
                "ClusterRole" => "clusterroles",
                "RoleBinding" => "rolebindings",
                "ClusterRoleBinding" => "clusterrolebindings",
                other => return Err(Error::BadRequest(format!("{other:?} is no kind of role or binding"))),
            };
            self.ensure_one(&self.builtin(GROUP, plural)?, shipped(document)).await?;
        }
        self.aggregate_roles().await
    }

    async fn ensure_one(&self, resource: &Resource, mut wanted: Value) -> Result<(), Error> {
        let name = meta(&wanted, "name").to_owned();
        let namespace = resource.definition.namespaced.then(|| meta(&wanted, "namespace").to_owned());
        super::kinds::prepare(resource, &mut wanted);
        let key = storage::key(&self.store, &resource.definition, namespace.as_deref(), &name);
        if self.store.get(&key).await?.is_none() {
            match self.make(resource, wanted.clone()).await {
                Ok(_) => return Ok(()),
                Err(Error::AlreadyExists(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let change = |old: &Arc<Object>| {
            let new = set_right(&old.value, &wanted);
            Ok(if new == old.value { Change::Keep } else { Change::Put(new) })
        };
        let place = (namespace.as_deref(), name.as_str());
        match self.modify(resource, place, false, change).await {
            Ok(_) => Ok(()),
            Err(Error::NotFound(_)) => self.make(resource, wanted).await.map(drop),
            Err(error) => Err(error),
        }
    }
}

/// A document with the marks of what we ship.
fn shipped(document: &Value) -> Value {
    let mut document = document.clone();
    let mut annotations = document["metadata"]["annotations"].clone();
    if !annotations.is_object() {
        annotations = json!({});
    }
    annotations[AUTO_UPDATE] = json!("true");
    set_meta(&mut document, "annotations", Some(annotations));
    let mut labels = document["metadata"]["labels"].clone();
    if !labels.is_object() {
        labels = json!({});
    }
    labels["kubernetes.io/bootstrapping"] = json!("rbac-defaults");
    set_meta(&mut document, "labels", Some(labels));
    document
}

/// The stored object with what we ship in its place.
fn set_right(old: &Value, wanted: &Value) -> Value {
    if old["metadata"]["annotations"][AUTO_UPDATE] == "false" {
        return old.clone();
    }
    let mut new = old.clone();
    for map in ["labels", "annotations"] {
        let mut merged = old["metadata"][map].as_object().cloned().unwrap_or_default();
        merged.extend(wanted["metadata"][map].as_object().cloned().unwrap_or_default());
        set_meta(&mut new, map, Some(Value::Object(merged)));
    }
    if wanted["aggregationRule"].is_object() {
        new["aggregationRule"] = wanted["aggregationRule"].clone();
    } else if wanted["rules"].is_array() {
        new["rules"] = wanted["rules"].clone();
    }
    for subject in wanted["subjects"].as_array().into_iter().flatten() {
        match new["subjects"].as_array_mut() {
            Some(subjects) if subjects.contains(subject) => {}
            Some(subjects) => subjects.push(subject.clone()),
            None => new["subjects"] = json!([subject]),
        }
    }
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_documents_can_be_read_and_name_each_other() {
        let documents: Vec<Value> = serde_saphyr::from_str(DOCUMENTS).expect("documents");
        let is_role =
            |name: &Value| documents.iter().any(|d| d["kind"] == "ClusterRole" && d["metadata"]["name"] == *name);
        let mut bindings = 0;
        for binding in documents.iter().filter(|d| d["kind"] == "ClusterRoleBinding") {
            bindings += 1;
            assert!(is_role(&binding["roleRef"]["name"]), "{binding}");
        }
        assert!(bindings > 2);
    }

    #[test]
    fn rules_come_back_and_added_subjects_stay() {
        let subject = |name: &str| json!({"kind": "Group", "name": name});
        let wanted =
            shipped(&json!({"metadata": {"name": "r"}, "rules": [{"verbs": ["get"]}], "subjects": [subject("a")]}));
        let mut old = wanted.clone();
        old["rules"] = json!([{"verbs": ["*"]}]);
        old["subjects"] = json!([subject("b")]);
        old["metadata"]["labels"]["mine"] = json!("1");
        let new = set_right(&old, &wanted);
        assert_eq!(new["rules"], wanted["rules"]);
        assert_eq!(new["subjects"], json!([subject("b"), subject("a")]));
        assert_eq!(new["metadata"]["labels"]["mine"], "1");
        assert_eq!(set_right(&new, &wanted), new, "a second time changes nothing");
        old["metadata"]["annotations"][AUTO_UPDATE] = json!("false");
        assert_eq!(set_right(&old, &wanted), old);
    }
}
