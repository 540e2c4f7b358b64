//! `explain`: the fields of a kind, out of the schema that the server itself checks by.

use super::api::read;
use super::catalog::{Catalog, Resource};
use anyhow::{Context, Result, bail};
use kube::Client;
use serde_json::Value;

/// Which kind or field.
#[derive(clap::Args, Debug)]
pub struct ExplainArgs {
    /// Kind, then the way to the field: `vm.spec.disks`.
    #[arg(value_name = "TYPE[.FIELD…]")]
    pub path: String,
    /// All fields below, without their descriptions.
    #[arg(long)]
    pub recursive: bool,
}

/// Prints a kind's or a field's description and the fields below it.
pub async fn run(client: &Client, args: &ExplainArgs) -> Result<()> {
    let catalog = Catalog::load(client).await?;
    let (kind, path) = args.path.split_once('.').unwrap_or((&args.path, ""));
    let resource = catalog.find(kind)?;
    let place = if resource.group.is_empty() { "api" } else { "apis" };
    let document = read(client, &format!("/openapi/v3/{place}/{}", resource.api_version())).await?;
    let path: Vec<&str> = path.split('.').filter(|name| !name.is_empty()).collect();
    print!("{}", render(&document, resource, &path, args.recursive)?);
    Ok(())
}

fn render(document: &Value, resource: &Resource, path: &[&str], recursive: bool) -> Result<String> {
    let schemas = Schemas(document);
    let root = schemas.of_kind(resource)?;
    let mut schema = root;
    let mut named = None;
    let mut description = None;
    for (at, name) in path.iter().enumerate() {
        let inside = schemas.inside(schema);
        let Some(field) = inside["properties"].get(name) else {
            let so_far = [&[resource.plural.as_str()], &path[..at]].concat().join(".");
            let mut known: Vec<&str> =
                inside["properties"].as_object().into_iter().flatten().map(|(n, _)| n.as_str()).collect();
            known.sort_unstable();
            let known =
                if known.is_empty() { "it has no fields".to_owned() } else { format!("it has: {}", known.join(", ")) };
            bail!("field {name:?} does not exist in {so_far}; {known}");
        };
        named = Some((*name, field));
        description = field["description"].as_str();
        schema = schemas.resolve(field);
    }
    let mut text = String::new();
    if !resource.group.is_empty() {
        text.push_str(&format!("GROUP:      {}\n", resource.group));
    }
    text.push_str(&format!("KIND:       {}\nVERSION:    {}\n\n", resource.kind, resource.version));
    if let Some((name, field)) = named {
        text.push_str(&format!("FIELD: {name} <{}>\n", schemas.type_name(field)));
        text.push_str(&enumeration(schema, 1));
        text.push('\n');
    }
    let description = description.or(schema["description"].as_str()).unwrap_or("<empty>");
    text.push_str("DESCRIPTION:\n");
    text.push_str(&wrapped(description, 4));
    let fields = schemas.inside(schema);
    if fields["properties"].as_object().is_some_and(|fields| !fields.is_empty()) {
        text.push_str("\nFIELDS:\n");
        list(&mut text, &schemas, fields, recursive, 1);
    }
    Ok(text)
}

fn list(text: &mut String, schemas: &Schemas<'_>, schema: &Value, recursive: bool, depth: usize) {
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let must = if required.contains(&name.as_str()) { " -required-" } else { "" };
        text.push_str(&format!("{:2$}{name}\t<{}>{must}\n", "", schemas.type_name(field), depth * 2));
        let resolved = schemas.resolve(field);
        text.push_str(&enumeration(resolved, depth));
        if recursive {
            // A schema may hold itself; nobody reads that deep.
            if depth < 12 {
                list(text, schemas, schemas.inside(resolved), true, depth + 1);
            }
            continue;
        }
        let description =
            field["description"].as_str().or(resolved["description"].as_str()).unwrap_or("<no description>");
        text.push_str(&wrapped(description, 4));
        text.push('\n');
    }
}

fn enumeration(schema: &Value, depth: usize) -> String {
    let values: Vec<String> = schema["enum"].as_array().into_iter().flatten().map(super::jsonpath::word).collect();
    if values.is_empty() { String::new() } else { format!("{:2$}enum: {}\n", "", values.join(", "), depth * 2) }
}

/// The schemas of a group and version.
struct Schemas<'a>(&'a Value);

impl<'a> Schemas<'a> {
    fn of_kind(&self, resource: &Resource) -> Result<&'a Value> {
        let is = |gvk: &Value| {
            gvk["group"] == resource.group.as_str()
                && gvk["version"] == resource.version.as_str()
                && gvk["kind"] == resource.kind.as_str()
        };
        let schemas = self.0["components"]["schemas"].as_object();
        let mut found = schemas.into_iter().flatten().map(|(_, schema)| schema);
        found
            .find(|schema| schema["x-kubernetes-group-version-kind"].as_array().into_iter().flatten().any(is))
            .with_context(|| format!("the server describes no kind {} in {}", resource.kind, resource.api_version()))
    }

    /// What a reference leads to; anything else as it is.
    fn resolve(&self, schema: &'a Value) -> &'a Value {
        match reference(schema).and_then(|target| self.0.pointer(target.trim_start_matches('#'))) {
            Some(target) => target,
            None => schema,
        }
    }

    /// Where a schema's fields are: a list's and a map's are its items'.
    fn inside(&self, schema: &'a Value) -> &'a Value {
        let mut schema = self.resolve(schema);
        while let Some(inner) =
            schema.get("items").or(schema.get("additionalProperties")).filter(|inner| inner.is_object())
        {
            schema = self.resolve(inner);
        }
        schema
    }

    fn type_name(&self, schema: &'a Value) -> String {
        if let Some(target) = reference(schema) {
            return target.rsplit(['.', '/']).next().unwrap_or("Object").to_owned();
        }
        if schema["x-kubernetes-int-or-string"] == true {
            return "IntOrString".to_owned();
        }
        match schema["type"].as_str() {
            Some("array") => format!("[]{}", self.type_name(&schema["items"])),
            Some("object") if schema["additionalProperties"].is_object() => {
                format!("map[string]{}", self.type_name(&schema["additionalProperties"]))
            }
            Some("object") | None => "Object".to_owned(),
            Some(other) => other.to_owned(),
        }
    }
}

fn reference(schema: &Value) -> Option<&str> {
    schema["$ref"].as_str().or(schema["allOf"][0]["$ref"].as_str())
}

/// Text in lines of at most 80 columns. A single line break is only where its author's line was full.
fn wrapped(text: &str, indent: usize) -> String {
    let mut lines = String::new();
    for paragraph in text.split("\n\n") {
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            if !line.is_empty() && indent + line.chars().count() + 1 + word.chars().count() > 80 {
                lines.push_str(&format!("{:indent$}{line}\n", ""));
                line.clear();
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push_str(format!("{:indent$}{line}", "").trim_end());
        lines.push('\n');
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn thing() -> (Value, Resource) {
        let document = json!({"components": {"schemas": {
            "Meta": {"type": "object", "description": "Standard metadata.", "properties": {"name": {"type": "string"}}},
            "dev.test.v1.Thing": {"type": "object", "description": "A thing.", "required": ["spec"],
                "x-kubernetes-group-version-kind": [{"group": "test.dev", "version": "v1", "kind": "Thing"}],
                "properties": {
                    "metadata": {"allOf": [{"$ref": "#/components/schemas/Meta"}], "description": "Its metadata."},
                    "spec": {"type": "object", "description": "What is wished.", "required": ["disks"], "properties": {
                        "size": {"x-kubernetes-int-or-string": true, "description": "How large."},
                        "mode": {"type": "string", "enum": ["a", "b"]},
                        "tags": {"type": "object", "additionalProperties": {"type": "string"}},
                        "disks": {"type": "array", "items": {"type": "object", "properties": {"path": {"type": "string"}}}}}}}}}}});
        let text = |text: &str| text.to_owned();
        let resource = Resource {
            group: text("test.dev"),
            version: text("v1"),
            plural: text("things"),
            singular: text("thing"),
            kind: text("Thing"),
            short_names: Vec::new(),
            categories: Vec::new(),
            namespaced: true,
            verbs: Vec::new(),
        };
        (document, resource)
    }

    #[test]
    fn a_field_is_described_with_the_fields_below() {
        let (document, resource) = thing();
        insta::assert_snapshot!("explain_field", render(&document, &resource, &["spec"], false).unwrap());
        insta::assert_snapshot!("explain_recursive", render(&document, &resource, &[], true).unwrap());
    }

    #[test]
    fn lists_are_looked_into_and_unknown_fields_named() {
        let (document, resource) = thing();
        let path = render(&document, &resource, &["spec", "disks", "path"], false).unwrap();
        assert!(path.contains("FIELD: path <string>"), "{path}");
        let error = render(&document, &resource, &["spec", "disk"], false).unwrap_err().to_string();
        assert_eq!(error, "field \"disk\" does not exist in things.spec; it has: disks, mode, size, tags");
    }
}
