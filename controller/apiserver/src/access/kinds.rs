//! The manners of roles and bindings: what is filled in, and what is refused beyond their schema.

use serde_json::{Value, json};

use super::policy::GROUP;
use crate::registry::Resource;
use crate::schema::FieldError;
use crate::schema::metadata::not_a_segment;

const ROLES: [&str; 2] = ["roles", "clusterroles"];
const BINDINGS: [&str; 2] = ["rolebindings", "clusterrolebindings"];

/// Whether the kind is a role of either scope.
#[must_use]
pub fn is_role(resource: &Resource) -> bool {
    ROLES.iter().any(|plural| resource.is(GROUP, plural))
}

/// Whether the kind is a binding of either scope.
#[must_use]
pub fn is_binding(resource: &Resource) -> bool {
    BINDINGS.iter().any(|plural| resource.is(GROUP, plural))
}

/// Fills in API groups, which clients leave out where there is only one.
pub fn prepare(resource: &Resource, object: &mut Value) {
    if !is_binding(resource) {
        return;
    }
    let lacks = |value: &Value| value.as_str().is_none_or(str::is_empty);
    if object["roleRef"].is_object() && lacks(&object["roleRef"]["apiGroup"]) {
        object["roleRef"]["apiGroup"] = json!(GROUP);
    }
    for subject in object["subjects"].as_array_mut().into_iter().flatten() {
        let person = subject["kind"] == "User" || subject["kind"] == "Group";
        if person && lacks(&subject["apiGroup"]) {
            subject["apiGroup"] = json!(GROUP);
        }
    }
}

/// Everything wrong with a role or a binding.
#[must_use]
pub fn validate(resource: &Resource, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    if is_role(resource) {
        let rules = new["rules"].as_array().into_iter().flatten();
        return rules.enumerate().flat_map(|(at, rule)| rule_errors(resource, rule, &format!("rules[{at}]"))).collect();
    }
    if !is_binding(resource) {
        return Vec::new();
    }
    let mut errors = role_ref_errors(resource, &new["roleRef"]);
    if old.is_some_and(|old| old["roleRef"] != new["roleRef"]) {
        errors.push(FieldError::invalid("roleRef", &new["roleRef"], "cannot change roleRef"));
    }
    for (at, subject) in new["subjects"].as_array().into_iter().flatten().enumerate() {
        errors.extend(subject_errors(subject, &format!("subjects[{at}]")));
    }
    errors
}

fn rule_errors(resource: &Resource, rule: &Value, at: &str) -> Vec<FieldError> {
    let empty = |field: &str| rule[field].as_array().is_none_or(Vec::is_empty);
    let mut errors = Vec::new();
    if empty("verbs") {
        errors.push(FieldError::required(format!("{at}.verbs"), "verbs must contain at least one value"));
    }
    if !empty("nonResourceURLs") {
        let field = format!("{at}.nonResourceURLs");
        if resource.definition.namespaced {
            let why = "namespaced rules cannot apply to non-resource URLs";
            errors.push(FieldError::invalid(&field, &rule["nonResourceURLs"], why));
        }
        if ["apiGroups", "resources", "resourceNames"].iter().any(|field| !empty(field)) {
            let why = "rules cannot apply to both regular resources and non-resource URLs";
            errors.push(FieldError::invalid(field, &rule["nonResourceURLs"], why));
        }
        return errors;
    }
    if empty("apiGroups") {
        let why = "resource rules must supply at least one api group";
        errors.push(FieldError::required(format!("{at}.apiGroups"), why));
    }
    if empty("resources") {
        errors
            .push(FieldError::required(format!("{at}.resources"), "resource rules must supply at least one resource"));
    }
    errors
}

fn role_ref_errors(resource: &Resource, role: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if role["apiGroup"] != GROUP {
        errors.push(FieldError::not_supported("roleRef.apiGroup", &role["apiGroup"], &[GROUP]));
    }
    let kinds: &[&str] = if resource.definition.namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    if !kinds.iter().any(|kind| role["kind"] == *kind) {
        errors.push(FieldError::not_supported("roleRef.kind", &role["kind"], kinds));
    }
    let name = role["name"].as_str().unwrap_or("");
    if name.is_empty() {
        errors.push(FieldError::required("roleRef.name", ""));
    } else if let Some(why) = not_a_segment(name) {
        errors.push(FieldError::invalid("roleRef.name", &role["name"], why));
    }
    errors
}

fn subject_errors(subject: &Value, at: &str) -> Vec<FieldError> {
    let text = |field: &str| subject[field].as_str().unwrap_or("");
    let mut errors = Vec::new();
    if text("name").is_empty() {
        errors.push(FieldError::required(format!("{at}.name"), ""));
    }
    let group = match text("kind") {
        "ServiceAccount" => {
            if text("namespace").is_empty() {
                errors.push(FieldError::required(format!("{at}.namespace"), ""));
            }
            ""
        }
        "User" | "Group" => GROUP,
        _ => {
            let kinds = ["ServiceAccount", "User", "Group"];
            errors.push(FieldError::not_supported(format!("{at}.kind"), &subject["kind"], &kinds));
            return errors;
        }
    };
    if text("apiGroup") != group {
        errors.push(FieldError::not_supported(format!("{at}.apiGroup"), &subject["apiGroup"], &[group]));
    }
    errors
}
