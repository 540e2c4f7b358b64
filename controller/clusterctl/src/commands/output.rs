//! `-o`: the forms in which objects are printed.

use super::catalog::Resource;
use super::columns::{self, Column};
use super::jsonpath::Template;
use anyhow::{Context, Result, bail};
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
    JsonPath(Template),
    /// Columns of the user's choice.
    Columns(Vec<Column>),
}

impl std::str::FromStr for Output {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "wide" => Self::Table { wide: true },
            "yaml" => Self::Yaml,
            "json" => Self::Json,
            "name" => Self::Name,
            _ => match text.split_once('=') {
                Some(("jsonpath", template)) => {
                    Self::JsonPath(Template::parse(template).map_err(|error| error.to_string())?)
                }
                Some(("custom-columns", columns)) => Self::Columns(columns::parse(columns)?),
                _ => {
                    return Err("allowed are json, yaml, name, wide, jsonpath=TEMPLATE, custom-columns=HEADING:PATH,…"
                        .to_owned());
                }
            },
        })
    }
}

/// Prints objects in a form other than a table of the server's. One object that was named prints alone, everything else
/// as a List.
pub fn print(output: &Output, objects: &[(Resource, Value)], alone: bool, headings: bool) -> Result<()> {
    match output {
        Output::Name => {
            for (resource, object) in objects {
                println!("{}", resource.object_name(object["metadata"]["name"].as_str().unwrap_or_default()));
            }
            return Ok(());
        }
        Output::Columns(columns) => {
            print!("{}", columns::table(columns, objects.iter().map(|(_, object)| object))?.render(headings));
            return Ok(());
        }
        _ => {}
    }
    let document = match objects {
        [(_, object)] if alone => object.clone(),
        _ => json!({"apiVersion": "v1", "kind": "List", "metadata": {},
            "items": objects.iter().map(|(_, object)| object).collect::<Vec<_>>()}),
    };
    match output {
        Output::Yaml => print!("{}", yaml(&document)?),
        Output::Json => println!("{}", serde_json::to_string_pretty(&document).context("failed to render JSON")?),
        Output::JsonPath(template) => println!("{}", template.render(&document)?.trim_end_matches('\n')),
        Output::Table { .. } | Output::Name | Output::Columns(_) => bail!("a table is not printed here"),
    }
    Ok(())
}

/// A document as YAML.
pub fn yaml(document: &Value) -> Result<String> {
    serde_saphyr::to_string(document).context("failed to render YAML")
}

/// The object without what only the machinery reads: managed fields.
pub fn shown(mut object: Value) -> Value {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_and_others_are_named() {
        assert_eq!("wide".parse(), Ok(Output::Table { wide: true }));
        assert!(matches!("jsonpath={.a}".parse(), Ok(Output::JsonPath(_))));
        assert!(matches!("custom-columns=A:.a".parse(), Ok(Output::Columns(_))));
        for bad in ["xml", "jsonpath={.a", "custom-columns=A"] {
            assert!(bad.parse::<Output>().is_err(), "{bad}");
        }
        assert!("xml".parse::<Output>().unwrap_err().contains("custom-columns"));
    }
}
