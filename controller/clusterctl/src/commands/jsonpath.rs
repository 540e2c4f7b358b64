//! kubectl's JSONPath: templates of text, `{.path}`, `{"\n"}` and `{range .items[*]}…{end}`.
//!
//! The paths themselves are RFC 9535's, but for three freedoms of kubectl's: no `$` in front, a dot in a key escaped as
//! `\.`, and hyphens in names. They are rewritten before the library reads them.

use anyhow::{Context, Result, bail};
use jsonpath_rust::JsonPath;
use serde_json::Value;

/// A template, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Path(String),
    Range(String, Vec<Piece>),
}

impl Template {
    /// Reads a template. A path without braces is taken for one in braces.
    pub fn parse(text: &str) -> Result<Self> {
        if text.starts_with('.') && !text.contains('{') {
            return Ok(Self(vec![Piece::Path(rewritten(text))]));
        }
        let mut open: Vec<(String, Vec<Piece>)> = Vec::new();
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            if at > 0 {
                pieces.push(Piece::Text(rest[..at].to_owned()));
            }
            let length = closing(&rest[at..]).with_context(|| format!("jsonpath: {text:?} lacks a closing brace"))?;
            let expression = rest[at + 1..at + length].trim();
            rest = &rest[at + length + 1..];
            if let Some(path) = expression.strip_prefix("range ") {
                open.push((rewritten(path), std::mem::take(&mut pieces)));
            } else if expression == "end" {
                let Some((path, before)) = open.pop() else {
                    bail!("jsonpath: {text:?} has an {{end}} without a {{range}}")
                };
                let body = std::mem::replace(&mut pieces, before);
                pieces.push(Piece::Range(path, body));
            } else if expression.starts_with(['"', '\'']) {
                pieces.push(Piece::Text(unquoted(expression)));
            } else {
                pieces.push(Piece::Path(rewritten(expression)));
            }
        }
        if !open.is_empty() {
            bail!("jsonpath: {text:?} has a {{range}} without an {{end}}");
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Ok(Self(pieces))
    }

    /// The text for an object.
    pub fn render(&self, object: &Value) -> Result<String> {
        let mut text = String::new();
        render(&self.0, object, &mut text)?;
        Ok(text)
    }
}

fn render(pieces: &[Piece], object: &Value, text: &mut String) -> Result<()> {
    for piece in pieces {
        match piece {
            Piece::Text(words) => text.push_str(words),
            Piece::Path(path) => {
                let words: Vec<String> = query(path, object)?.into_iter().map(word).collect();
                text.push_str(&words.join(" "));
            }
            Piece::Range(path, body) => {
                for item in query(path, object)? {
                    render(body, item, text)?;
                }
            }
        }
    }
    Ok(())
}

/// The values at a path such as `.metadata.name`, `metadata.name` or `{.metadata.name}`.
pub fn values<'a>(path: &str, object: &'a Value) -> Result<Vec<&'a Value>> {
    let path = path.strip_prefix('{').and_then(|path| path.strip_suffix('}')).unwrap_or(path);
    query(&rewritten(path), object)
}

/// A value as kubectl prints it: text bare, all else as JSON.
pub fn word(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn query<'a>(path: &str, object: &'a Value) -> Result<Vec<&'a Value>> {
    object.query(path).with_context(|| format!("jsonpath: {path:?} is no path"))
}

/// Where the brace that opens the text is closed; braces in quotes do not count.
fn closing(text: &str) -> Option<usize> {
    let mut quote = None;
    for (at, letter) in text.char_indices() {
        match (quote, letter) {
            (Some(open), letter) if letter == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(letter),
            (None, '}') => return Some(at),
            (None, _) => {}
        }
    }
    None
}

fn unquoted(text: &str) -> String {
    let inner = text.trim_matches(['"', '\'']);
    inner.replace("\\n", "\n").replace("\\t", "\t").replace("\\\"", "\"")
}

/// kubectl's path in the words of RFC 9535.
fn rewritten(path: &str) -> String {
    let path = path.trim();
    let rest = path.strip_prefix(['$', '@']).unwrap_or(path);
    let mut wanted = "$".to_owned();
    let mut letters = rest.chars().peekable();
    let mut first = true;
    while let Some(&letter) = letters.peek() {
        if letter == '[' {
            wanted.push_str(&bracket(&mut letters));
        } else {
            if letter == '.' {
                letters.next();
            } else if !first {
                letters.next();
                continue;
            }
            let deep = letters.next_if_eq(&'.').is_some();
            if deep {
                wanted.push_str("..");
            }
            let name = name(&mut letters);
            match name.as_str() {
                "" => {}
                plain if plain == "*" || is_plain(plain) => {
                    wanted.push_str(if deep { "" } else { "." });
                    wanted.push_str(plain);
                }
                odd => wanted.push_str(&format!("['{}']", odd.replace('\'', "\\'"))),
            }
        }
        first = false;
    }
    wanted
}

fn is_plain(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit()) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

type Letters<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// Up to the next dot or bracket; a backslash takes the next letter as it is.
fn name(letters: &mut Letters<'_>) -> String {
    let mut name = String::new();
    while let Some(letter) = letters.next_if(|letter| !matches!(letter, '.' | '[')) {
        match letter {
            '\\' => name.extend(letters.next()),
            letter => name.push(letter),
        }
    }
    name
}

/// A bracket with all that is in it.
fn bracket(letters: &mut Letters<'_>) -> String {
    let (mut text, mut depth, mut quote) = (String::new(), 0, None);
    for letter in letters.by_ref() {
        text.push(letter);
        match (quote, letter) {
            (Some(open), letter) if letter == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(letter),
            (None, '[') => depth += 1,
            (None, ']') => depth -= 1,
            (None, _) => {}
        }
        if depth == 0 {
            break;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn text(template: &str, object: &Value) -> String {
        Template::parse(template).unwrap().render(object).unwrap()
    }

    #[test]
    fn templates_mix_words_and_paths() {
        let object = json!({
            "metadata": {"name": "a", "labels": {"app.io/name": "web"}},
            "status": {"boot-id": "b", "conditions": [
                {"type": "Ready", "status": "True"}, {"type": "Other", "status": "False"}]},
            "items": [{"n": 1, "m": {"x": "p"}}, {"n": 2, "m": {"x": "q"}}]});
        for (template, wanted) in [
            ("{.metadata.name}", "a"),
            ("{metadata.name}", "a"),
            ("{$.metadata.name}", "a"),
            (".metadata.name", "a"),
            ("x={.metadata.name}{\"\\n\"}y", "x=a\ny"),
            ("{.status.conditions[?(@.type==\"Ready\")].status}", "True"),
            ("{.items[*].n}", "1 2"),
            ("{.items[-1:].n}", "2"),
            ("{..x}", "p q"),
            ("{.missing.deeply}", ""),
            ("{.metadata.labels.app\\.io/name}", "web"),
            ("{.metadata.labels['app.io/name']}", "web"),
            ("{.status.boot-id}", "b"),
            ("{range .items[*]}{.n}:{@.m.x}{\"\\t\"}{end}end", "1:p\t2:q\tend"),
            ("{.items[0].m}", "{\"x\":\"p\"}"),
            ("{'}'}", "}"),
        ] {
            assert_eq!(text(template, &object), wanted, "{template}");
        }
    }

    #[test]
    fn a_broken_template_says_what_is_missing() {
        for (template, wanted) in
            [("{.a", "lacks a closing brace"), ("{range .a}x", "without an {end}"), ("{end}", "without a {range}")]
        {
            let error = Template::parse(template).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
        let bad = Template::parse("{.a[}").unwrap().render(&json!({})).unwrap_err();
        assert!(bad.to_string().contains("is no path"), "{bad}");
    }
}
