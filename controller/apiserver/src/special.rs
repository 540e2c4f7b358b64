//! The few built-in kinds with manners of their own.
//!
//! Everything else about them is in their documents (`schema::builtin`); this is what a document cannot say.

use serde_json::{Map, Value, json};

use crate::access::kinds as access;
use crate::entries;
use crate::object::{meta, metadata_mut};
use crate::registry::{CRD_GROUP, CRD_PLURAL, Resource};
use crate::schema::builtin::normalize;
use crate::schema::{Definition, FieldError, unselectable};

/// The finalizer in a namespace's spec, taken off when its content is gone.
pub const NAMESPACE_FINALIZER: &str = "kubernetes";
/// The finalizer of a CRD, taken off when its instances are gone.
pub const CRD_FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";
/// The label by which selectors find a namespace by name.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// Completes a new object.
pub fn prepare_create(resource: &Resource, object: &mut Value) {
    normalize(&resource.definition, object);
    access::prepare(resource, object);
    if resource.is("", "namespaces") {
        label_with_name(object);
        object["spec"] = json!({"finalizers": [NAMESPACE_FINALIZER]});
        object["status"] = json!({"phase": "Active"});
    } else if resource.is(CRD_GROUP, CRD_PLURAL) {
        add_crd_finalizer(object);
    }
}

/// Completes a changed object.
pub fn prepare_update(resource: &Resource, old: &Value, new: &mut Value) {
    normalize(&resource.definition, new);
    access::prepare(resource, new);
    if resource.is("", "namespaces") {
        label_with_name(new);
        new["spec"] = old["spec"].clone();
    }
}

/// Rules beyond the schema.
pub fn validate(resource: &Resource, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    if resource.is(CRD_GROUP, CRD_PLURAL) {
        return validate_crd(new, old);
    }
    if resource.is("", "secrets") || resource.is("", "configmaps") {
        let mut errors = entries::validate(&resource.definition.kind, new, old);
        errors.extend(old.into_iter().flat_map(|old| validate_immutable(new, old)));
        return errors;
    }
    access::validate(resource, new, old)
}

/// Whether something other than `metadata.finalizers` keeps a deleted object.
pub fn holds(resource: &Resource, object: &Value) -> bool {
    resource.is("", "namespaces") && object["spec"]["finalizers"].as_array().is_some_and(|f| !f.is_empty())
}

/// What else changes when deletion begins.
pub fn mark_deleting(resource: &Resource, object: &mut Value) {
    if resource.is("", "namespaces") {
        object["status"]["phase"] = json!("Terminating");
    }
}

fn label_with_name(object: &mut Value) {
    let name = meta(object, "name").to_owned();
    let Some(metadata) = metadata_mut(object) else { return };
    let labels = metadata.entry("labels").or_insert_with(|| Value::Object(Map::new()));
    if let (Some(labels), false) = (labels.as_object_mut(), name.is_empty()) {
        labels.insert(NAME_LABEL.to_owned(), Value::String(name));
    }
}

fn add_crd_finalizer(object: &mut Value) {
    let mut finalizers: Vec<String> = crate::object::finalizers(object).map(str::to_owned).collect();
    if !finalizers.iter().any(|f| f == CRD_FINALIZER) {
        finalizers.push(CRD_FINALIZER.to_owned());
    }
    crate::object::set_finalizers(object, &finalizers);
}

fn validate_crd(new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if old.is_none_or(|old| old["spec"] != new["spec"]) {
        match Definition::from_crd(new) {
            Ok(definition) => errors.extend(unselectable(new, &definition)),
            Err(found) => errors.extend(found),
        }
    }
    let open = |document: &Value| document["spec"]["preserveUnknownFields"] == true;
    if open(new) && !old.is_some_and(open) {
        let why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in \
                   spec.versions[*].schema instead";
        errors.push(FieldError::invalid("spec.preserveUnknownFields", &json!(true), why));
    }
    let Some(old) = old else { return errors };
    for field in ["group", "scope"] {
        if old["spec"][field] != new["spec"][field] {
            errors.push(FieldError::invalid(format!("spec.{field}"), &new["spec"][field], "field is immutable"));
        }
    }
    let served = |name: &Value| new["spec"]["versions"].as_array().into_iter().flatten().any(|v| v["name"] == *name);
    for stored in new["status"]["storedVersions"].as_array().into_iter().flatten().filter(|v| !served(v)) {
        let why = format!("must appear in spec.versions: objects are stored as {stored}");
        errors.push(FieldError::invalid("status.storedVersions", stored, why));
    }
    errors
}

fn validate_immutable(new: &Value, old: &Value) -> Vec<FieldError> {
    if old["immutable"] != true {
        return Vec::new();
    }
    let fields = [("immutable", "immutable"), ("data", "data"), ("binaryData", "binaryData"), ("type", "type")];
    fields
        .iter()
        .filter(|(field, _)| old[field] != new[field])
        .map(|(_, path)| FieldError::forbidden(*path, "field is immutable when `immutable` is set"))
        .collect()
}
