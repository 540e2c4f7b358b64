//! What applying means, case by case, as the Kubernetes documentation describes it.

use serde_json::{Value, json};

use super::super::definition::Definition;
use super::entry::Operation;
use super::*;

mod applying;
mod noting;

const NOW: &str = "2026-01-02T03:04:05Z";
const LATER: &str = "2026-01-02T03:05:00Z";

/// One kind with every way to merge.
fn kind() -> Definition {
    let text = json!({"type": "string"});
    let named =
        |list_type: &str| json!({"type": "array", "x-kubernetes-list-type": list_type, "items": {"type": "string"}});
    let port = json!({"type": "object", "required": ["port"], "properties": {
        "port": {"type": "integer"}, "protocol": {"type": "string", "default": "TCP"}, "name": text, "note": text}});
    let spec = json!({"type": "object", "properties": {
        "size": {"type": "integer"}, "note": text, "limit": {"x-kubernetes-int-or-string": true},
        "flags": named("set"), "args": named("atomic"),
        "labels": {"type": "object", "additionalProperties": text},
        "selector": {"type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": text},
        "groups": {"type": "object", "additionalProperties": {"type": "object", "properties": {"a": text, "b": text}}},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port", "protocol"],
            "items": port},
    }});
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": spec,
        "status": {"type": "object", "properties": {"phase": text}}}}});
    let version = |name: &str, storage: bool| json!({"name": name, "served": true, "storage": storage, "schema": schema, "subresources": {"status": {}}});
    let document = json!({"metadata": {"name": "things.example.dev"}, "spec": {
        "group": "example.dev", "scope": "Namespaced",
        "names": {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"},
        "versions": [version("v1", true), version("v2", false)]}});
    Definition::from_crd(&document).unwrap()
}

/// An object and its entries, written by several managers in turn.
#[derive(Clone)]
struct Bench {
    kind: std::rc::Rc<Definition>,
    object: Option<Value>,
    managed: Managed,
}

impl Bench {
    fn new() -> Self {
        Self { kind: kind().into(), object: None, managed: Managed::default() }
    }

    fn apply_as(&mut self, manager: &str, version: &str, spec: Value, force: bool) -> Result<(), String> {
        let api_version = format!("example.dev/{version}");
        let config = json!({"apiVersion": api_version, "kind": "Thing", "metadata": {"name": "a"}, "spec": spec});
        let wish = Wish {
            definition: &self.kind,
            version: self.kind.version(version).unwrap(),
            config: &config,
            writer: Writer { manager, api_version: &api_version, subresource: "", now: NOW },
            force,
            yielding: None,
        };
        let (object, managed) =
            apply(self.object.as_ref(), self.managed.clone(), &wish).map_err(|conflicts| conflicts.message())?;
        self.object = Some(object);
        self.managed = managed;
        Ok(())
    }

    fn apply(&mut self, manager: &str, spec: Value) -> Result<(), String> {
        self.apply_as(manager, "v1", spec, false)
    }

    /// Applies what must not be refused.
    fn applied(mut self, manager: &str, spec: Value) -> Self {
        self.apply(manager, spec).unwrap();
        self
    }

    /// Replaces the spec, as an update does.
    fn updated(mut self, manager: &str, spec: Value) -> Self {
        let mut new = self.object.clone().unwrap();
        new["spec"] = spec;
        self.write(manager, "", NOW, new);
        self
    }

    fn write(&mut self, manager: &str, subresource: &str, now: &str, new: Value) {
        let writer = Writer { manager, api_version: "example.dev/v1", subresource, now };
        let version = self.kind.version("v1").unwrap();
        self.managed = match &self.object {
            None => created(version, &new, &writer),
            Some(old) => tracked(&self.kind, version, (old, &new), self.managed.clone(), &writer),
        };
        self.object = Some(new);
    }

    fn spec(&self) -> Value {
        self.object.as_ref().unwrap()["spec"].clone()
    }

    /// What a manager owns, as paths.
    fn owns(&self, manager: &str) -> Vec<String> {
        self.managed.entries.iter().filter(|e| e.manager == manager).flat_map(|e| e.fields.paths()).collect()
    }
}
