//! Nobody hands out what they do not have.
//!
//! Writing a role needs all of its rules, or the verb `escalate` on roles; writing a binding needs all rules of its role, or
//! the verb `bind` on that role. Otherwise the right to write roles would be the right to everything. As in Kubernetes, a
//! write that leaves rules and subjects as they are (labels, finalizers) needs neither.

use serde_json::Value;

use super::Access;
use super::attributes::{Attributes, Named};
use super::kinds::{is_binding, is_role};
use super::policy::{GROUP, RoleRef};
use super::rule::{Rule, missing, quoted};
use crate::error::{Error, Subject};
use crate::identity::Identity;
use crate::object::meta;
use crate::registry::Resource;

impl Access {
    /// Whether the caller may give what this role or binding gives; other kinds give nothing.
    pub(super) fn check_grant(
        &self,
        caller: &Identity,
        resource: &Resource,
        old: Option<&Value>,
        new: &Value,
    ) -> Result<(), Error> {
        if caller.is_master() {
            return Ok(());
        }
        let same = |fields: &[&str]| old.is_some_and(|old| fields.iter().all(|field| old[field] == new[field]));
        if is_role(resource) && !same(&["rules", "aggregationRule"]) {
            return self.check_role(caller, resource, new);
        }
        if is_binding(resource) && !same(&["roleRef", "subjects"]) {
            return self.check_binding(caller, resource, new);
        }
        Ok(())
    }

    fn check_role(&self, caller: &Identity, resource: &Resource, role: &Value) -> Result<(), Error> {
        let (namespace, name) = (meta(role, "namespace"), meta(role, "name"));
        let plural = &resource.definition.plural;
        let escalate = Named { group: GROUP, resource: plural, namespace, name, ..Named::default() };
        if self.allows(caller, &Attributes::special("escalate", escalate)) {
            return Ok(());
        }
        self.holds(caller, namespace, &Rule::all_of(role)).map_err(|why| forbidden(resource, name, why))?;
        let aggregates = role["aggregationRule"]["clusterRoleSelectors"].as_array().is_some_and(|s| !s.is_empty());
        if aggregates && self.holds(caller, "", &Rule::everything()).is_err() {
            let why = "must have cluster-admin privileges to use the aggregationRule".to_owned();
            return Err(forbidden(resource, name, why));
        }
        Ok(())
    }

    fn check_binding(&self, caller: &Identity, resource: &Resource, binding: &Value) -> Result<(), Error> {
        let (namespace, name) = (meta(binding, "namespace"), meta(binding, "name"));
        let role = RoleRef::of(binding);
        let bind = Named { group: GROUP, resource: role.plural(), namespace, name: &role.name, ..Named::default() };
        if self.allows(caller, &Attributes::special("bind", bind)) {
            return Ok(());
        }
        let rules = self.index.current().role(&role).ok_or_else(|| {
            Error::NotFound(Subject {
                group: GROUP.to_owned(),
                resource: role.plural().to_owned(),
                name: role.name.clone(),
            })
        })?;
        self.holds(caller, namespace, &rules).map_err(|why| forbidden(resource, name, why))
    }

    /// Whether the caller has all of these rules in a namespace; else says which are missing.
    fn holds(&self, caller: &Identity, namespace: &str, rules: &[Rule]) -> Result<(), String> {
        let held = self.index.current().rules_of(caller, namespace);
        let mut missing: Vec<String> = missing(&held, rules).iter().map(Rule::described).collect();
        if missing.is_empty() {
            return Ok(());
        }
        missing.sort();
        missing.dedup();
        Err(format!(
            "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
            caller.user,
            quoted(&caller.groups),
            missing.join("\n")
        ))
    }
}

fn forbidden(resource: &Resource, name: &str, why: String) -> Error {
    Error::Forbidden { subject: resource.subject(name), why, cause: None }
}
