//! `-o custom-columns=NAME:.metadata.name,…` and `--sort-by`.

use super::jsonpath;
use crate::print::table::Table;
use anyhow::Result;
use serde_json::Value;
use std::cmp::Ordering;

/// A heading and the path of what stands below it.
pub type Column = (String, String);

/// Reads `NAME:.metadata.name,IP:.status.ip`.
pub fn parse(text: &str) -> Result<Vec<Column>, String> {
    let columns: Option<Vec<Column>> = split(text)
        .into_iter()
        .map(|column| column.split_once(':').map(|(heading, path)| (heading.to_owned(), path.to_owned())))
        .collect();
    match columns {
        Some(columns) if columns.iter().all(|(heading, path)| !heading.is_empty() && !path.is_empty()) => Ok(columns),
        _ => Err(format!("custom-columns: {text:?} must be HEADING:.path,HEADING:.path")),
    }
}

/// At commas outside of brackets.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0);
    for (at, letter) in text.char_indices() {
        match letter {
            '[' | '(' => depth += 1,
            ']' | ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// The table of these objects.
pub fn table<'a>(columns: &[Column], objects: impl Iterator<Item = &'a Value>) -> Result<Table> {
    let mut table = Table::new(columns.iter().map(|(heading, _)| heading.clone()).collect());
    for object in objects {
        let mut row = Vec::new();
        for (_, path) in columns {
            let found: Vec<String> = jsonpath::values(path, object)?.into_iter().map(jsonpath::word).collect();
            row.push(if found.is_empty() { "<none>".to_owned() } else { found.join(",") });
        }
        table.push(row);
    }
    Ok(table)
}

/// Sorts by the value at a path: numbers by size, all else as text; what has none comes first.
pub fn sort_by<T>(items: &mut Vec<T>, path: &str, object: impl Fn(&T) -> &Value) -> Result<()> {
    let mut keyed = Vec::new();
    for item in items.drain(..) {
        let key = jsonpath::values(path, object(&item))?.first().map(|value| (*value).clone());
        keyed.push((key, item));
    }
    keyed.sort_by(|(a, _), (b, _)| compare(a.as_ref(), b.as_ref()));
    items.extend(keyed.into_iter().map(|(_, item)| item));
    Ok(())
}

fn compare(a: Option<&Value>, b: Option<&Value>) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => a.total_cmp(&b),
            _ => jsonpath::word(a).cmp(&jsonpath::word(b)),
        },
        (a, b) => a.is_some().cmp(&b.is_some()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn columns_show_what_is_at_their_paths() {
        let columns = parse("NAME:.metadata.name,SIZE:{.spec.size},ALL:.list[*],A:.list[0,1]").unwrap();
        let objects = [json!({"metadata": {"name": "a"}, "list": [1, 2]}), json!({"spec": {"size": 3}})];
        let text = table(&columns, objects.iter()).unwrap().render(true);
        assert_eq!(
            text,
            "NAME     SIZE     ALL      A\na        <none>   1,2      1,2\n<none>   3        <none>   <none>\n"
        );
        assert!(parse("NAME").unwrap_err().contains("HEADING:.path"));
    }

    #[test]
    fn numbers_sort_by_size() {
        let mut items = vec![json!({"n": 10}), json!({"n": 9}), json!({})];
        sort_by(&mut items, ".n", |item| item).unwrap();
        assert_eq!(items, [json!({}), json!({"n": 9}), json!({"n": 10})]);
    }
}
