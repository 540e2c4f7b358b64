//! Where objects live: `/registry/[group/]resource/[namespace/]name`, as in Kubernetes.
//!
//! The core group has no segment. Every other group we store has a dot in its name, which is what lets
//! [`Keys::resource`] tell a group from a resource.

use std::sync::Arc;

/// Composes and reads keys under one root prefix.
#[derive(Clone, Debug)]
pub struct Keys {
    prefix: Arc<str>,
}

impl Keys {
    /// Keys under `prefix`, which ends in `/`.
    pub(crate) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.into() }
    }

    /// The root prefix.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The prefix of all objects of a resource, in all namespaces.
    pub fn collection(&self, group: &str, resource: &str) -> String {
        let root = &self.prefix;
        if group.is_empty() { format!("{root}{resource}/") } else { format!("{root}{group}/{resource}/") }
    }

    /// The prefix of a resource's objects in one namespace.
    pub fn in_namespace(&self, group: &str, resource: &str, namespace: &str) -> String {
        let mut key = self.collection(group, resource);
        key.push_str(namespace);
        key.push('/');
        key
    }

    /// The key of one object; cluster-scoped ones have no namespace.
    pub fn object(&self, group: &str, resource: &str, namespace: Option<&str>, name: &str) -> String {
        let mut key = match namespace {
            Some(namespace) => self.in_namespace(group, resource, namespace),
            None => self.collection(group, resource),
        };
        key.push_str(name);
        key
    }

    /// The resource a key belongs to, for metric labels.
    pub fn resource<'k>(&self, key: &'k str) -> &'k str {
        let mut segments = key.strip_prefix(&*self.prefix).unwrap_or(key).split('/');
        let first = segments.next().unwrap_or_default();
        match segments.next() {
            Some(second) if first.contains('.') => second,
            _ => first,
        }
    }

    /// The folder a key is in, namespace and name left out: `secrets`, `photoncloud.dev/ports`.
    pub(crate) fn folder<'k>(&self, key: &'k str) -> &'k str {
        let rest = key.strip_prefix(&*self.prefix).unwrap_or(key);
        let Some(first) = rest.find('/') else { return rest };
        match rest[..first].contains('.') {
            true => rest[first + 1..].find('/').map_or(rest, |second| &rest[..first + 1 + second]),
            false => &rest[..first],
        }
    }

    /// Stands while a restore is under way; see `keeper`.
    pub(crate) fn restoring(&self) -> String {
        format!("{}{INTERNAL}restoring", self.prefix)
    }

    /// Written when a term of leadership begins; see `term`.
    pub(crate) fn term(&self) -> String {
        format!("{}{INTERNAL}term", self.prefix)
    }

    /// Written to make the watch move; see `barrier`.
    pub(crate) fn heartbeat(&self) -> String {
        format!("{}{INTERNAL}heartbeat", self.prefix)
    }

    /// Written to fence off writes whose outcome is unknown; see `write`.
    pub(crate) fn fence(&self) -> String {
        format!("{}{INTERNAL}fence", self.prefix)
    }

    /// Whether a key is the store's own and hidden from readers and watchers.
    pub(crate) fn is_internal(&self, key: &str) -> bool {
        key.strip_prefix(&*self.prefix).is_some_and(|rest| rest.starts_with(INTERNAL))
    }
}

/// No resource name starts with a tilde.
const INTERNAL: &str = "~store/";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_of_the_core_group_have_no_group_segment() {
        let keys = Keys::new("/registry/");
        assert_eq!(keys.object("", "secrets", Some("a"), "b"), "/registry/secrets/a/b");
        assert_eq!(keys.object("x.dev", "hosts", None, "b"), "/registry/x.dev/hosts/b");
        assert_eq!(keys.in_namespace("x.dev", "ports", "n"), "/registry/x.dev/ports/n/");
    }

    #[test]
    fn the_resource_is_found_with_and_without_a_group() {
        let keys = Keys::new("/registry/");
        assert_eq!(keys.resource("/registry/x.dev/ports/n/p"), "ports");
        assert_eq!(keys.resource("/registry/secrets/a.b/p"), "secrets");
    }

    #[test]
    fn the_folder_names_group_and_resource() {
        let keys = Keys::new("/registry/");
        assert_eq!(keys.folder("/registry/x.dev/ports/n/p"), "x.dev/ports");
        assert_eq!(keys.folder("/registry/secrets/a.b/p"), "secrets");
        assert_eq!(keys.folder("/registry/x.dev/hosts/h"), "x.dev/hosts");
    }

    #[test]
    fn the_stores_own_keys_are_recognised() {
        let keys = Keys::new("/registry/");
        assert!(keys.is_internal(&keys.heartbeat()) && keys.is_internal(&keys.fence()));
        assert!(!keys.is_internal("/registry/secrets/a/b"));
    }
}
