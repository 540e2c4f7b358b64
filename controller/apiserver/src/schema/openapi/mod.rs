//! OpenAPI documents: what `kubectl explain`, client-side apply and validation ask the server for.
//!
//! Version 3 is one document per group and version behind an index whose URLs carry a hash, so clients cache for ever.
//! Version 2 is one document for everything; kubectl wants it as protobuf ([`proto`]). Both describe the same operations
//! ([`paths`]) and the same schemas: the CRDs' own, completed by what every object has ([`meta`]).

mod meta;
mod paths;
mod proto;
mod v2;

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use sha2::Digest as _;

use super::definition::{Definition, Version};
use super::reviews;

pub use proto::encode as v2_protobuf;
pub use v2::document as v2_document;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// `/openapi/v3`: the index, with one hashed URL per group version.
pub fn v3_index(definitions: &[Arc<Definition>]) -> Value {
    let mut paths = Map::new();
    for (group, version) in group_versions(definitions) {
        let Some(document) = v3_document(definitions, &group, &version) else { continue };
        let path = if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") };
        let digest = sha2::Sha256::digest(document.to_string());
        let hash: String = digest.iter().map(|byte| format!("{byte:02X}")).collect();
        paths.insert(path.clone(), json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash={hash}")}));
    }
    json!({"paths": paths})
}

/// `/openapi/v3/api/v1` (group empty) or `/openapi/v3/apis/GROUP/VERSION`.
pub fn v3_document(definitions: &[Arc<Definition>], group: &str, version: &str) -> Option<Value> {
    let kinds: Vec<Described> =
        described(definitions).filter(|kind| kind.definition.group == group && kind.version.name == version).collect();
    if kinds.is_empty() {
        return None;
    }
    let locate = |name: &str| format!("#/components/schemas/{name}");
    let mut schemas = meta::schemas(&locate, true);
    if kinds.iter().any(|kind| kind.version.scale.is_some()) {
        schemas.insert(meta::SCALE.to_owned(), meta::scale(&locate, true));
    }
    let mut operations = Map::new();
    for kind in &kinds {
        schemas.extend(kind.schemas(true));
        for path in kind.paths() {
            operations.insert(path.url.clone(), paths::v3(&path));
        }
    }
    Some(json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1"},
        "paths": operations,
        "components": {"schemas": schemas},
    }))
}

/// A version of a kind that a document describes.
struct Described<'a> {
    definition: &'a Definition,
    version: &'a Version,
    /// Whether objects of it exist; of a review there is no list, and nothing but asking it.
    stored: bool,
}

impl Described<'_> {
    fn schemas(&self, v3: bool) -> impl Iterator<Item = (String, Value)> {
        kind_schemas(self.definition, self.version, v3).into_iter().take(if self.stored { 2 } else { 1 })
    }

    fn paths(&self) -> Vec<paths::PathItem> {
        if self.stored {
            paths::paths(self.definition, self.version)
        } else {
            vec![paths::review(self.definition, self.version)]
        }
    }
}

/// Every served version of every kind, and the reviews.
fn described(definitions: &[Arc<Definition>]) -> impl Iterator<Item = Described<'_>> {
    let stored = definitions.iter().flat_map(|definition| {
        let served = definition.versions.iter().filter(|version| version.served);
        served.map(move |version| Described { definition, version, stored: true })
    });
    stored.chain(reviews::all().map(|(definition, version)| Described { definition, version, stored: false }))
}

fn group_versions(definitions: &[Arc<Definition>]) -> BTreeSet<(String, String)> {
    described(definitions).map(|kind| (kind.definition.group.clone(), kind.version.name.clone())).collect()
}

/// The schema's name: the official one for kinds that Kubernetes has, the reversed group for others.
fn schema_name(definition: &Definition, version: &Version) -> String {
    let (kind, name) = (&definition.kind, &version.name);
    if !definition.builtin {
        let reversed: Vec<&str> = definition.group.rsplit('.').collect();
        return format!("{}.{name}.{kind}", reversed.join("."));
    }
    match definition.group.as_str() {
        "" => format!("io.k8s.api.core.{name}.{kind}"),
        "apiextensions.k8s.io" => format!("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.{name}.{kind}"),
        group => format!("io.k8s.api.{}.{name}.{kind}", group.split('.').next().unwrap_or_default()),
    }
}

/// The kind's own schema and its list's, with references in the form of version 3 or 2.
fn kind_schemas(definition: &Definition, version: &Version, v3: bool) -> [(String, Value); 2] {
    let name = schema_name(definition, version);
    let root = if v3 { "#/components/schemas" } else { "#/definitions" };
    let reference = |target: &str| format!("{root}/{target}");
    let gvk = |kind: &str| json!([{"group": definition.group, "kind": kind, "version": version.name}]);
    let mut schema = if v3 { version.schema.source().clone() } else { v2::converted(version.schema.source()) };
    if !schema.is_object() {
        schema = json!({"type": "object"});
    }
    let mut properties = schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    properties.insert("apiVersion".to_owned(), json!({"type": "string", "description": meta::API_VERSION}));
    properties.insert("kind".to_owned(), json!({"type": "string", "description": meta::KIND}));
    let metadata = meta::reference(&reference(&format!("{META}.ObjectMeta")), meta::METADATA, v3);
    properties.insert("metadata".to_owned(), metadata);
    schema["properties"] = properties.into();
    schema["x-kubernetes-group-version-kind"] = gvk(&definition.kind);
    let items = if v3 {
        json!({"allOf": [{"$ref": reference(&name)}], "default": {}})
    } else {
        json!({"$ref": reference(&name)})
    };
    let list = json!({
        "type": "object",
        "description": format!("{} is a list of {}", definition.list_kind, definition.kind),
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string", "description": meta::API_VERSION},
            "kind": {"type": "string", "description": meta::KIND},
            "metadata": meta::reference(&reference(&format!("{META}.ListMeta")), meta::LIST_METADATA, v3),
            "items": {"type": "array", "description": format!("List of {}.", definition.plural), "items": items},
        },
        "x-kubernetes-group-version-kind": gvk(&definition.list_kind),
    });
    let list_name = name
        .strip_suffix(&definition.kind)
        .map_or_else(|| format!("{name}List"), |base| format!("{base}{}", definition.list_kind));
    [(name, schema), (list_name, list)]
}

#[cfg(test)]
mod tests;
