//! `-o`: the forms in which objects are printed.

use super::catalog::Resource;
use anyhow::{Context, Result, bail};
use jsonpath_rust::JsonPath;
use serde_json::{Value, json};

/// A form of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// A table.
    Table {
        /// With the columns of lower priority.
        wide: bool,
    },
    /// YAML.
    Yaml,
    /// JSON.
    Json,
    /// `kind.group/name`.
    Name,
    /// A kubectl JSONPath template.
    JsonPath(String),
}

impl std::str::FromStr for Output {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "wide" => Self::Table { wide: true },
            "yaml" => Self::Yaml,
            "json" => Self::Json,
            "name" => Self::Name,
            _ => match text.strip_prefix("jsonpath=") {
                Some(template) => Self::JsonPath(template.to_owned()),
                None => return Err("allowed are json, yaml, name, wide, jsonpath=TEMPLATE".to_owned()),
            },
        })
    }
}

/// Prints objects in a form other than a table. One object that was named prints alone, everything else as a List.
pub fn print(output: &Output, objects: &[(Resource, Value)], alone: bool) -> Result<()> {
    if *output == Output::Name {
        for (resource, object) in objects {
            println!("{}", resource.object_name(object["metadata"]["name"].as_str().unwrap_or_default()));
        }
        return Ok(());
    }
    let document = match objects {
        [(_, object)] if alone => object.clone(),
        _ => json!({"apiVersion": "v1", "kind": "List", "metadata": {},
            "items": objects.iter().map(|(_, object)| object).collect::<Vec<_>>()}),
    };
    match output {
        Output::Yaml => print!("{}", serde_saphyr::to_string(&document).context("failed to render YAML")?),
        Output::Json => println!("{}", serde_json::to_string_pretty(&document).context("failed to render JSON")?),
        Output::JsonPath(template) => println!("{}", template_text(template, &document)?),
        Output::Table { .. } | Output::Name => bail!("a table is not printed here"),
    }
    Ok(())
}

/// The text of a template: words as they stand, `{.path}` replaced by the values found there.
pub fn template_text(template: &str, object: &Value) -> Result<String> {
    let mut text = String::new();
    let mut rest = template;
    while let Some(open) = rest.find('{') {
        text.push_str(&rest[..open]);
        let Some(close) = rest[open..].find('}') else { bail!("jsonpath: {template:?} lacks a closing brace") };
        let expression = rest[open + 1..open + close].trim();
        match expression {
            r#""\n""# => text.push('\n'),
            r#""\t""# => text.push('\t'),
            _ => text.push_str(&values(expression, object)?.join(" ")),
        }
        rest = &rest[open + close + 1..];
    }
    text.push_str(rest);
    Ok(text)
}

/// The values at a kubectl JSONPath, each as kubectl prints it.
fn values(expression: &str, object: &Value) -> Result<Vec<String>> {
    let path = format!("${}", expression.trim_start_matches('$'));
    let found = object.query(&path).with_context(|| format!("jsonpath: {expression:?} is no path"))?;
    Ok(found
        .into_iter()
        .map(|value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_mix_words_and_paths() {
        let object = json!({"metadata": {"name": "a"}, "status": {"conditions": [
            {"type": "Ready", "status": "True"}, {"type": "Other", "status": "False"}]}, "items": [{"n": 1}, {"n": 2}]});
        for (template, wanted) in [
            ("{.metadata.name}", "a"),
            ("x={.metadata.name}{\"\\n\"}y", "x=a\ny"),
            ("{.status.conditions[?(@.type==\"Ready\")].status}", "True"),
            ("{.items[*].n}", "1 2"),
            ("{.missing}", ""),
        ] {
            assert_eq!(template_text(template, &object).unwrap(), wanted, "{template}");
        }
        assert!(template_text("{.a", &object).is_err());
    }
}
