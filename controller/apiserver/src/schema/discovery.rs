//! Discovery: what is served, in the four forms that clients of different ages ask for.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::crd::version_order;
use super::definition::{Definition, Version};
use super::reviews;

/// Which form of aggregated discovery a client asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `apidiscovery.k8s.io/v2beta1`.
    V2Beta1,
    /// `apidiscovery.k8s.io/v2`.
    V2,
}

const VERBS: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// The served versions of each group, most preferred first, with their kinds.
type Groups<'a> = BTreeMap<&'a str, Vec<(&'a str, Vec<(&'a Definition, &'a Version)>)>>;

/// `/api` as plain `APIVersions`.
pub fn api_versions() -> Value {
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": ""}],
    })
}

/// `/apis` as plain `APIGroupList`.
pub fn api_group_list(definitions: &[Arc<Definition>]) -> Value {
    let groups: Vec<Value> = groups(definitions)
        .iter()
        .filter(|(name, _)| !name.is_empty())
        .map(|(name, versions)| group_document(name, versions))
        .collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/GROUP`; `None` when nothing is served there.
pub fn api_group(definitions: &[Arc<Definition>], group: &str) -> Option<Value> {
    let groups = groups(definitions);
    let mut document = group_document(group, groups.get(group).filter(|_| !group.is_empty())?);
    document["kind"] = "APIGroup".into();
    document["apiVersion"] = "v1".into();
    Some(document)
}

/// `/api/v1` and `/apis/GROUP/VERSION`; `None` when nothing is served there.
pub fn api_resource_list(definitions: &[Arc<Definition>], group: &str, version: &str) -> Option<Value> {
    let groups = groups(definitions);
    let (_, kinds) = groups.get(group)?.iter().find(|(name, _)| *name == version)?;
    let mut resources = Vec::new();
    for (definition, version) in kinds {
        let mut resource = json!({
            "name": definition.plural,
            "singularName": definition.singular,
            "namespaced": definition.namespaced,
            "kind": definition.kind,
            "verbs": verbs(definition),
            "storageVersionHash": storage_hash(definition),
        });
        if !definition.short_names.is_empty() {
            resource["shortNames"] = json!(definition.short_names);
        }
        if !definition.categories.is_empty() {
            resource["categories"] = json!(definition.categories);
        }
        resources.push(resource);
        for subresource in subresources(definition, version) {
            let mut document = json!({
                "name": format!("{}/{}", definition.plural, subresource.name),
                "singularName": "",
                "namespaced": definition.namespaced,
                "kind": subresource.kind,
                "verbs": subresource.verbs,
            });
            if subresource.group != definition.group {
                document["group"] = subresource.group.into();
                document["version"] = subresource.version.into();
            }
            resources.push(document);
        }
    }
    resources.extend(reviews::of(group, version).map(plain_review));
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    Some(json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources}))
}

/// `/api` (`core` true) or `/apis` aggregated: an `APIGroupDiscoveryList`.
pub fn aggregated(definitions: &[Arc<Definition>], core: bool, form: Form) -> Value {
    let items: Vec<Value> = groups(definitions)
        .iter()
        .filter(|(name, _)| name.is_empty() == core)
        .map(|(name, versions)| {
            let versions: Vec<Value> = versions
                .iter()
                .map(|(version, kinds)| {
                    let stored = kinds.iter().map(|(d, v)| aggregated_resource(d, v));
                    let resources: Vec<Value> =
                        stored.chain(reviews::of(name, version).map(|d| aggregated_review(d, version))).collect();
                    json!({"version": version, "resources": resources, "freshness": "Current"})
                })
                .collect();
            let metadata = if core {
                json!({"creationTimestamp": null})
            } else {
                json!({"name": name, "creationTimestamp": null})
            };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    let api_version = match form {
        Form::V2Beta1 => "apidiscovery.k8s.io/v2beta1",
        Form::V2 => "apidiscovery.k8s.io/v2",
    };
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": api_version, "metadata": {}, "items": items})
}

fn aggregated_resource(definition: &Definition, version: &Version) -> Value {
    let response = |group: &str, version: &str, kind: &str| json!({"group": group, "version": version, "kind": kind});
    let mut resource = json!({
        "resource": definition.plural,
        "responseKind": response(&definition.group, &version.name, &definition.kind),
        "scope": if definition.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": definition.singular,
        "verbs": verbs(definition),
    });
    if !definition.short_names.is_empty() {
        resource["shortNames"] = json!(definition.short_names);
    }
    if !definition.categories.is_empty() {
        resource["categories"] = json!(definition.categories);
    }
    let subresources: Vec<Value> = subresources(definition, version)
        .into_iter()
        .map(|subresource| {
            json!({
                "subresource": subresource.name,
                "responseKind": response(&subresource.group, &subresource.version, &subresource.kind),
                "verbs": subresource.verbs,
            })
        })
        .collect();
    if !subresources.is_empty() {
        resource["subresources"] = subresources.into();
    }
    resource
}

/// A review can only be created.
fn plain_review(review: &Definition) -> Value {
    json!({
        "name": review.plural,
        "singularName": review.singular,
        "namespaced": review.namespaced,
        "kind": review.kind,
        "verbs": ["create"],
    })
}

fn aggregated_review(review: &Definition, version: &str) -> Value {
    json!({
        "resource": review.plural,
        "responseKind": {"group": review.group, "version": version, "kind": review.kind},
        "scope": if review.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": review.singular,
        "verbs": ["create"],
    })
}

struct Subresource {
    name: String,
    group: String,
    version: String,
    kind: String,
    verbs: Vec<&'static str>,
}

fn subresources(definition: &Definition, version: &Version) -> Vec<Subresource> {
    let own = |name: &str, verbs: &[&'static str]| Subresource {
        name: name.to_owned(),
        group: definition.group.clone(),
        version: version.name.clone(),
        kind: definition.kind.clone(),
        verbs: verbs.to_vec(),
    };
    let mut list = Vec::new();
    if version.status_subresource {
        list.push(own("status", &["get", "patch", "update"]));
    }
    if version.scale.is_some() {
        list.push(Subresource {
            group: "autoscaling".to_owned(),
            version: "v1".to_owned(),
            kind: "Scale".to_owned(),
            ..own("scale", &["get", "patch", "update"])
        });
    }
    if definition.builtin && definition.group.is_empty() && definition.plural == "serviceaccounts" {
        list.push(Subresource {
            group: "authentication.k8s.io".to_owned(),
            version: "v1".to_owned(),
            kind: "TokenRequest".to_owned(),
            ..own("token", &["create"])
        });
    }
    list.extend(definition.connect.iter().map(|name| own(name, &["create", "get"])));
    list
}

fn verbs(definition: &Definition) -> Vec<&'static str> {
    let whole = !(definition.builtin && definition.plural == "namespaces");
    VERBS.into_iter().filter(|verb| whole || *verb != "deletecollection").collect()
}

/// Says that the stored form changed; the official server hashes the same words.
fn storage_hash(definition: &Definition) -> String {
    use base64::Engine as _;
    use sha2::Digest as _;
    let words = format!("{}/{}/{}", definition.group, definition.storage().name, definition.kind);
    base64::engine::general_purpose::STANDARD.encode(&sha2::Sha256::digest(words)[..8])
}

fn group_document(name: &str, versions: &[(&str, Vec<(&Definition, &Version)>)]) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(|(version, _)| json!({"groupVersion": format!("{name}/{version}"), "version": version}))
        .collect();
    json!({"name": name, "preferredVersion": versions.first(), "versions": versions})
}

fn groups(definitions: &[Arc<Definition>]) -> Groups<'_> {
    let mut groups: Groups<'_> = BTreeMap::new();
    for definition in definitions {
        for version in definition.versions.iter().filter(|version| version.served) {
            let versions = groups.entry(definition.group.as_str()).or_default();
            match versions.iter_mut().find(|(name, _)| *name == version.name) {
                Some((_, kinds)) => kinds.push((definition.as_ref(), version)),
                None => versions.push((version.name.as_str(), vec![(definition.as_ref(), version)])),
            }
        }
    }
    for (review, version) in reviews::all() {
        let versions = groups.entry(review.group.as_str()).or_default();
        if versions.iter().all(|(name, _)| *name != version.name) {
            versions.push((version.name.as_str(), Vec::new()));
        }
    }
    for versions in groups.values_mut() {
        versions.sort_by_key(|(name, _)| std::cmp::Reverse(version_order(name)));
        for (_, kinds) in versions.iter_mut() {
            kinds.sort_by(|a, b| a.0.plural.cmp(&b.0.plural));
        }
    }
    groups
}

#[cfg(test)]
mod tests;
