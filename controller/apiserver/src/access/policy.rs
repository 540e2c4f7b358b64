//! Roles and bindings, arranged by who they are for. Pure.
//!
//! A decision looks at the caller's own bindings and those of the caller's groups, of the cluster and of one namespace;
//! what other people have costs it nothing. A role is looked up when it is asked for, so that a binding made before its
//! role works as soon as the role is there.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use super::attributes::Attributes;
use super::rule::Rule;
use crate::identity::{Identity, account_user};
use crate::object::meta;

/// API group of roles and bindings.
pub const GROUP: &str = "rbac.authorization.k8s.io";
/// A role's address: its namespace (empty for a ClusterRole) and name.
type Place = (String, String);

/// Which role a binding hands out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleRef {
    /// Namespace of a Role; empty for a ClusterRole.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl RoleRef {
    /// The role that a binding refers to.
    #[must_use]
    pub fn of(binding: &Value) -> Self {
        let cluster = binding["roleRef"]["kind"] != "Role";
        Self {
            namespace: if cluster { String::new() } else { meta(binding, "namespace").to_owned() },
            name: binding["roleRef"]["name"].as_str().unwrap_or("").to_owned(),
        }
    }

    /// `Role` or `ClusterRole`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        if self.namespace.is_empty() { "ClusterRole" } else { "Role" }
    }

    /// `roles` or `clusterroles`.
    #[must_use]
    pub fn plural(&self) -> &'static str {
        if self.namespace.is_empty() { "clusterroles" } else { "roles" }
    }
}

/// One subject's share of a binding.
#[derive(Debug, PartialEq, Eq)]
pub struct Grant {
    role: RoleRef,
    /// Namespace and name of the binding; a ClusterRoleBinding has no namespace.
    binding: Place,
    subject: String,
}

impl Grant {
    /// Why something is allowed.
    #[must_use]
    pub fn reason(&self) -> String {
        let binding = match &self.binding {
            (namespace, name) if namespace.is_empty() => format!("ClusterRoleBinding {name:?}"),
            (namespace, name) => format!("RoleBinding {:?}", format!("{name}/{namespace}")),
        };
        format!("RBAC: allowed by {binding} of {} {:?} to {}", self.role.kind(), self.role.name, self.subject)
    }
}

/// The bindings of one user or group, by the namespace they hold in; empty for everywhere.
type Bound = HashMap<String, Vec<Arc<Grant>>>;

/// Everything that is allowed.
#[derive(Debug, Default)]
pub struct Policy {
    roles: HashMap<Place, Arc<[Rule]>>,
    users: HashMap<String, Bound>,
    groups: HashMap<String, Bound>,
    /// Whom each binding is for, to find its grants again.
    bindings: HashMap<Place, Vec<Who>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Who {
    User(String),
    Group(String),
}

/// What the rules say to a request.
#[derive(Debug)]
pub enum Decision {
    /// Yes, by this grant.
    Allowed(Arc<Grant>),
    /// No rule says yes; with what hindered a rule from being read.
    NoOpinion(String),
}

impl Policy {
    /// Takes in a role, or forgets it.
    pub fn set_role(&mut self, namespace: &str, name: &str, role: Option<&Value>) {
        let place = (namespace.to_owned(), name.to_owned());
        match role {
            Some(role) => self.roles.insert(place, Rule::all_of(role).into()),
            None => self.roles.remove(&place),
        };
    }

    /// Takes in a binding, or forgets it.
    pub fn set_binding(&mut self, namespace: &str, name: &str, binding: Option<&Value>) {
        let place = (namespace.to_owned(), name.to_owned());
        for who in self.bindings.remove(&place).unwrap_or_default() {
            self.forget(&who, &place);
        }
        let Some(binding) = binding else { return };
        let role = RoleRef::of(binding);
        let mut all = Vec::new();
        for subject in binding["subjects"].as_array().into_iter().flatten() {
            let Some((who, subject)) = who_is(subject, namespace) else { continue };
            let grant = Arc::new(Grant { role: role.clone(), binding: place.clone(), subject });
            let (bound, key) = match &who {
                Who::User(name) => (&mut self.users, name),
                Who::Group(name) => (&mut self.groups, name),
            };
            bound.entry(key.clone()).or_default().entry(namespace.to_owned()).or_default().push(grant);
            if !all.contains(&who) {
                all.push(who);
            }
        }
        self.bindings.insert(place, all);
    }

    fn forget(&mut self, who: &Who, place: &Place) {
        let (bound, key) = match who {
            Who::User(name) => (&mut self.users, name),
            Who::Group(name) => (&mut self.groups, name),
        };
        let Some(spaces) = bound.get_mut(key) else { return };
        if let Some(grants) = spaces.get_mut(&place.0) {
            grants.retain(|grant| grant.binding != *place);
            if grants.is_empty() {
                spaces.remove(&place.0);
            }
        }
        if spaces.is_empty() {
            bound.remove(key);
        }
    }

    /// The rules of a role; `None` when there is no such role.
    #[must_use]
    pub fn role(&self, role: &RoleRef) -> Option<Arc<[Rule]>> {
        self.roles.get(&(role.namespace.clone(), role.name.clone())).cloned()
    }

    /// The caller's grants in the whole cluster and in one namespace.
    fn grants<'p>(&'p self, caller: &'p Identity, namespace: &'p str) -> impl Iterator<Item = &'p Arc<Grant>> {
        let groups = caller.groups.iter().filter_map(|group| self.groups.get(group));
        let all = self.users.get(&*caller.user).into_iter().chain(groups);
        all.flat_map(move |bound| {
            let here = (!namespace.is_empty()).then(|| bound.get(namespace)).flatten();
            bound.get("").into_iter().chain(here).flatten()
        })
    }

    /// Whether the caller may do what is asked.
    #[must_use]
    pub fn decide(&self, caller: &Identity, asked: &Attributes<'_>) -> Decision {
        let mut lacking: Vec<&RoleRef> = Vec::new();
        for grant in self.grants(caller, asked.namespace()) {
            match self.roles.get(&(grant.role.namespace.clone(), grant.role.name.clone())) {
                Some(rules) if rules.iter().any(|rule| rule.allows(asked)) => return Decision::Allowed(grant.clone()),
                Some(_) => {}
                None if lacking.contains(&&grant.role) => {}
                None => lacking.push(&grant.role),
            }
        }
        let lacking: Vec<String> = lacking
            .iter()
            .map(|role| format!("{}.{GROUP} {:?} not found", role.kind().to_lowercase(), role.name))
            .collect();
        Decision::NoOpinion(match lacking.as_slice() {
            [] => String::new(),
            [one] => format!("RBAC: {one}"),
            all => format!("RBAC: [{}]", all.join(", ")),
        })
    }

    /// Everything the caller may do in a namespace, or, when it is empty, everywhere.
    #[must_use]
    pub fn rules_of(&self, caller: &Identity, namespace: &str) -> Vec<Rule> {
        self.grants(caller, namespace)
            .filter_map(|grant| self.role(&grant.role))
            .flat_map(|rules| rules.to_vec())
            .collect()
    }
}

/// Whom a subject means, and how it is called in a reason. One without a place in the rules means nobody.
fn who_is(subject: &Value, namespace: &str) -> Option<(Who, String)> {
    let text = |field: &str| subject[field].as_str().unwrap_or("");
    let name = text("name");
    match text("kind") {
        "User" => Some((Who::User(name.to_owned()), format!("User {name:?}"))),
        "Group" => Some((Who::Group(name.to_owned()), format!("Group {name:?}"))),
        "ServiceAccount" => {
            let of = Some(text("namespace")).filter(|n| !n.is_empty()).unwrap_or(namespace);
            let shown = format!("ServiceAccount {:?}", format!("{name}/{of}"));
            (!of.is_empty()).then(|| (Who::User(account_user(of, name)), shown))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
