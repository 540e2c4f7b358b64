//! Manifests: YAML or JSON, several documents a file, files, directories or standard input.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Where manifests come from.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Sources {
    /// File, directory, or `-` for standard input; may be given several times.
    #[arg(short, long = "filename", value_name = "FILE")]
    pub filename: Vec<PathBuf>,
    /// Descend into directories.
    #[arg(short = 'R', long)]
    pub recursive: bool,
}

/// One document, and where it stands.
#[derive(Debug)]
pub struct Document {
    /// File, and the document's number in it when there are several.
    pub origin: String,
    /// The object.
    pub object: Value,
}

impl Document {
    /// The object's kind, API version and name.
    pub fn identity(&self) -> Result<(&str, &str, &str)> {
        let text = |value: &'_ Value, field: &str| -> Result<()> {
            if value.as_str().is_none_or(str::is_empty) {
                bail!("{}: {field} is missing", self.origin);
            }
            Ok(())
        };
        let (kind, version, name) =
            (&self.object["kind"], &self.object["apiVersion"], &self.object["metadata"]["name"]);
        text(version, "apiVersion")?;
        text(kind, "kind")?;
        text(name, "metadata.name")?;
        Ok((kind.as_str().unwrap_or_default(), version.as_str().unwrap_or_default(), name.as_str().unwrap_or_default()))
    }

    /// The object's namespace, or the one given.
    pub fn namespace<'a>(&'a self, default: &'a str) -> &'a str {
        self.object["metadata"]["namespace"].as_str().unwrap_or(default)
    }
}

impl Sources {
    /// Reads every document; nothing is sent before all of them parse.
    pub fn read(&self) -> Result<Vec<Document>> {
        if self.filename.is_empty() {
            bail!("must specify one of -f");
        }
        let mut documents = Vec::new();
        for path in &self.filename {
            if path == Path::new("-") {
                let mut text = String::new();
                std::io::stdin().read_to_string(&mut text).context("failed to read standard input")?;
                documents.extend(parse("standard input", &text)?);
                continue;
            }
            for file in files(path, self.recursive)? {
                let text =
                    std::fs::read_to_string(&file).with_context(|| format!("failed to read {}", file.display()))?;
                documents.extend(parse(&file.display().to_string(), &text)?);
            }
        }
        if documents.is_empty() {
            bail!(
                "no objects in {}",
                self.filename.iter().map(|f| f.display().to_string()).collect::<Vec<_>>().join(", ")
            );
        }
        Ok(documents)
    }
}

/// The documents of a text. A `List` is taken apart.
pub fn parse(origin: &str, text: &str) -> Result<Vec<Document>> {
    let values: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|error| {
        let told = error.render_with_formatter(&serde_saphyr::UserMessageFormatter);
        anyhow::anyhow!("{origin}: {told}")
    })?;
    let values: Vec<Value> = values.into_iter().filter(|value| !value.is_null()).collect();
    let several = values.len() > 1;
    let mut documents = Vec::new();
    for (index, value) in values.into_iter().enumerate() {
        let origin = if several { format!("{origin}, document {}", index + 1) } else { origin.to_owned() };
        if !value.is_object() {
            bail!("{origin}: not an object");
        }
        match value["items"].as_array() {
            Some(items) if value["kind"].as_str().is_some_and(|kind| kind.ends_with("List")) => {
                documents
                    .extend(items.iter().map(|object| Document { origin: origin.clone(), object: object.clone() }));
            }
            _ => documents.push(Document { origin, object: value }),
        }
    }
    Ok(documents)
}

fn files(path: &Path, recursive: bool) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = std::fs::read_dir(path).with_context(|| format!("failed to read {}", path.display()))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let mut found = Vec::new();
    for path in paths {
        if path.is_dir() && recursive {
            found.extend(files(&path, true)?);
        } else if path.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json") {
            found.push(path);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_numbered_lists_taken_apart_and_errors_name_their_place() {
        let text = "kind: A\napiVersion: v1\nmetadata: {name: a}\n---\n---\nkind: ConfigMapList\nitems: [{kind: B}]\n";
        let documents = parse("f.yaml", text).unwrap();
        assert_eq!(documents.len(), 2);
        assert_eq!(documents[0].identity().unwrap(), ("A", "v1", "a"));
        assert_eq!(documents[1].identity().unwrap_err().to_string(), "f.yaml, document 2: apiVersion is missing");
        assert!(parse("f.yaml", "a: [").unwrap_err().to_string().starts_with("f.yaml: "));
        let twice = "kind: ConfigMap\nmetadata:\n  name: a\ndata:\n  colour: red\n  size: big\n  colour: blue\n";
        let told = parse("f.yaml", twice).unwrap_err().to_string();
        // In the server's own words, which whoever sends YAML by another client reads.
        assert!(told.starts_with("f.yaml: error: line 7 column 3: duplicate mapping key `colour`"), "{told}");
        assert_eq!(parse("f.yaml", "- 1").unwrap_err().to_string(), "f.yaml: not an object");
    }
}
