//! How finely lists and maps are owned and merged, as `x-kubernetes-list-type`, `-list-map-keys` and `-map-type` say.

use serde_json::{Map, Value};

use super::super::error::FieldError;
use super::compile::{Compiler, Place, strings};
use super::{Kind, ListKind, Node};

impl Compiler {
    /// Reads the types of a list or map into `node`.
    pub(super) fn granularity(&mut self, map: &Map<String, Value>, node: &mut Node, place: &Place) {
        self.list(map, node, place);
        let Some(kind) = map.get("x-kubernetes-map-type") else { return };
        let field = place.at("x-kubernetes-map-type");
        match kind.as_str() {
            _ if node.kind != Kind::Object => {
                self.fail(FieldError::invalid(field, kind, "must be object if x-kubernetes-map-type is specified"));
            }
            Some("granular") => {}
            Some("atomic") => node.atomic_map = true,
            _ => self.fail(FieldError::not_supported(field, kind, &["atomic", "granular"])),
        }
    }

    fn list(&mut self, map: &Map<String, Value>, node: &mut Node, place: &Place) {
        let kind = map.get("x-kubernetes-list-type").and_then(Value::as_str).unwrap_or("atomic");
        let field = place.at("x-kubernetes-list-type");
        if map.contains_key("x-kubernetes-list-type") && node.kind != Kind::Array {
            self.fail(FieldError::invalid(
                field,
                &Value::from(kind),
                "must be array if x-kubernetes-list-type is specified",
            ));
            return;
        }
        match kind {
            "atomic" => {}
            "set" => node.list = ListKind::Set,
            "map" => self.keyed(map, node, place),
            other => self.fail(FieldError::not_supported(field, &Value::from(other), &["atomic", "map", "set"])),
        }
    }

    fn keyed(&mut self, map: &Map<String, Value>, node: &mut Node, place: &Place) {
        let mut keys = strings(map.get("x-kubernetes-list-map-keys"));
        let keys_field = place.at("x-kubernetes-list-map-keys");
        if keys.is_empty() {
            self.fail(FieldError::required(keys_field, "must not be empty if x-kubernetes-list-type is map"));
        }
        for key in &keys {
            let known = node.items.as_ref().and_then(|items| items.properties.get(key).map(|child| (items, child)));
            match known {
                None => self.fail(FieldError::invalid(
                    place.at("x-kubernetes-list-map-keys"),
                    &Value::from(key.as_str()),
                    "entries must all be names of item properties",
                )),
                Some((items, child)) if !items.required.contains(key) && child.default.is_none() => {
                    let field = place.at(&format!("items.properties[{key}].default"));
                    let why = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
                    self.errors.push(FieldError::required(field, why));
                }
                Some(_) => {}
            }
        }
        keys.sort();
        node.list = ListKind::Map(keys);
    }
}
