//! Validating and compiling a CustomResourceDefinition document.

use serde_json::{Value, json};

use super::definition::{Column, Definition, Scale, Version};
use super::error::FieldError;
use super::jsonpath::Path;
use super::metadata::{dns_label, dns_subdomain};
use super::structural::{self, Kind};
use super::table::Cell;

const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];

/// Compiles the document.
pub(super) fn compile(document: &Value) -> Result<Definition, Vec<FieldError>> {
    let mut errors = Vec::new();
    let names = Names::read(document);
    check_names(document, &names, &mut errors);
    definition(document, names, errors)
}

/// Compiles a document of the server's own, whose group may be the core group.
pub(super) fn compile_builtin(document: &Value) -> Result<Definition, Vec<FieldError>> {
    definition(document, Names::read(document), Vec::new())
}

struct Names {
    group: String,
    plural: String,
    kind: String,
}

impl Names {
    fn read(document: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let spec = &document["spec"];
        Self { group: text(&spec["group"]), plural: text(&spec["names"]["plural"]), kind: text(&spec["names"]["kind"]) }
    }
}

fn definition(document: &Value, own: Names, mut errors: Vec<FieldError>) -> Result<Definition, Vec<FieldError>> {
    let Names { group, plural, kind } = own;
    let spec = &document["spec"];
    let names = &spec["names"];
    let namespaced = match spec["scope"].as_str() {
        Some("Namespaced") => true,
        Some("Cluster") => false,
        Some("") | None => {
            errors.push(FieldError::required("spec.scope", ""));
            true
        }
        Some(_) => {
            errors.push(FieldError::not_supported("spec.scope", &spec["scope"], &["Cluster", "Namespaced"]));
            true
        }
    };
    let strategy = spec["conversion"]["strategy"].as_str().unwrap_or("None");
    if strategy != "None" {
        errors.push(FieldError::not_supported("spec.conversion.strategy", &strategy.into(), &["None"]));
    }
    let mut versions = versions(spec, &mut errors);
    versions.sort_by_key(|version| std::cmp::Reverse(version_order(&version.name)));
    let storage = versions.iter().position(|version| version.storage);
    let declared =
        spec["versions"].as_array().into_iter().flatten().filter(|version| version["storage"] == true).count();
    if declared != 1 && spec["versions"].as_array().is_some_and(|versions| !versions.is_empty()) {
        let why = "must have exactly one version marked as storage version";
        errors.push(FieldError::invalid("spec.versions", &brief(&spec["versions"]), why));
    }
    let (Some(storage_version), true) = (storage, errors.is_empty()) else { return Err(errors) };
    let or =
        |value: &Value, otherwise: String| value.as_str().filter(|t| !t.is_empty()).map_or(otherwise, str::to_owned);
    Ok(Definition {
        singular: or(&names["singular"], kind.to_lowercase()),
        list_kind: or(&names["listKind"], format!("{kind}List")),
        short_names: words(&names["shortNames"]),
        categories: words(&names["categories"]),
        storage_resource: format!("{group}/{plural}"),
        namespaced,
        versions,
        storage_version,
        builtin: false,
        generation: true,
        terminating: document["metadata"]["deletionTimestamp"].is_string(),
        connect: Vec::new(),
        group,
        plural,
        kind,
    })
}

fn check_names(document: &Value, own: &Names, errors: &mut Vec<FieldError>) {
    let (group, plural, kind) = (own.group.as_str(), own.plural.as_str(), own.kind.as_str());
    if group.is_empty() {
        errors.push(FieldError::required("spec.group", ""));
    } else if let Some(why) = dns_subdomain(group) {
        errors.push(FieldError::invalid("spec.group", &group.into(), why));
    } else if !group.contains('.') {
        errors.push(FieldError::invalid("spec.group", &group.into(), "should be a domain with at least one dot"));
    }
    if plural.is_empty() {
        errors.push(FieldError::required("spec.names.plural", ""));
    } else if let Some(why) = dns_label(plural) {
        errors.push(FieldError::invalid("spec.names.plural", &plural.into(), why));
    }
    if kind.is_empty() {
        errors.push(FieldError::required("spec.names.kind", ""));
    } else if let Some(why) = dns_label(&kind.to_lowercase()) {
        let why = format!("may have mixed case, but should otherwise match: {why}");
        errors.push(FieldError::invalid("spec.names.kind", &kind.into(), why));
    }
    let names = &document["spec"]["names"];
    for (index, name) in names["shortNames"].as_array().into_iter().flatten().enumerate() {
        if let Some(why) = dns_label(name.as_str().unwrap_or_default()) {
            errors.push(FieldError::invalid(format!("spec.names.shortNames[{index}]"), name, why));
        }
    }
    if names["listKind"].as_str().is_some_and(|list| list == kind && !kind.is_empty()) {
        errors.push(FieldError::invalid("spec.names.listKind", &kind.into(), "kind and listKind may not be the same"));
    }
    let name = document["metadata"]["name"].as_str().unwrap_or_default();
    if !group.is_empty() && !plural.is_empty() && name != format!("{plural}.{group}") {
        errors.push(FieldError::invalid("metadata.name", &name.into(), "must be spec.names.plural+\".\"+spec.group"));
    }
}

fn versions(spec: &Value, errors: &mut Vec<FieldError>) -> Vec<Version> {
    let documents = spec["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
    if documents.is_empty() {
        errors.push(FieldError::required("spec.versions", "must have at least one version"));
    }
    if documents.len() > 32 {
        errors.push(FieldError::forbidden("spec.versions", "must not have more than 32 versions"));
        return Vec::new();
    }
    // The official server moves a schema that all versions share to the top, and names its errors there.
    let shared = documents.windows(2).all(|pair| pair[0]["schema"] == pair[1]["schema"]);
    let mut compiled: Vec<Version> = Vec::new();
    for (index, document) in documents.iter().enumerate() {
        let field = format!("spec.versions[{index}]");
        let name = document["name"].as_str().unwrap_or_default();
        if let Some(why) = dns_label(name) {
            errors.push(FieldError::invalid(format!("{field}.name"), &name.into(), why));
        }
        if compiled.iter().any(|other| other.name == name) {
            errors.push(FieldError::duplicate(format!("{field}.name"), &name.into()));
        }
        let place = if shared { "spec.validation".to_owned() } else { format!("{field}.schema") };
        let before = errors.len();
        if let Some(version) = version(document, &field, &format!("{place}.openAPIV3Schema"), errors) {
            compiled.push(version);
        } else if shared && errors.len() > before {
            break;
        }
    }
    compiled
}

fn version(document: &Value, field: &str, schema_field: &str, errors: &mut Vec<FieldError>) -> Option<Version> {
    let schema = match &document["schema"]["openAPIV3Schema"] {
        Value::Null => {
            errors.push(FieldError::required(format!("{field}.schema.openAPIV3Schema"), "schemas are required"));
            None
        }
        schema => structural::compile(schema, schema_field).map_err(|found| errors.extend(found)).ok(),
    };
    let columns = columns(&document["additionalPrinterColumns"], field, errors);
    let mut selectable = Vec::new();
    for (index, entry) in document["selectableFields"].as_array().into_iter().flatten().enumerate() {
        let path = entry["jsonPath"].as_str().unwrap_or_default();
        match Path::parse(path).ok().as_ref().and_then(Path::fields) {
            Some(fields) if !fields.is_empty() && index < 16 => selectable.push(fields.join(".")),
            _ => {
                let field = format!("{field}.selectableFields[{index}].jsonPath");
                errors.push(FieldError::invalid(
                    field,
                    &path.into(),
                    "must be a simple path to a field, and one of at most 16",
                ));
            }
        }
    }
    let subresources = &document["subresources"];
    Some(Version {
        name: document["name"].as_str().unwrap_or_default().to_owned(),
        served: document["served"].as_bool().unwrap_or(false),
        storage: document["storage"].as_bool().unwrap_or(false),
        schema: schema?,
        columns,
        selectable,
        status_subresource: subresources["status"].is_object(),
        scale: scale(&subresources["scale"], field, errors),
        deprecated: document["deprecated"].as_bool().unwrap_or(false),
        deprecation_warning: document["deprecationWarning"].as_str().map(str::to_owned),
    })
}

/// What is wrong with the `selectableFields` of a definition that compiled: they must be fields of the schema that hold one
/// plain value. Asked of new documents only, so that one that is stored stays served.
pub fn unselectable(document: &Value, definition: &Definition) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (at, version) in document["spec"]["versions"].as_array().into_iter().flatten().enumerate() {
        let Some(compiled) = definition.version(version["name"].as_str().unwrap_or_default()) else { continue };
        for (index, entry) in version["selectableFields"].as_array().into_iter().flatten().enumerate() {
            let path = entry["jsonPath"].as_str().unwrap_or_default();
            let fields = Path::parse(path).ok();
            let fields = fields.as_ref().and_then(Path::fields).unwrap_or_default();
            let why = match (fields.first(), compiled.schema.root.field(&fields).map(|node| node.kind)) {
                (Some(&"metadata"), _) => "must not point to fields in metadata",
                (_, None) => "is an invalid path: does not refer to a valid field",
                (_, Some(Kind::String | Kind::Integer | Kind::Boolean)) => continue,
                _ => "must point to a field of type string, boolean or integer",
            };
            let field = format!("spec.versions[{at}].selectableFields[{index}].jsonPath");
            errors.push(FieldError::invalid(field, &path.into(), why));
        }
    }
    errors
}

fn columns(documents: &Value, field: &str, errors: &mut Vec<FieldError>) -> Vec<Column> {
    let mut columns = Vec::new();
    for (index, document) in documents.as_array().into_iter().flatten().enumerate() {
        let field = format!("{field}.additionalPrinterColumns[{index}]");
        let text = |key: &str| document[key].as_str().unwrap_or_default().to_owned();
        let (name, kind, path) = (text("name"), text("type"), text("jsonPath"));
        if name.is_empty() {
            errors.push(FieldError::required(format!("{field}.name"), ""));
        }
        if kind.is_empty() {
            errors.push(FieldError::required(format!("{field}.type"), ""));
        } else if !COLUMN_TYPES.contains(&kind.as_str()) {
            errors.push(FieldError::not_supported(format!("{field}.type"), &kind.as_str().into(), &COLUMN_TYPES));
        }
        let cell = match Path::parse(&path) {
            _ if path.is_empty() => {
                errors.push(FieldError::required(format!("{field}.jsonPath"), ""));
                continue;
            }
            Ok(path) => Cell::Path(path),
            Err(why) => {
                let why = format!("must be a valid JSON path: {why}");
                errors.push(FieldError::invalid(format!("{field}.jsonPath"), &path.into(), why));
                continue;
            }
        };
        columns.push(Column {
            name,
            kind,
            cell,
            format: text("format"),
            description: text("description"),
            priority: document["priority"].as_i64().and_then(|n| i32::try_from(n).ok()).unwrap_or(0),
        });
    }
    columns
}

fn scale(document: &Value, field: &str, errors: &mut Vec<FieldError>) -> Option<Scale> {
    document.as_object()?;
    let mut path = |key: &str, root: &str, required: bool| {
        let text = document[key].as_str().unwrap_or_default().to_owned();
        let field = format!("{field}.subresources.scale.{key}");
        if text.is_empty() {
            if required {
                errors.push(FieldError::required(field, ""));
            }
        } else if !text.starts_with(root) || Path::parse(&text).ok().as_ref().and_then(Path::fields).is_none() {
            let why = format!("should be a json path under {root}");
            errors.push(FieldError::invalid(field, &text.as_str().into(), why));
        }
        text
    };
    Some(Scale {
        spec_replicas: path("specReplicasPath", ".spec.", true),
        status_replicas: path("statusReplicasPath", ".status.", true),
        label_selector: Some(path("labelSelectorPath", ".s", false)).filter(|path| !path.is_empty()),
    })
}

/// Kubernetes' order of versions: stable before beta before alpha, newer first; odd names last, by name.
pub(super) fn version_order(name: &str) -> (u8, u64, u64, std::cmp::Reverse<String>) {
    let parsed = name.strip_prefix('v').and_then(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let major: u64 = rest[..end].parse().ok()?;
        let (stage, minor) = match &rest[end..] {
            "" => return Some((3, major, 0)),
            tail if tail.starts_with("beta") => (2, &tail[4..]),
            tail if tail.starts_with("alpha") => (1, &tail[5..]),
            _ => return None,
        };
        Some((stage, major, minor.parse().ok()?))
    });
    let (stage, major, minor) = parsed.unwrap_or((0, 0, 0));
    (stage, major, minor, std::cmp::Reverse(name.to_owned()))
}

/// The `status` of a CRD that this server accepted: names taken, Established.
pub fn accepted_status(document: &Value, now: &str) -> Value {
    let names = &document["spec"]["names"];
    let kind = names["kind"].as_str().unwrap_or_default();
    let mut accepted = names.clone();
    if let Value::Object(map) = &mut accepted {
        map.entry("listKind").or_insert_with(|| format!("{kind}List").into());
        map.entry("singular").or_insert_with(|| kind.to_lowercase().into());
    }
    let condition = |kind: &str, reason: &str, message: &str| json!({"type": kind, "status": "True", "lastTransitionTime": now, "reason": reason, "message": message});
    let mut stored: Vec<Value> = document["status"]["storedVersions"].as_array().cloned().unwrap_or_default();
    let storage = document["spec"]["versions"].as_array().into_iter().flatten().find(|v| v["storage"] == true);
    if let Some(name) = storage.map(|version| version["name"].clone()).filter(|name| !stored.contains(name)) {
        stored.push(name);
    }
    json!({
        "acceptedNames": accepted,
        "conditions": [
            condition("NamesAccepted", "NoConflicts", "no conflicts found"),
            condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        ],
        "storedVersions": stored,
    })
}

/// What a CRD update may not change.
pub fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (pointer, field) in [
        ("/spec/group", "spec.group"),
        ("/spec/scope", "spec.scope"),
        ("/spec/names/plural", "spec.names.plural"),
        ("/spec/names/kind", "spec.names.kind"),
    ] {
        let (new, old) =
            (new.pointer(pointer).cloned().unwrap_or_default(), old.pointer(pointer).cloned().unwrap_or_default());
        if new != old {
            errors.push(FieldError::invalid(field, &new, "field is immutable"));
        }
    }
    let served: Vec<&Value> = new["spec"]["versions"].as_array().into_iter().flatten().map(|v| &v["name"]).collect();
    for (index, stored) in old["status"]["storedVersions"].as_array().into_iter().flatten().enumerate() {
        if !served.contains(&stored) {
            let field = format!("status.storedVersions[{index}]");
            errors.push(FieldError::invalid(field, stored, "missing from spec.versions"));
        }
    }
    errors
}

fn words(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(|word| word.as_str().map(str::to_owned)).collect()
}

/// The versions without their schemas, short enough to be shown.
fn brief(versions: &Value) -> Value {
    versions.as_array().into_iter().flatten().map(|v| json!({"name": v["name"], "storage": v["storage"]})).collect()
}

#[cfg(test)]
mod tests;
