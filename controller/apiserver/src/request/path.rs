//! From a path and a method to what is asked for.
//!
//! Kinds come and go at run time, so the route table cannot be static: the path is parsed by its shape, and the
//! registry then says whether such a resource is served.

use http::Method;

/// A parsed resource path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// API group; empty for core.
    pub group: String,
    /// API version.
    pub version: String,
    /// Namespace in the path.
    pub namespace: Option<String>,
    /// Plural resource name.
    pub resource: String,
    /// Object name; `None` for a collection.
    pub name: Option<String>,
    /// Subresource, such as `status`.
    pub subresource: Option<String>,
    /// `/watch/` prefix of the old watch paths.
    pub legacy_watch: bool,
}

/// What a path leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `/`
    Root,
    /// `/api`
    CoreVersions,
    /// `/apis`
    Groups,
    /// `/apis/GROUP`
    Group(String),
    /// `/api/v1` or `/apis/GROUP/VERSION`
    Resources {
        /// API group; empty for core.
        group: String,
        /// API version.
        version: String,
    },
    /// `/openapi/v2`
    OpenApiV2,
    /// `/openapi/v3`
    OpenApiV3Index,
    /// `/openapi/v3/PATH`, where PATH is `api/v1` or `apis/GROUP/VERSION`
    OpenApiV3 {
        /// API group; empty for core.
        group: String,
        /// API version.
        version: String,
    },
    /// Objects.
    Resource(Target),
}

/// Parses a request path; `None` when it has no meaning here.
#[must_use]
pub fn parse(path: &str) -> Option<Route> {
    if path == "/" {
        return Some(Route::Root);
    }
    let mut parts = Vec::new();
    for part in path.trim_start_matches('/').trim_end_matches('/').split('/') {
        parts.push(decode(part)?);
    }
    let words: Vec<&str> = parts.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["api"] => Some(Route::CoreVersions),
        ["apis"] => Some(Route::Groups),
        ["openapi", "v2"] => Some(Route::OpenApiV2),
        ["openapi", "v3"] => Some(Route::OpenApiV3Index),
        ["openapi", "v3", "api", version] => {
            Some(Route::OpenApiV3 { group: String::new(), version: (*version).to_owned() })
        }
        ["openapi", "v3", "apis", group, version] => {
            Some(Route::OpenApiV3 { group: (*group).to_owned(), version: (*version).to_owned() })
        }
        ["api", version] => Some(Route::Resources { group: String::new(), version: (*version).to_owned() }),
        ["apis", group] => Some(Route::Group((*group).to_owned())),
        ["apis", group, version] => {
            Some(Route::Resources { group: (*group).to_owned(), version: (*version).to_owned() })
        }
        ["api", version, rest @ ..] => target("", version, rest).map(Route::Resource),
        ["apis", group, version, rest @ ..] => target(group, version, rest).map(Route::Resource),
        _ => None,
    }
}

fn target(group: &str, version: &str, rest: &[&str]) -> Option<Target> {
    let (legacy_watch, rest) = match rest {
        ["watch", rest @ ..] if !rest.is_empty() => (true, rest),
        other => (false, other),
    };
    let owned = |s: &str| Some(s.to_owned());
    let (namespace, resource, name, subresource) = match rest {
        // A namespace object's own paths look like the prefix of its content's.
        ["namespaces", name, sub @ ("status" | "finalize")] if group.is_empty() => {
            (None, "namespaces", owned(name), owned(sub))
        }
        ["namespaces", ns, resource] => (owned(ns), *resource, None, None),
        ["namespaces", ns, resource, name] => (owned(ns), *resource, owned(name), None),
        ["namespaces", ns, resource, name, sub] => (owned(ns), *resource, owned(name), owned(sub)),
        [resource] => (None, *resource, None, None),
        [resource, name] => (None, *resource, owned(name), None),
        [resource, name, sub] => (None, *resource, owned(name), owned(sub)),
        _ => return None,
    };
    Some(Target {
        group: group.to_owned(),
        version: version.to_owned(),
        namespace,
        resource: resource.to_owned(),
        name,
        subresource,
        legacy_watch,
    })
}

/// Percent-decodes one path segment; refuses empty ones and those that would change a storage key's shape.
fn decode(part: &str) -> Option<String> {
    let mut out = Vec::with_capacity(part.len());
    let mut bytes = part.bytes();
    while let Some(b) = bytes.next() {
        if b == b'%' {
            let hi = char::from(bytes.next()?).to_digit(16)?;
            let lo = char::from(bytes.next()?).to_digit(16)?;
            out.push(u8::try_from(hi * 16 + lo).ok()?);
        } else {
            out.push(b);
        }
    }
    let text = String::from_utf8(out).ok()?;
    let hostile = text.is_empty() || text == "." || text == ".." || text.contains(['/', '\0']);
    (!hostile).then_some(text)
}

/// The verbs of the API, as access rules and metrics name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// One object.
    Get,
    /// A collection.
    List,
    /// Changes.
    Watch,
    /// POST to a collection.
    Create,
    /// PUT.
    Update,
    /// PATCH.
    Patch,
    /// DELETE of one object.
    Delete,
    /// DELETE of a collection.
    DeleteCollection,
}

impl Verb {
    /// The lower-case word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        }
    }

    /// Whether a body brings what is to be stored.
    #[must_use]
    pub fn writes_an_object(self) -> bool {
        matches!(self, Self::Create | Self::Update | Self::Patch)
    }

    /// What the official server calls the options of this write; `None` of what reads.
    #[must_use]
    pub fn options(self) -> Option<&'static str> {
        match self {
            Self::Create => Some("CreateOptions"),
            Self::Update => Some("UpdateOptions"),
            Self::Patch => Some("PatchOptions"),
            Self::Delete | Self::DeleteCollection => Some("DeleteOptions"),
            Self::Get | Self::List | Self::Watch => None,
        }
    }

    /// The verb of a request; `None` when the method is not served there.
    #[must_use]
    pub fn of(method: &Method, named: bool, watch: bool) -> Option<Self> {
        match (method.as_str(), named) {
            ("GET" | "HEAD", true) if !watch => Some(Self::Get),
            ("GET" | "HEAD", _) if watch => Some(Self::Watch),
            ("GET" | "HEAD", false) => Some(Self::List),
            ("POST", false) => Some(Self::Create),
            ("PUT", true) => Some(Self::Update),
            ("PATCH", true) => Some(Self::Patch),
            ("DELETE", true) => Some(Self::Delete),
            ("DELETE", false) => Some(Self::DeleteCollection),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(path: &str) -> Target {
        match parse(path) {
            Some(Route::Resource(target)) => target,
            other => panic!("{path}: {other:?}"),
        }
    }

    #[test]
    fn paths_are_read_by_shape() {
        let t = resource("/apis/example.dev/v1/namespaces/default/widgets/a/status");
        assert_eq!(
            (t.group.as_str(), t.namespace.as_deref(), t.resource.as_str()),
            ("example.dev", Some("default"), "widgets")
        );
        assert_eq!((t.name.as_deref(), t.subresource.as_deref()), (Some("a"), Some("status")));

        let t = resource("/api/v1/namespaces/default");
        assert_eq!((t.resource.as_str(), t.name.as_deref(), t.namespace), ("namespaces", Some("default"), None));
        let t = resource("/api/v1/namespaces/default/status");
        assert_eq!((t.resource.as_str(), t.subresource.as_deref()), ("namespaces", Some("status")));
        let t = resource("/api/v1/namespaces/default/configmaps");
        assert_eq!((t.resource.as_str(), t.name), ("configmaps", None));
        let t = resource("/apis/example.dev/v1/widgets");
        assert_eq!((t.resource.as_str(), t.namespace), ("widgets", None));
        assert!(resource("/api/v1/watch/configmaps").legacy_watch);
    }

    #[test]
    fn hostile_paths_have_no_meaning() {
        for path in [
            "/api/v1/namespaces/..%2f..%2fsecrets/configmaps",
            "/api/v1/namespaces/../configmaps",
            "/api/v1//configmaps",
            "/api/v1/configmaps/%zz",
            "/api/v1/configmaps/%00",
            "/etc/passwd",
            "/apis/a/b/c/d/e/f/g/h",
        ] {
            assert_eq!(parse(path), None, "{path}");
        }
    }
}
