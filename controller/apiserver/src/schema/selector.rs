//! Label and field selectors as list and watch requests carry them.

use serde_json::Value;

use super::metadata::{is_label_value, qualified_name};
use super::{Definition, Version};

/// A selector the server cannot follow; the text of a 400.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub String);

/// A longer selector is nobody's.
const LONGEST: usize = 64 * 1024;

/// `a=b,c in (d,e),!f` over `metadata.labels`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    key: String,
    demand: Demand,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Demand {
    Exists,
    Absent,
    In(Vec<String>),
    NotIn(Vec<String>),
    Greater(i64),
    Less(i64),
}

impl LabelSelector {
    /// Reads the text form; an empty text selects everything.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        if text.len() > LONGEST {
            return Err(SelectorError("label selector is too long".to_owned()));
        }
        let mut requirements = Vec::new();
        for part in split_outside_parentheses(text) {
            let part = part.trim();
            if part.is_empty() {
                if text.trim().is_empty() {
                    break;
                }
                return Err(unparsable("found ',', expected: !, identifier, or 'end of string'"));
            }
            requirements.push(requirement(part)?);
        }
        Ok(Self { requirements })
    }

    /// Whether the object's labels fit.
    pub fn matches(&self, object: &Value) -> bool {
        let labels = object.get("metadata").and_then(|metadata| metadata.get("labels"));
        self.requirements.iter().all(|requirement| {
            let found = labels.and_then(|labels| labels.get(&requirement.key)).and_then(Value::as_str);
            requirement.demand.met_by(found)
        })
    }

    /// Whether it selects everything.
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }
}

impl Demand {
    fn met_by(&self, found: Option<&str>) -> bool {
        match self {
            Self::Exists => found.is_some(),
            Self::Absent => found.is_none(),
            Self::In(values) => found.is_some_and(|found| values.iter().any(|value| value == found)),
            Self::NotIn(values) => found.is_none_or(|found| values.iter().all(|value| value != found)),
            Self::Greater(limit) => {
                found.and_then(|found| found.parse::<i64>().ok()).is_some_and(|found| found > *limit)
            }
            Self::Less(limit) => found.and_then(|found| found.parse::<i64>().ok()).is_some_and(|found| found < *limit),
        }
    }
}

fn unparsable(why: impl std::fmt::Display) -> SelectorError {
    SelectorError(format!("unable to parse requirement: {why}"))
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0u32, 0);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
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

fn requirement(part: &str) -> Result<Requirement, SelectorError> {
    if let Some(key) = part.strip_prefix('!') {
        return Ok(Requirement { key: label_key(key.trim())?, demand: Demand::Absent });
    }
    let end = part.find(|c: char| c.is_whitespace() || "=!<>(".contains(c)).unwrap_or(part.len());
    let (key, rest) = part.split_at(end);
    let (key, rest) = (label_key(key)?, rest.trim());
    let single = |value: &str| label_value(value.trim()).map(|value| vec![value]);
    let number = |value: &str| {
        value.trim().parse::<i64>().map_err(|_| unparsable("for 'Gt', 'Lt' operators, the value must be an integer"))
    };
    let demand = if rest.is_empty() {
        Demand::Exists
    } else if let Some(value) = rest.strip_prefix("!=") {
        Demand::NotIn(single(value)?)
    } else if let Some(value) = rest.strip_prefix("==").or_else(|| rest.strip_prefix('=')) {
        Demand::In(single(value)?)
    } else if let Some(value) = rest.strip_prefix('>') {
        Demand::Greater(number(value)?)
    } else if let Some(value) = rest.strip_prefix('<') {
        Demand::Less(number(value)?)
    } else if let Some(values) = word(rest, "notin") {
        Demand::NotIn(set(values)?)
    } else if let Some(values) = word(rest, "in") {
        Demand::In(set(values)?)
    } else {
        return Err(unparsable(format!("found '{rest}', expected: in, notin, =, ==, !=, gt, lt")));
    };
    Ok(Requirement { key, demand })
}

fn word<'a>(rest: &'a str, word: &str) -> Option<&'a str> {
    rest.strip_prefix(word).filter(|tail| tail.starts_with(['(', ' '])).map(str::trim)
}

fn set(text: &str) -> Result<Vec<String>, SelectorError> {
    let inner = text
        .strip_prefix('(')
        .and_then(|rest| rest.strip_suffix(')'))
        .ok_or_else(|| unparsable(format!("found '{text}', expected: '('")))?;
    inner.split(',').map(|value| label_value(value.trim())).collect()
}

fn label_key(key: &str) -> Result<String, SelectorError> {
    match qualified_name(key) {
        None => Ok(key.to_owned()),
        Some(why) => Err(unparsable(format!("key: Invalid value: {key:?}: {why}"))),
    }
}

fn label_value(value: &str) -> Result<String, SelectorError> {
    if is_label_value(value) {
        Ok(value.to_owned())
    } else {
        Err(unparsable(format!(
            "values[0][key]: Invalid value: {value:?}: a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
        )))
    }
}

/// `metadata.name=x,spec.host!=y` over the fields a version declares selectable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSelector {
    terms: Vec<Term>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    path: Vec<String>,
    equal: bool,
    value: String,
}

impl FieldSelector {
    /// Reads the text form; fields that the version does not declare are refused.
    pub fn parse(text: &str, definition: &Definition, version: &Version) -> Result<Self, SelectorError> {
        if text.len() > LONGEST {
            return Err(SelectorError("field selector is too long".to_owned()));
        }
        let mut terms = Vec::new();
        for part in split_unescaped(text) {
            if part.is_empty() {
                continue;
            }
            let (field, equal, value) = operator(part)
                .ok_or_else(|| SelectorError(format!("invalid selector: '{text}'; can't understand '{part}'")))?;
            let known = field == "metadata.name"
                || (field == "metadata.namespace" && definition.namespaced)
                || version.selectable.iter().any(|selectable| selectable == field);
            if !known {
                return Err(SelectorError(format!("field label not supported: {field}")));
            }
            let path = match (definition.plural.as_str(), field) {
                ("events", "source") => "source.component",
                (_, field) => field,
            };
            terms.push(Term { path: path.split('.').map(str::to_owned).collect(), equal, value: unescape(value)? });
        }
        Ok(Self { terms })
    }

    /// Whether the object (in the version the selector was parsed for) fits.
    pub fn matches(&self, object: &Value) -> bool {
        self.terms.iter().all(|term| {
            let found = term.path.iter().try_fold(object, |value, name| value.get(name));
            let equal = match found {
                None | Some(Value::Null) => term.value.is_empty(),
                Some(Value::String(text)) => *text == term.value,
                Some(Value::Bool(flag)) => (if *flag { "true" } else { "false" }) == term.value,
                Some(Value::Number(number)) => number.to_string() == term.value,
                Some(Value::Array(_) | Value::Object(_)) => false,
            };
            equal == term.equal
        })
    }

    /// Whether it selects everything.
    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    /// The one value that the selector demands of a field by `PATH=VALUE`.
    pub fn demanded(&self, path: &str) -> Option<&str> {
        let of_path = |term: &&Term| term.equal && term.path.iter().map(String::as_str).eq(path.split('.'));
        self.terms.iter().find(of_path).map(|term| term.value.as_str())
    }

    /// The name, when the selector demands one by `metadata.name=`: the caller may read one key instead of a list.
    pub fn name(&self) -> Option<&str> {
        self.terms.iter().find(|term| term.equal && term.path == ["metadata", "name"]).map(|term| term.value.as_str())
    }
}

fn split_unescaped(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut escaped) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == ',' {
            parts.push(&text[start..at]);
            start = at + 1;
        }
    }
    parts.push(&text[start..]);
    parts
}

fn operator(part: &str) -> Option<(&str, bool, &str)> {
    let at = part.find('=')?;
    let value = &part[at + 1..];
    match part[..at].strip_suffix('!') {
        Some(field) => Some((field, false, value)),
        None => Some((&part[..at], true, value.strip_prefix('=').unwrap_or(value))),
    }
}

fn unescape(value: &str) -> Result<String, SelectorError> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                _ => {
                    return Err(SelectorError(format!(
                        "invalid field selector: invalid escape sequence in value: {value}"
                    )));
                }
            },
            '=' => return Err(SelectorError(format!("invalid field selector: unescaped character in value: {value}"))),
            c => out.push(c),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests;
