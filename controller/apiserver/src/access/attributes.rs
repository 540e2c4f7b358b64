//! What a request is about, in the words that access rules use.

use crate::error::{Error, Subject};
use crate::request::path::Target;

/// One question to the rules: may this be done?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes<'a> {
    /// Lower-case verb; of a path outside the resources, the HTTP method.
    pub verb: &'a str,
    /// What it is done to.
    pub what: What<'a>,
}

/// The thing that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What<'a> {
    /// A path that is no resource's.
    Path(&'a str),
    /// A resource.
    Resource(Named<'a>),
}

/// A resource, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Named<'a> {
    /// API group; empty for the core group.
    pub group: &'a str,
    /// Plural.
    pub resource: &'a str,
    /// Subresource; empty for the object itself.
    pub subresource: &'a str,
    /// Namespace; empty at cluster scope.
    pub namespace: &'a str,
    /// The object's name; empty for a collection.
    pub name: &'a str,
}

impl<'a> Attributes<'a> {
    /// A request to a resource. A Namespace counts as being in itself, so that a tenant's binding may open it.
    #[must_use]
    pub fn of(target: &'a Target, verb: &'a str, selected_name: Option<&'a str>) -> Self {
        let name = target.name.as_deref().or(selected_name).unwrap_or("");
        let own = target.group.is_empty() && target.resource == "namespaces";
        let namespace = if own { target.name.as_deref() } else { target.namespace.as_deref() };
        Self {
            verb,
            what: What::Resource(Named {
                group: &target.group,
                resource: &target.resource,
                subresource: target.subresource.as_deref().unwrap_or(""),
                namespace: namespace.unwrap_or(""),
                name,
            }),
        }
    }

    /// A request to a path outside the resources.
    #[must_use]
    pub fn of_path(path: &'a str, method: &'a str) -> Self {
        Self { verb: method, what: What::Path(path) }
    }

    /// A verb on one named resource, for the special verbs.
    #[must_use]
    pub fn special(verb: &'a str, named: Named<'a>) -> Self {
        Self { verb, what: What::Resource(named) }
    }

    /// The namespace whose bindings count besides those of the cluster; empty for none.
    #[must_use]
    pub fn namespace(&self) -> &'a str {
        match self.what {
            What::Path(_) => "",
            What::Resource(named) => named.namespace,
        }
    }

    /// The refusal, in the official server's words. `reason` is what the rules had to say besides.
    #[must_use]
    pub fn refusal(&self, user: &str, reason: &str) -> Error {
        let (subject, mut why) = match self.what {
            What::Path(path) => (Subject::default(), format!("User {user:?} cannot {} path {path:?}", self.verb)),
            What::Resource(named) => {
                let slash = if named.subresource.is_empty() { "" } else { "/" };
                let what = format!("{}{slash}{}", named.resource, named.subresource);
                let place = match named.namespace {
                    "" => "at the cluster scope".to_owned(),
                    namespace => format!("in the namespace {namespace:?}"),
                };
                let subject = Subject {
                    group: named.group.to_owned(),
                    resource: named.resource.to_owned(),
                    name: named.name.to_owned(),
                };
                let verb = self.verb;
                (
                    subject,
                    format!("User {user:?} cannot {verb} resource {what:?} in API group {:?} {place}", named.group),
                )
            }
        };
        if !reason.is_empty() {
            why = format!("{why}: {reason}");
        }
        Error::Forbidden { subject, why, cause: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::path::{Route, parse};

    fn target(path: &str) -> Target {
        match parse(path) {
            Some(Route::Resource(target)) => target,
            other => panic!("{path}: {other:?}"),
        }
    }

    #[test]
    fn refusals_read_as_the_official_servers_do() {
        let ports = target("/apis/photoncloud.dev/v1alpha1/namespaces/a/ports");
        assert_eq!(
            Attributes::of(&ports, "list", None).refusal("x", "").to_string(),
            "ports.photoncloud.dev is forbidden: User \"x\" cannot list resource \"ports\" in API group \
             \"photoncloud.dev\" in the namespace \"a\""
        );
        let console = target("/apis/photoncloud.dev/v1alpha1/namespaces/a/virtualmachines/m/console");
        assert_eq!(
            Attributes::of(&console, "get", None).refusal("x", "").to_string(),
            "virtualmachines.photoncloud.dev \"m\" is forbidden: User \"x\" cannot get resource \
             \"virtualmachines/console\" in API group \"photoncloud.dev\" in the namespace \"a\""
        );
        let secrets = target("/api/v1/secrets");
        assert_eq!(
            Attributes::of(&secrets, "watch", None).refusal("x", "").to_string(),
            "secrets is forbidden: User \"x\" cannot watch resource \"secrets\" in API group \"\" at the cluster scope"
        );
        assert_eq!(
            Attributes::of_path("/metrics", "get").refusal("x", "").to_string(),
            "forbidden: User \"x\" cannot get path \"/metrics\""
        );
    }

    #[test]
    fn a_namespace_is_in_itself() {
        let own = target("/api/v1/namespaces/a");
        assert_eq!(Attributes::of(&own, "get", None).namespace(), "a");
        assert_eq!(Attributes::of(&target("/api/v1/namespaces"), "list", None).namespace(), "");
    }
}
