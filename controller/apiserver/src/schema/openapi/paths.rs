//! The operations of a kind, once for both versions of OpenAPI.

use serde_json::{Map, Value, json};

use super::super::definition::{Definition, Version};
use super::{META, kind_schemas, meta};

/// One URL and what it takes.
pub(super) struct PathItem {
    pub url: String,
    named: bool,
    namespaced: bool,
    operations: Vec<Operation>,
}

struct Operation {
    method: &'static str,
    action: &'static str,
    id: String,
    tag: String,
    description: String,
    query: Vec<&'static (&'static str, &'static str, &'static str)>,
    body: Option<String>,
    answer: String,
    gvk: Value,
    consumes: Vec<&'static str>,
}

type Query = (&'static str, &'static str, &'static str);

static WRITE: [Query; 4] = [
    ("dryRun", "string", "When present, indicates that modifications should not be persisted. The only value is All."),
    ("fieldManager", "string", "A name associated with the actor or entity that is making these changes."),
    ("fieldValidation", "string", "How the server treats unknown or duplicate fields: Ignore, Warn or Strict."),
    ("pretty", "string", "If true, the output is indented."),
];
static FORCE: [Query; 1] =
    [("force", "boolean", "Force is going to force Apply requests over conflicts with other managers.")];
static DELETE: [Query; 4] = [
    ("dryRun", "string", "When present, indicates that modifications should not be persisted. The only value is All."),
    ("gracePeriodSeconds", "integer", "The duration in seconds before the object should be deleted."),
    ("orphanDependents", "boolean", "Deprecated: use propagationPolicy."),
    (
        "propagationPolicy",
        "string",
        "Whether and how garbage collection will be performed: Orphan, Background or Foreground.",
    ),
];
static LIST: [Query; 10] = [
    ("allowWatchBookmarks", "boolean", "Requests watch events of type BOOKMARK."),
    ("continue", "string", "Reads on where an earlier, limited list ended."),
    ("fieldSelector", "string", "Restricts the list by fields. Defaults to everything."),
    ("labelSelector", "string", "Restricts the list by labels. Defaults to everything."),
    ("limit", "integer", "The most objects to return at once."),
    ("resourceVersion", "string", "How old the answer may be, or where a watch begins."),
    ("resourceVersionMatch", "string", "How resourceVersion is applied to a list."),
    ("sendInitialEvents", "boolean", "Begins a watch with the objects that exist."),
    ("timeoutSeconds", "integer", "How long the call may last."),
    ("watch", "boolean", "Watch for changes instead of listing."),
];
static READ: [Query; 1] = [("pretty", "string", "If true, the output is indented.")];

fn base(definition: &Definition, version: &Version) -> String {
    match definition.group.as_str() {
        "" => format!("/api/{}", version.name),
        group => format!("/apis/{group}/{}", version.name),
    }
}

/// Where a review is asked.
pub(super) fn review(definition: &Definition, version: &Version) -> PathItem {
    let namespaced = definition.namespaced;
    let home = if namespaced { "/namespaces/{namespace}" } else { "" };
    let url = format!("{}{home}/{}", base(definition, version), definition.plural);
    let operations = vec![Maker::new(definition, version).make("post", "post", "Create", "")];
    PathItem { url, named: false, namespaced, operations }
}

/// Every URL of one version of a kind.
pub(super) fn paths(definition: &Definition, version: &Version) -> Vec<PathItem> {
    let maker = Maker::new(definition, version);
    let base = base(definition, version);
    let mut items = Vec::new();
    let home = if definition.namespaced {
        let everywhere = vec![maker.make("get", "list", "List", "ForAllNamespaces")];
        items.push(PathItem {
            url: format!("{base}/{}", definition.plural),
            named: false,
            namespaced: false,
            operations: everywhere,
        });
        format!("{base}/namespaces/{{namespace}}/{}", definition.plural)
    } else {
        format!("{base}/{}", definition.plural)
    };
    let namespaced = definition.namespaced;
    let collection = vec![
        maker.make("delete", "deletecollection", "DeleteCollection", ""),
        maker.make("get", "list", "List", ""),
        maker.make("post", "post", "Create", ""),
    ];
    items.push(PathItem { url: home.clone(), named: false, namespaced, operations: collection });
    let one = |suffix: &str| {
        vec![
            maker.make("get", "get", "Read", suffix),
            maker.make("patch", "patch", "Patch", suffix),
            maker.make("put", "put", "Replace", suffix),
        ]
    };
    let mut whole = one("");
    whole.push(maker.make("delete", "delete", "Delete", ""));
    items.push(PathItem { url: format!("{home}/{{name}}"), named: true, namespaced, operations: whole });
    if version.status_subresource {
        items.push(PathItem {
            url: format!("{home}/{{name}}/status"),
            named: true,
            namespaced,
            operations: one("Status"),
        });
    }
    if version.scale.is_some() {
        let operations = one("Scale").into_iter().map(of_scale).collect();
        items.push(PathItem { url: format!("{home}/{{name}}/scale"), named: true, namespaced, operations });
    }
    items
}

/// The operation with a Scale for its body and its answer.
fn of_scale(mut operation: Operation) -> Operation {
    if operation.action == "put" {
        operation.body = Some(meta::SCALE.to_owned());
    }
    operation.answer = meta::SCALE.to_owned();
    operation.consumes.retain(|media| *media != "application/apply-patch+yaml");
    operation.gvk = json!({"group": "autoscaling", "kind": "Scale", "version": "v1"});
    operation
}

struct Maker<'a> {
    definition: &'a Definition,
    version: &'a Version,
    kind: String,
    list: String,
}

impl<'a> Maker<'a> {
    fn new(definition: &'a Definition, version: &'a Version) -> Self {
        let [(kind, _), (list, _)] = kind_schemas(definition, version, true);
        Self { definition, version, kind, list }
    }

    fn make(&self, method: &'static str, action: &'static str, verb: &str, suffix: &str) -> Operation {
        let group = camel(&self.definition.group);
        let group = if group.is_empty() { "Core".to_owned() } else { group };
        let scope = if self.definition.namespaced && suffix != "ForAllNamespaces" { "Namespaced" } else { "" };
        let kind = &self.definition.kind;
        let collection = matches!(action, "list" | "deletecollection");
        let query: Vec<&Query> = match action {
            "get" => READ.iter().collect(),
            "list" => LIST.iter().collect(),
            "delete" => DELETE.iter().collect(),
            "deletecollection" => LIST.iter().chain(&DELETE).collect(),
            "patch" => WRITE.iter().chain(&FORCE).collect(),
            _ => WRITE.iter().collect(),
        };
        let body = match action {
            "post" | "put" => Some(self.kind.clone()),
            "patch" => Some(format!("{META}.Patch")),
            "delete" | "deletecollection" => Some(format!("{META}.DeleteOptions")),
            _ => None,
        };
        let answer = match action {
            "list" => self.list.clone(),
            "delete" | "deletecollection" => format!("{META}.Status"),
            _ => self.kind.clone(),
        };
        let version = capitalized(&self.version.name);
        let mut id = format!("{verb}{group}{version}{scope}{kind}{suffix}");
        id[..1].make_ascii_lowercase();
        let mut tag = format!("{group}_{}", self.version.name);
        tag[..1].make_ascii_lowercase();
        let what = if collection { format!("objects of kind {kind}") } else { format!("the specified {kind}") };
        Operation {
            method,
            action,
            id,
            tag,
            description: format!(
                "{} {}{what}",
                verb.to_lowercase(),
                match suffix {
                    "Status" => "status of ",
                    "Scale" => "scale of ",
                    _ => "",
                }
            ),
            query,
            body,
            answer,
            consumes: media_types(action, self.definition.builtin),
            gvk: json!({"group": self.definition.group, "kind": kind, "version": self.version.name}),
        }
    }
}

fn camel(group: &str) -> String {
    group.split(['.', '-']).map(capitalized).collect()
}

fn capitalized(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map(|first| first.to_ascii_uppercase().to_string() + chars.as_str()).unwrap_or_default()
}

impl PathItem {
    fn path_parameters(&self) -> Vec<(&'static str, &'static str)> {
        let name = self.named.then_some(("name", "name of the object"));
        let namespace =
            self.namespaced.then_some(("namespace", "object name and auth scope, such as for teams and projects"));
        name.into_iter().chain(namespace).collect()
    }
}

/// What a body may be written in. kubectl patches strategically wherever that is declared, so only the kinds whose Go
/// types carry merge keys may declare it.
fn media_types(action: &str, builtin: bool) -> Vec<&'static str> {
    match (action, builtin) {
        ("patch", true) => vec![
            "application/json-patch+json",
            "application/merge-patch+json",
            "application/strategic-merge-patch+json",
            "application/apply-patch+yaml",
        ],
        ("patch", false) => {
            vec!["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"]
        }
        _ => vec!["application/json"],
    }
}

/// In the form of version 3.
pub(super) fn v3(item: &PathItem) -> Value {
    let refer = |name: &str| json!({"schema": {"$ref": format!("#/components/schemas/{name}")}});
    let mut document = Map::new();
    for operation in &item.operations {
        let query: Vec<Value> = operation
            .query
            .iter()
            .map(|(name, kind, description)| {
                json!({"name": name, "in": "query", "description": description, "schema": {"type": kind, "uniqueItems": true}})
            })
            .collect();
        let mut rendered = json!({
            "tags": [operation.tag], "description": operation.description, "operationId": operation.id, "parameters": query,
            "responses": {"200": {"description": "OK", "content": {"application/json": refer(&operation.answer)}}},
            "x-kubernetes-action": operation.action, "x-kubernetes-group-version-kind": operation.gvk,
        });
        if let Some(body) = &operation.body {
            let content: Map<String, Value> =
                operation.consumes.iter().map(|media| ((*media).to_owned(), refer(body))).collect();
            rendered["requestBody"] = json!({"content": content, "required": operation.method != "delete"});
        }
        document.insert(operation.method.to_owned(), rendered);
    }
    let parameters: Vec<Value> = item
        .path_parameters()
        .into_iter()
        .map(|(name, description)| {
            json!({"name": name, "in": "path", "description": description, "required": true, "schema": {"type": "string", "uniqueItems": true}})
        })
        .collect();
    document.insert("parameters".to_owned(), parameters.into());
    document.into()
}

/// In the form of version 2.
pub(super) fn v2(item: &PathItem) -> Value {
    let refer = |name: &str| json!({"$ref": format!("#/definitions/{name}")});
    let mut document = Map::new();
    for operation in &item.operations {
        let mut parameters: Vec<Value> = Vec::new();
        if let Some(body) = &operation.body {
            parameters.push(
                json!({"name": "body", "in": "body", "required": operation.method != "delete", "schema": refer(body)}),
            );
        }
        parameters.extend(operation.query.iter().map(|(name, kind, description)| {
            json!({"name": name, "in": "query", "description": description, "type": kind, "uniqueItems": true})
        }));
        let rendered = json!({
            "tags": [operation.tag], "description": operation.description, "operationId": operation.id, "parameters": parameters,
            "consumes": operation.consumes, "produces": ["application/json"], "schemes": ["https"],
            "responses": {"200": {"description": "OK", "schema": refer(&operation.answer)}},
            "x-kubernetes-action": operation.action, "x-kubernetes-group-version-kind": operation.gvk,
        });
        document.insert(operation.method.to_owned(), rendered);
    }
    let parameters: Vec<Value> = item
        .path_parameters()
        .into_iter()
        .map(|(name, description)| {
            json!({"name": name, "in": "path", "description": description, "required": true, "type": "string", "uniqueItems": true})
        })
        .collect();
    document.insert("parameters".to_owned(), parameters.into());
    document.into()
}
