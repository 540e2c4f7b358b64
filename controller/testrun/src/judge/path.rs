//! JSONPath as kubectl takes and prints it.

use jsonpath_rust::JsonPath;
use serde_json::Value;

/// A path that does not parse.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{path:?} is no JSONPath: {reason}")]
pub struct PathError {
    path: String,
    reason: String,
}

/// What stands at `path`.
///
/// # Errors
/// [`PathError`] when the path does not parse.
pub fn values<'a>(object: &'a Value, path: &str) -> Result<Vec<&'a Value>, PathError> {
    let bare = path.trim().trim_start_matches('{').trim_end_matches('}');
    let rooted = match bare.chars().next() {
        Some('$') => bare.to_owned(),
        Some('.' | '[') => format!("${bare}"),
        _ => format!("$.{bare}"),
    };
    object.query(&rooted).map_err(|error| PathError { path: path.to_owned(), reason: error.to_string() })
}

/// The values as kubectl prints them: text bare, the rest as JSON, several with blanks between.
#[must_use]
pub fn print(values: &[&Value]) -> String {
    let words: Vec<String> = values
        .iter()
        .map(|value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        })
        .collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn kubectl_forms_are_understood() {
        let object = json!({"status": {"restarts": 2, "conditions": [
            {"type": "Ready", "status": "True"}, {"type": "Stalled", "status": "False"}]}});
        for (path, printed) in [
            (".status.restarts", "2"),
            ("status.restarts", "2"),
            ("{.status.restarts}", "2"),
            ("$.status.restarts", "2"),
            (".status.conditions[?(@.type==\"Ready\")].status", "True"),
            (".status.conditions[*].type", "Ready Stalled"),
            (".status.nothing", ""),
        ] {
            let found = values(&object, path).unwrap();
            assert_eq!(print(&found), printed, "{path}");
        }
        assert!(values(&object, ".status[").is_err());
    }
}
