//! Fields below one another, as `describe` shows them: labels in words, values in a column, items of lists with a dash.

use serde_json::Value;

const STEP: usize = 2;

/// The fields of an object, or the items of a list, indented by so many steps.
pub fn render(value: &Value, depth: usize) -> String {
    let mut text = String::new();
    match value {
        Value::Object(_) => object(&mut text, value, depth, None),
        Value::Array(items) => list(&mut text, items, depth),
        other => line(&mut text, depth, None, &scalar(other)),
    }
    text
}

fn object(text: &mut String, value: &Value, depth: usize, mut dash: Option<usize>) {
    let fields: Vec<(&String, &Value)> = value.as_object().into_iter().flatten().collect();
    // What fits on a line first: then its values stand in one column.
    let (nested, flat): (Vec<_>, Vec<_>) = fields.into_iter().partition(|(_, value)| is_nested(value));
    let width = flat.iter().map(|(name, _)| title(name).chars().count()).max().unwrap_or(0) + 3;
    for (name, value) in flat {
        let label = format!("{}:", title(name));
        line(text, depth, dash.take(), &format!("{label:<width$}{}", scalar(value)));
    }
    for (name, value) in nested {
        line(text, depth, dash.take(), &format!("{}:", title(name)));
        text.push_str(&render(value, depth + 1));
    }
}

fn list(text: &mut String, items: &[Value], depth: usize) {
    for item in items {
        match item {
            Value::Object(_) if is_nested(item) => object(text, item, depth + 1, Some(depth)),
            other => line(text, depth + 1, Some(depth), &scalar(other)),
        }
    }
}

/// A line; with a dash it starts one step to the left.
fn line(text: &mut String, depth: usize, dash: Option<usize>, words: &str) {
    let indent = match dash {
        Some(depth) => format!("{:1$}- ", "", depth * STEP),
        None => format!("{:1$}", "", depth * STEP),
    };
    let further = format!("\n{:1$}", "", depth * STEP + STEP);
    let words = words.trim_end().replace('\n', &further);
    text.push_str(&format!("{indent}{words}\n"));
}

fn is_nested(value: &Value) -> bool {
    match value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "<none>".to_owned(),
        Value::Object(_) | Value::Array(_) => "<none>".to_owned(),
        other => other.to_string(),
    }
}

/// A field's name in words: `bootSeconds` is `Boot Seconds`. Names that are not camelCase are keys, and stay.
pub fn title(name: &str) -> String {
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(|c| c.is_ascii_alphanumeric()) {
        return name.to_owned();
    }
    let mut words = String::new();
    let mut before = ' ';
    for letter in name.chars() {
        let starts = letter.is_ascii_uppercase() && !before.is_ascii_uppercase();
        if starts && before != ' ' {
            words.push(' ');
        }
        words.push(if before == ' ' { letter.to_ascii_uppercase() } else { letter });
        before = letter;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_become_words_and_keys_stay() {
        for (name, wanted) in [
            ("bootSeconds", "Boot Seconds"),
            ("ip", "Ip"),
            ("photon.dev/x", "photon.dev/x"),
            ("bootID", "Boot ID"),
            ("a-b", "a-b"),
        ] {
            assert_eq!(title(name), wanted);
        }
    }

    #[test]
    fn lists_of_objects_are_told_apart_by_dashes() {
        let value = json!({"size": 1, "text": "a\nb", "none": [], "steps": [{"name": "x", "exec": {"on": "n"}}, {"name": "y"}], "tags": ["p"]});
        insta::assert_snapshot!(render(&value, 1));
    }
}
