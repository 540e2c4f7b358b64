//! From an `openAPIV3Schema` document to a tree, refusing what is not structural.
//!
//! Every refusal names the place in the CRD document, as `kubectl apply` shows it. Depth and size are limited here, so
//! that the walks over objects may recurse: they never go deeper than the schema they follow.

use serde_json::{Map, Value};

use super::super::cel::{Rule, compile_pattern};
use super::super::error::FieldError;
use super::{Additional, Bound, Checks, Format, Kind, Node, Schema, defaults, validate};

/// Deepest nesting of a schema.
const DEEPEST: usize = 64;
/// Most nodes of a schema.
const MOST: usize = 20_000;

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

/// Compiles the document found at `path` of a CRD.
pub(crate) fn compile(document: &Value, path: &str) -> Result<Schema, Vec<FieldError>> {
    let mut compiler = Compiler { errors: Vec::new(), nodes: 0 };
    let place = Place { path: path.to_owned(), depth: 0, root: true, resource: true, junctor: false };
    let root = compiler.node(document, &place);
    if root.kind != Kind::Object {
        let field = format!("{path}.type");
        let found = document.get("type").cloned().unwrap_or_default();
        let error = match found.as_str().unwrap_or_default() {
            "" => FieldError::required(field, "must not be empty at the root"),
            _ => FieldError::invalid(field, &found, "must be object at the root"),
        };
        compiler.errors.push(error);
    }
    compiler.errors.dedup();
    if compiler.errors.is_empty() { Ok(Schema { root, source: document.clone() }) } else { Err(compiler.errors) }
}

pub(super) struct Compiler {
    pub(super) errors: Vec<FieldError>,
    nodes: usize,
}

/// Where in the document a node stands.
pub(super) struct Place {
    pub(super) path: String,
    depth: usize,
    root: bool,
    /// The object here has apiVersion, kind and metadata.
    resource: bool,
    /// Inside `allOf`, `anyOf`, `oneOf` or `not`: only value checks are allowed.
    junctor: bool,
}

impl Place {
    fn below(&self, step: impl std::fmt::Display) -> Self {
        Self {
            path: format!("{}.{step}", self.path),
            depth: self.depth + 1,
            root: false,
            resource: false,
            junctor: self.junctor,
        }
    }

    pub(super) fn at(&self, field: &str) -> String {
        format!("{}.{field}", self.path)
    }
}

impl Compiler {
    pub(super) fn fail(&mut self, error: FieldError) {
        if self.errors.len() < 64 {
            self.errors.push(error);
        }
    }

    fn node(&mut self, document: &Value, place: &Place) -> Node {
        self.nodes += 1;
        let Value::Object(map) = document else {
            self.fail(FieldError::invalid(place.path.clone(), document, "must be a schema"));
            return Node::any();
        };
        if place.depth > DEEPEST || self.nodes > MOST {
            let why = format!("schema is deeper than {DEEPEST} levels or has more than {MOST} nodes");
            self.fail(FieldError::forbidden(place.path.clone(), why));
            return Node::any();
        }
        self.forbidden(map, place);
        let flag = |key: &str| map.get(key).and_then(Value::as_bool).unwrap_or(false);
        let mut node = Node::any();
        node.kind = self.kind(map, place);
        node.nullable = flag("nullable");
        node.embedded = flag("x-kubernetes-embedded-resource");
        node.required = strings(map.get("required"));
        node.format = map.get("format").and_then(Value::as_str).and_then(Format::named);
        self.structure(map, &mut node, place);
        node.checks = self.checks(map, place);
        self.granularity(map, &mut node, place);
        self.rules(map, &mut node, place);
        self.default(map, &mut node, place);
        let below = |pick: fn(&Node) -> bool| {
            node.properties.values().any(pick)
                || node.items.as_deref().is_some_and(pick)
                || matches!(&node.additional, Additional::Schema(child) if pick(child))
        };
        node.defaults_below = below(|child| child.defaults_below || child.default.is_some());
        node.rules_below = !node.rules.is_empty() || below(|child| child.rules_below);
        node
    }

    fn forbidden(&mut self, map: &Map<String, Value>, place: &Place) {
        for (key, why) in [
            ("$ref", "$ref is not supported"),
            ("definitions", "definitions is not supported"),
            ("dependencies", "dependencies is not supported"),
            ("patternProperties", "patternProperties is not supported"),
            ("additionalItems", "additionalItems is not supported"),
        ] {
            if map.contains_key(key) {
                self.fail(FieldError::forbidden(place.at(key), why));
            }
        }
        if map.get("uniqueItems") == Some(&Value::Bool(true)) {
            let why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
            self.fail(FieldError::forbidden(place.at("uniqueItems"), why));
        }
        if place.junctor {
            for key in [
                "additionalProperties",
                "default",
                "nullable",
                "title",
                "description",
                "x-kubernetes-preserve-unknown-fields",
            ] {
                if map.contains_key(key) {
                    self.fail(FieldError::forbidden(place.at(key), "must be undefined to be structural"));
                }
            }
        }
    }

    fn kind(&mut self, map: &Map<String, Value>, place: &Place) -> Kind {
        let name = map.get("type").and_then(Value::as_str).unwrap_or_default();
        if map.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
            if !name.is_empty() {
                self.fail(FieldError::forbidden(
                    place.at("type"),
                    "must be empty if x-kubernetes-int-or-string is true",
                ));
            }
            return Kind::IntOrString;
        }
        match name {
            "object" => Kind::Object,
            "array" => Kind::Array,
            "string" => Kind::String,
            "integer" => Kind::Integer,
            "number" => Kind::Number,
            "boolean" => Kind::Boolean,
            "" => {
                let free = map.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
                if !free && !place.junctor && !place.root {
                    self.fail(FieldError::required(place.at("type"), "must not be empty for specified object fields"));
                }
                Kind::Any
            }
            other => {
                self.fail(FieldError::not_supported(place.at("type"), &Value::from(other), &TYPES));
                Kind::Any
            }
        }
    }

    fn structure(&mut self, map: &Map<String, Value>, node: &mut Node, place: &Place) {
        let properties = map.get("properties").and_then(Value::as_object);
        if let Some(properties) = properties {
            for (key, document) in properties {
                let mut below = place.below(format_args!("properties[{key}]"));
                below.resource = document.get("x-kubernetes-embedded-resource") == Some(&Value::Bool(true));
                let resource_field = (place.root || place.resource) && !place.junctor;
                if resource_field && key == "metadata" {
                    self.metadata(document, &below);
                    continue;
                }
                if resource_field && matches!(key.as_str(), "apiVersion" | "kind") {
                    continue;
                }
                let child = self.node(document, &below);
                node.properties.insert(key.clone(), child);
            }
        }
        let preserve = map.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
        node.additional = match map.get("additionalProperties") {
            Some(Value::Object(_) | Value::Bool(false))
                if properties.is_some_and(|properties| !properties.is_empty()) =>
            {
                let why = "additionalProperties and properties are mutual exclusive";
                self.fail(FieldError::forbidden(place.at("additionalProperties"), why));
                Additional::Closed
            }
            Some(document @ Value::Object(_)) => {
                Additional::Schema(Box::new(self.node(document, &place.below("additionalProperties"))))
            }
            Some(Value::Bool(true)) => Additional::Open,
            _ if preserve || place.junctor || (node.kind == Kind::Any) => Additional::Open,
            _ => Additional::Closed,
        };
        match map.get("items") {
            Some(Value::Array(_)) => {
                let why = "items must be a schema object and not an array";
                self.fail(FieldError::forbidden(place.at("items"), why));
            }
            Some(document) => {
                let mut below = place.below("items");
                below.resource = document.get("x-kubernetes-embedded-resource") == Some(&Value::Bool(true));
                node.items = Some(Box::new(self.node(document, &below)));
            }
            None if node.kind == Kind::Array && !place.junctor => {
                self.fail(FieldError::required(place.at("items"), "must be specified"));
            }
            None => {}
        }
    }

    /// `metadata` is implied; a schema may only restrict name and generateName.
    fn metadata(&mut self, document: &Value, place: &Place) {
        let allowed = document.as_object().is_some_and(|map| {
            map.iter().all(|(key, value)| match key.as_str() {
                "type" | "description" => true,
                "properties" => value
                    .as_object()
                    .is_some_and(|fields| fields.keys().all(|name| name == "name" || name == "generateName")),
                _ => false,
            })
        });
        if !allowed {
            let why =
                "must not specify anything other than name and generateName, but metadata is implicitly specified";
            self.fail(FieldError::forbidden(place.path.clone(), why));
        }
    }

    fn checks(&mut self, map: &Map<String, Value>, place: &Place) -> Option<Box<Checks>> {
        let size = |key: &str| map.get(key).and_then(Value::as_u64).and_then(|size| usize::try_from(size).ok());
        let bound = |key: &str, exclusive: &str| {
            map.get(key).and_then(Value::as_number).and_then(|number| {
                Some(Bound {
                    limit: number.as_f64()?,
                    exclusive: map.get(exclusive).and_then(Value::as_bool).unwrap_or(false),
                    text: trimmed(number),
                })
            })
        };
        let mut checks = Checks {
            enumeration: map.get("enum").and_then(Value::as_array).cloned(),
            minimum: bound("minimum", "exclusiveMinimum"),
            maximum: bound("maximum", "exclusiveMaximum"),
            multiple_of: map.get("multipleOf").and_then(Value::as_f64).filter(|factor| *factor > 0.0),
            min_length: size("minLength"),
            max_length: size("maxLength"),
            pattern: None,
            min_items: size("minItems"),
            max_items: size("maxItems"),
            min_properties: size("minProperties"),
            max_properties: size("maxProperties"),
            ..Checks::default()
        };
        if let Some(pattern) = map.get("pattern").and_then(Value::as_str).filter(|pattern| !pattern.is_empty()) {
            match compile_pattern(pattern) {
                Ok(compiled) => checks.pattern = Some(compiled),
                Err(why) => {
                    let why = format!("must be a valid regular expression, but isn't: {why}");
                    self.fail(FieldError::invalid(place.at("pattern"), &Value::from(pattern), why));
                }
            }
        }
        for (key, into) in [("allOf", &mut checks.all_of), ("anyOf", &mut checks.any_of), ("oneOf", &mut checks.one_of)]
        {
            for (index, document) in map.get(key).and_then(Value::as_array).into_iter().flatten().enumerate() {
                let below = Place { junctor: true, ..place.below(format_args!("{key}[{index}]")) };
                into.push(self.node(document, &below));
            }
        }
        if let Some(document) = map.get("not") {
            checks.not = Some(self.node(document, &Place { junctor: true, ..place.below("not") }));
        }
        checks.any().then(|| Box::new(checks))
    }

    fn rules(&mut self, map: &Map<String, Value>, node: &mut Node, place: &Place) {
        let Some(rules) = map.get("x-kubernetes-validations") else { return };
        let field = place.at("x-kubernetes-validations");
        if place.junctor {
            self.fail(FieldError::forbidden(field, "must be undefined to be structural"));
            return;
        }
        let mut compiled = Vec::new();
        for (index, rule) in rules.as_array().into_iter().flatten().enumerate() {
            match Rule::compile(rule, node, place.resource) {
                Ok(rule) => compiled.push(rule),
                Err((key, why)) => {
                    let shown = rule.get(key).cloned().unwrap_or_default();
                    self.fail(FieldError::invalid(format!("{field}[{index}].{key}"), &shown, why));
                }
            }
        }
        node.rules = compiled;
    }

    fn default(&mut self, map: &Map<String, Value>, node: &mut Node, place: &Place) {
        let Some(default) = map.get("default") else { return };
        if place.root {
            self.fail(FieldError::forbidden(place.at("default"), "must not be set at the root"));
            return;
        }
        let mut whole = default.clone();
        // Flags of this node are not computed yet; its own default may still need the defaults below.
        node.defaults_below = true;
        defaults::apply(node, &mut whole);
        let errors = validate::validate(node, &whole, None);
        for error in errors {
            let inner = if error.field == "<nil>" { String::new() } else { format!(".{}", error.field) };
            self.fail(FieldError::new(format!("{}.default{inner}", place.path), error.reason, error.detail));
        }
        node.default = Some(whole);
    }
}

impl Checks {
    fn any(&self) -> bool {
        self.enumeration.is_some()
            || self.minimum.is_some()
            || self.maximum.is_some()
            || self.multiple_of.is_some()
            || self.min_length.is_some()
            || self.max_length.is_some()
            || self.pattern.is_some()
            || self.min_items.is_some()
            || self.max_items.is_some()
            || self.min_properties.is_some()
            || self.max_properties.is_some()
            || !self.all_of.is_empty()
            || !self.any_of.is_empty()
            || !self.one_of.is_empty()
            || self.not.is_some()
    }
}

pub(super) fn strings(value: Option<&Value>) -> Vec<String> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

/// A limit as people write it: `1`, not `1.0`.
fn trimmed(number: &serde_json::Number) -> String {
    let text = number.to_string();
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}
