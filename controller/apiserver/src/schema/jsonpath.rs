//! The part of JSONPath that CRDs use: fields, indexes, `[*]`, and filters such as `[?(@.type=="Ready")]`.
//!
//! Recursive descent (`..`), unions and scripts are refused when the CRD arrives, as the official server refuses them.

use std::fmt;

use serde_json::Value;

/// A compiled path.
#[derive(Debug, Clone, PartialEq)]
pub struct Path {
    steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Field(String),
    Index(i64),
    All,
    Filter { path: Path, operator: Operator, operand: Value },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Exists,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Why a path is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PathError(String);

impl Path {
    /// Reads `.spec.a`, `.spec['a.b'][0]`, `.items[*].x`, `.c[?(@.type=="Ready")].status`; braces around are allowed.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let inner = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(text);
        let inner = inner.strip_prefix('$').unwrap_or(inner);
        if text.len() > 1024 {
            return Err(PathError("path is longer than 1024 bytes".to_owned()));
        }
        let mut steps = Vec::new();
        let mut rest = inner;
        while !rest.is_empty() {
            rest = if let Some(tail) = rest.strip_prefix('[') {
                bracket(tail, &mut steps)?
            } else {
                dotted(rest, &mut steps)?
            };
        }
        Ok(Self { steps })
    }

    /// The plain field names, when the path is nothing else (`.spec.host`).
    pub fn fields(&self) -> Option<Vec<&str>> {
        self.steps.iter().map(|step| if let Step::Field(name) = step { Some(name.as_str()) } else { None }).collect()
    }

    /// Every value the path leads to, in document order.
    pub fn find<'a>(&self, root: &'a Value) -> Vec<&'a Value> {
        let mut found = vec![root];
        for step in &self.steps {
            let mut next = Vec::new();
            for value in found {
                step.follow(value, &mut next);
            }
            found = next;
        }
        found
    }

    /// The first value the path leads to.
    pub fn first<'a>(&self, root: &'a Value) -> Option<&'a Value> {
        let mut value = root;
        for step in &self.steps {
            match step {
                Step::Field(name) => value = value.get(name)?,
                Step::Index(index) => value = at(value, *index)?,
                Step::All | Step::Filter { .. } => return self.find(root).into_iter().next(),
            }
        }
        Some(value)
    }
}

impl Step {
    fn follow<'a>(&self, value: &'a Value, next: &mut Vec<&'a Value>) {
        match self {
            Self::Field(name) => next.extend(value.get(name)),
            Self::Index(index) => next.extend(at(value, *index)),
            Self::All => match value {
                Value::Array(items) => next.extend(items),
                Value::Object(map) => next.extend(map.values()),
                _ => {}
            },
            Self::Filter { path, operator, operand } => {
                if let Value::Array(items) = value {
                    next.extend(items.iter().filter(|item| operator.holds(path.first(item), operand)));
                }
            }
        }
    }
}

impl Operator {
    fn holds(self, found: Option<&Value>, operand: &Value) -> bool {
        let Some(found) = found else { return false };
        let order = match (found, operand) {
            (Value::Number(a), Value::Number(b)) => a.as_f64().partial_cmp(&b.as_f64()),
            (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
            (a, b) => (a == b).then_some(std::cmp::Ordering::Equal),
        };
        match self {
            Self::Exists => true,
            Self::Equal => order.is_some_and(|order| order.is_eq()),
            Self::NotEqual => !order.is_some_and(|order| order.is_eq()),
            Self::Less => order.is_some_and(|order| order.is_lt()),
            Self::LessOrEqual => order.is_some_and(|order| order.is_le()),
            Self::Greater => order.is_some_and(|order| order.is_gt()),
            Self::GreaterOrEqual => order.is_some_and(|order| order.is_ge()),
        }
    }
}

fn at(value: &Value, index: i64) -> Option<&Value> {
    let items = value.as_array()?;
    let index = if index < 0 { index + i64::try_from(items.len()).ok()? } else { index };
    items.get(usize::try_from(index).ok()?)
}

/// `.name`, with `\.` for a dot in the name.
fn dotted<'a>(rest: &'a str, steps: &mut Vec<Step>) -> Result<&'a str, PathError> {
    let tail = rest.strip_prefix('.').unwrap_or(rest);
    if tail.starts_with('.') {
        return Err(PathError("recursive descent is not supported".to_owned()));
    }
    if tail.is_empty() && steps.is_empty() {
        return Ok(tail);
    }
    if let Some(after) = tail.strip_prefix('*') {
        steps.push(Step::All);
        return Ok(after);
    }
    let mut name = String::new();
    let mut chars = tail.char_indices();
    let mut end = tail.len();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => name.extend(chars.next().map(|(_, escaped)| escaped)),
            '.' | '[' => {
                end = at;
                break;
            }
            ' ' | '{' | '}' | '(' | ')' | '\'' | '"' => {
                return Err(PathError(format!("unexpected character {c:?}")));
            }
            c => name.push(c),
        }
    }
    if name.is_empty() && !tail[end..].starts_with('[') {
        return Err(PathError("empty field name".to_owned()));
    }
    if !name.is_empty() {
        steps.push(Step::Field(name));
    }
    Ok(&tail[end..])
}

/// What follows `[`.
fn bracket<'a>(tail: &'a str, steps: &mut Vec<Step>) -> Result<&'a str, PathError> {
    for quote in ['\'', '"'] {
        if let Some(inner) = tail.strip_prefix(quote) {
            let (name, after) = inner
                .split_once(&format!("{quote}]"))
                .ok_or_else(|| PathError("unterminated quoted field".to_owned()))?;
            steps.push(Step::Field(name.to_owned()));
            return Ok(after);
        }
    }
    if let Some(inner) = tail.strip_prefix("?(") {
        let (expression, after) = inner.split_once(")]").ok_or_else(|| PathError("unterminated filter".to_owned()))?;
        steps.push(filter(expression)?);
        return Ok(after);
    }
    let (inner, after) = tail.split_once(']').ok_or_else(|| PathError("unterminated array".to_owned()))?;
    steps.push(match inner.trim() {
        "*" | ":" => Step::All,
        index => Step::Index(index.parse().map_err(|_| PathError(format!("invalid array index {index}")))?),
    });
    Ok(after)
}

fn filter(expression: &str) -> Result<Step, PathError> {
    const OPERATORS: [(&str, Operator); 6] = [
        ("==", Operator::Equal),
        ("!=", Operator::NotEqual),
        ("<=", Operator::LessOrEqual),
        (">=", Operator::GreaterOrEqual),
        ("<", Operator::Less),
        (">", Operator::Greater),
    ];
    let side = |text: &str| {
        let text = text.trim();
        let path = text.strip_prefix('@').ok_or_else(|| PathError(format!("unsupported filter {text}")))?;
        Path::parse(path)
    };
    for (symbol, operator) in OPERATORS {
        if let Some((left, right)) = expression.split_once(symbol) {
            let right = right.trim();
            let unquoted = ['\'', '"'].iter().find_map(|quote| right.strip_prefix(*quote)?.strip_suffix(*quote));
            let operand = match unquoted {
                Some(text) => Value::from(text),
                None => serde_json::from_str(right).map_err(|_| PathError(format!("invalid operand {right}")))?,
            };
            return Ok(Step::Filter { path: side(left)?, operator, operand });
        }
    }
    Ok(Step::Filter { path: side(expression)?, operator: Operator::Exists, operand: Value::Null })
}

/// Values as kubectl's printer writes them: strings bare, the rest as JSON, several apart by a space.
pub fn printed(values: &[&Value]) -> String {
    let texts: Vec<String> = values.iter().map(|value| Bare(value).to_string()).collect();
    texts.join(" ")
}

struct Bare<'a>(&'a Value);

impl fmt::Display for Bare<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::String(text) => f.write_str(text),
            Value::Null => Ok(()),
            other => write!(f, "{other}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_find_what_kubectl_finds() {
        let object = json!({
            "spec": {"a": 1, "b.c": "dotted", "list": [{"n": "x", "v": 1}, {"n": "y", "v": 2}]},
            "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Stalled", "status": "False"}]},
        });
        for (path, expected) in [
            (".spec.a", "1"),
            ("{.spec.a}", "1"),
            (r".spec.b\.c", "dotted"),
            (".spec['b.c']", "dotted"),
            (".spec.list[1].n", "y"),
            (".spec.list[-1].n", "y"),
            (".spec.list[*].n", "x y"),
            (r#".status.conditions[?(@.type=="Ready")].status"#, "True"),
            (".status.conditions[?(@.type=='Stalled')].status", "False"),
            (".spec.list[?(@.v>1)].n", "y"),
            (".spec.missing.deep", ""),
            (".spec.list[0]", r#"{"n":"x","v":1}"#),
        ] {
            let path = Path::parse(path).expect(path);
            assert_eq!(printed(&path.find(&object)), expected, "{path:?}");
        }
    }

    #[test]
    fn paths_beyond_crds_are_refused() {
        for path in ["..a", ".a[", ".a[x]", ".a[?(@.b]", ".a b", ".a[?(b==1)]", ".a..b"] {
            assert!(Path::parse(path).is_err(), "{path}");
        }
    }
}
