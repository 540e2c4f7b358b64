//! Tables for `kubectl get`: the server renders cells, the client only aligns them.

use serde_json::{Map, Value, json};

use super::definition::{Column, Definition, Version};
use super::jsonpath::{Path, printed};
use super::structural::parse_timestamp;

/// What each row carries besides its cells (`includeObject`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Include {
    /// The object's metadata as PartialObjectMetadata; the default.
    #[default]
    Metadata,
    /// Nothing.
    None,
    /// The whole object.
    Object,
}

/// How to render.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// `meta.k8s.io/v1` or `meta.k8s.io/v1beta1`.
    pub api_version: &'a str,
    /// What rows carry.
    pub include: Include,
    /// Column definitions are sent once per watch.
    pub headers: bool,
    /// Ages are counted from here.
    pub now: jiff::Timestamp,
}

/// Where a cell's content comes from.
#[derive(Debug, Clone)]
pub enum Cell {
    /// A JSONPath, as CRDs give it.
    Path(Path),
    /// The number of entries at a path.
    Count(Path),
    /// The object's name.
    Name,
    /// Anything else a built-in kind shows.
    Computed(fn(&Value, jiff::Timestamp) -> Value),
}

const NAME_HELP: &str = "Name must be unique within a namespace. Is required when creating resources, although some resources \
     may allow a client to request the generation of an appropriate name automatically. Name is primarily intended for \
     creation idempotence and configuration definition. Cannot be updated. More info: \
     https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names";
const AGE_HELP: &str = "CreationTimestamp is a timestamp representing the server time when this object was created. It is not \
     guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is \
     represented in RFC3339 form and is in UTC.";

/// The Table of `objects`; `list_metadata` becomes its `metadata` (resourceVersion, continue, remainingItemCount).
pub fn render<'a>(
    _definition: &Definition,
    version: &Version,
    objects: impl IntoIterator<Item = &'a Value>,
    list_metadata: Value,
    options: Options<'_>,
) -> Value {
    let own_name = version.columns.iter().any(|column| matches!(column.cell, Cell::Name));
    let rows: Vec<Value> = objects.into_iter().map(|object| row(version, object, own_name, options)).collect();
    json!({
        "kind": "Table",
        "apiVersion": options.api_version,
        "metadata": if list_metadata.is_object() { list_metadata } else { json!({}) },
        "columnDefinitions": if options.headers { headers(version, own_name) } else { Vec::new() },
        "rows": rows,
    })
}

fn headers(version: &Version, own_name: bool) -> Vec<Value> {
    let header = |name: &str, kind: &str, format: &str, description: &str, priority: i32| json!({"name": name, "type": kind, "format": format, "description": description, "priority": priority});
    let mut headers = Vec::with_capacity(version.columns.len() + 2);
    if !own_name {
        headers.push(header("Name", "string", "name", NAME_HELP, 0));
    }
    if version.columns.is_empty() {
        headers.push(header("Age", "date", "", AGE_HELP, 0));
    }
    headers.extend(version.columns.iter().map(|column| {
        let format = if matches!(column.cell, Cell::Name) { "name" } else { &column.format };
        header(&column.name, &column.kind, format, &column.description, column.priority)
    }));
    headers
}

fn row(version: &Version, object: &Value, own_name: bool, options: Options<'_>) -> Value {
    let mut cells = Vec::with_capacity(version.columns.len() + 2);
    if !own_name {
        cells.push(name(object));
    }
    if version.columns.is_empty() {
        cells.push(age(object.pointer("/metadata/creationTimestamp"), options.now));
    }
    cells.extend(version.columns.iter().map(|column| cell(column, object, options.now)));
    let mut row = Map::new();
    row.insert("cells".to_owned(), cells.into());
    let carried = match options.include {
        Include::None => None,
        Include::Object => Some(object.clone()),
        Include::Metadata => Some(json!({
            "kind": "PartialObjectMetadata",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": object.get("metadata").cloned().unwrap_or_default(),
        })),
    };
    row.insert("object".to_owned(), carried.unwrap_or_default());
    row.into()
}

fn name(object: &Value) -> Value {
    object.pointer("/metadata/name").cloned().unwrap_or_default()
}

fn cell(column: &Column, object: &Value, now: jiff::Timestamp) -> Value {
    match &column.cell {
        Cell::Name => name(object),
        Cell::Computed(compute) => compute(object, now),
        Cell::Count(path) => {
            let count = match path.first(object) {
                Some(Value::Object(map)) => map.len(),
                Some(Value::Array(items)) => items.len(),
                _ => 0,
            };
            count.into()
        }
        Cell::Path(path) if column.kind == "string" => {
            let found = path.find(object);
            if found.is_empty() { Value::Null } else { printed(&found).into() }
        }
        Cell::Path(path) => {
            let Some(found) = path.first(object) else { return Value::Null };
            match (column.kind.as_str(), found) {
                ("integer", Value::Number(number)) if number.is_f64() => {
                    number.as_f64().map_or(Value::Null, |float| (float as i64).into())
                }
                ("integer" | "number", Value::Number(_)) | ("boolean", Value::Bool(_)) => found.clone(),
                ("date", found) => age(Some(found), now),
                _ => Value::Null,
            }
        }
    }
}

/// A timestamp as kubectl shows ages.
pub(super) fn age(since: Option<&Value>, now: jiff::Timestamp) -> Value {
    match since.and_then(Value::as_str) {
        None | Some("") => "<unknown>".into(),
        Some(text) => parse_timestamp(text).map_or_else(
            || "<invalid>".into(),
            |then| {
                human_duration(
                    now.as_second() - then.as_second() - i64::from(now.subsec_nanosecond() < then.subsec_nanosecond()),
                )
                .into()
            },
        ),
    }
}

/// Seconds as kubectl shows durations: two units while that says more, one afterwards.
pub fn human_duration(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let two = |large: i64, unit: char, small: i64, rest: char| {
        if small == 0 { format!("{large}{unit}") } else { format!("{large}{unit}{small}{rest}") }
    };
    match () {
        () if seconds < -1 => "<invalid>".to_owned(),
        () if seconds < 0 => "0s".to_owned(),
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => two(minutes, 'm', seconds % 60, 's'),
        () if minutes < 180 => format!("{minutes}m"),
        () if hours < 8 => two(hours, 'h', minutes % 60, 'm'),
        () if hours < 48 => format!("{hours}h"),
        () if hours < 24 * 8 => two(hours / 24, 'd', hours % 24, 'h'),
        () if hours < 24 * 365 * 2 => format!("{}d", hours / 24),
        () if hours < 24 * 365 * 8 => two(hours / 24 / 365, 'y', hours / 24 % 365, 'd'),
        () => format!("{}y", hours / 24 / 365),
    }
}

#[cfg(test)]
mod tests;
