//! The server's tables, as they are shown.

use super::catalog::Resource;
use crate::print::table::Table;
use serde_json::Value;

/// Which columns are shown, and what stands in front.
pub struct View {
    /// With the columns of lower priority.
    pub wide: bool,
    /// Names carry their kind, for there are several.
    pub prefix: Option<Resource>,
    /// With the namespace, for there are several.
    pub all: bool,
}

impl View {
    /// The rows under their headings.
    pub fn text(&self, definitions: &Value, rows: &[Value], headings: bool) -> String {
        let shown: Vec<usize> = definitions
            .as_array()
            .into_iter()
            .flatten()
            .enumerate()
            .filter(|(_, column)| self.wide || column["priority"].as_i64().unwrap_or(0) == 0)
            .map(|(index, _)| index)
            .collect();
        let mut names: Vec<String> = Vec::new();
        if self.all {
            names.push("NAMESPACE".to_owned());
        }
        names.extend(shown.iter().map(|i| definitions[*i]["name"].as_str().unwrap_or_default().to_uppercase()));
        let mut text = Table::new(names);
        for row in rows {
            text.push(self.row(row, &shown));
        }
        text.render(headings)
    }

    fn row(&self, row: &Value, shown: &[usize]) -> Vec<String> {
        let mut cells = Vec::new();
        if self.all {
            cells.push(row["object"]["metadata"]["namespace"].as_str().unwrap_or_default().to_owned());
        }
        for (position, index) in shown.iter().enumerate() {
            let cell = match &row["cells"][*index] {
                Value::String(text) => text.clone(),
                Value::Null => "<none>".to_owned(),
                other => other.to_string(),
            };
            match &self.prefix {
                Some(resource) if position == 0 => cells.push(resource.object_name(&cell)),
                _ => cells.push(cell),
            }
        }
        cells
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn wide_shows_more_and_all_shows_namespaces() {
        let definitions = json!([{"name": "Name"}, {"name": "Ready"}, {"name": "Ip", "priority": 1}]);
        let rows = [json!({"cells": ["a", null, "10.0.0.1"], "object": {"metadata": {"namespace": "t"}}})];
        let view = |wide, all| View { wide, prefix: None, all }.text(&definitions, &rows, true);
        assert_eq!(view(false, false), "NAME   READY\na      <none>\n");
        assert_eq!(view(true, true), "NAMESPACE   NAME   READY    IP\nt           a      <none>   10.0.0.1\n");
    }
}
