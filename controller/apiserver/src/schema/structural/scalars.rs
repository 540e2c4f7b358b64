//! Checks on one value: enumeration, bounds, lengths, pattern, format, counts. Texts are go-openapi's.

use serde_json::{Number, Value};

use super::super::error::{Cause, FieldError, quoted, shown};
use super::{Checks, Format, Kind, Node, Path, type_name};

/// Whether the value has the demanded type; pushes the error when not.
pub(super) fn check_type(node: &Node, value: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) -> bool {
    let fits = match (node.kind, value) {
        (Kind::Any, _)
        | (Kind::Object, Value::Object(_))
        | (Kind::Array, Value::Array(_))
        | (Kind::String | Kind::IntOrString, Value::String(_))
        | (Kind::Number, Value::Number(_))
        | (Kind::Boolean, Value::Bool(_)) => true,
        (Kind::Integer | Kind::IntOrString, Value::Number(number)) => is_integer(number),
        (_, Value::Null) => node.nullable,
        _ => false,
    };
    if !fits {
        let found = quoted(type_name(value));
        let detail = format!("Invalid value: {found}: {path} in body must be of type {}: {found}", node.kind.name());
        errors.push(FieldError::new(named(path), Cause::TypeInvalid, detail));
    }
    fits
}

/// Format and value checks of a value that has the right type.
pub(super) fn check_value(node: &Node, value: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    if let Some(format) = node.format {
        check_format(format, value, path, errors);
    }
    let Some(checks) = &node.checks else { return };
    match value {
        Value::String(text) => check_string(checks, text, path, errors),
        Value::Number(number) => check_number(checks, number, path, errors),
        Value::Array(items) => {
            if let Some(max) = checks.max_items.filter(|max| items.len() > *max) {
                let detail = format!("Too many: {}: must have at most {max} items", items.len());
                errors.push(FieldError::new(named(path), Cause::TooMany, detail));
            }
            if let Some(min) = checks.min_items.filter(|min| items.len() < *min) {
                errors.push(invalid(path, &Value::from(items.len()), format!("should have at least {min} items")));
            }
        }
        Value::Object(map) => {
            if let Some(max) = checks.max_properties.filter(|max| map.len() > *max) {
                let detail = format!("Too many: {}: must have at most {max} items", map.len());
                errors.push(FieldError::new(named(path), Cause::TooMany, detail));
            }
            if let Some(min) = checks.min_properties.filter(|min| map.len() < *min) {
                errors.push(invalid(path, &Value::from(map.len()), format!("should have at least {min} properties")));
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
    if let Some(allowed) = &checks.enumeration
        && !allowed.contains(value)
    {
        let texts: Vec<String> =
            allowed.iter().map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned)).collect();
        errors.push(FieldError::not_supported(named(path), value, &texts));
    }
}

fn check_format(format: Format, value: &Value, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let fits = match value {
        Value::String(text) => format.accepts(text),
        Value::Number(number) => match format {
            Format::Int32 => {
                number.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) || integral_in(number, 2_147_483_647.0)
            }
            Format::Int64 => number.as_i64().is_some() || integral_in(number, 9.223_372_036_854_775e18),
            _ => true,
        },
        _ => true,
    };
    if !fits {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let why = format!("{path} in body must be of type {}: {}", format.name(), quoted(&text));
        errors.push(FieldError::new(
            named(path),
            Cause::TypeInvalid,
            format!("Invalid value: {}: {why}", shown(value)),
        ));
    }
}

fn integral_in(number: &Number, limit: f64) -> bool {
    number.is_f64() && number.as_f64().is_some_and(|n| n.fract() == 0.0 && n.abs() <= limit)
}

fn check_string(checks: &Checks, text: &str, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let value = || Value::from(text);
    if checks.max_length.is_some() || checks.min_length.is_some() {
        let length = text.chars().count();
        if let Some(max) = checks.max_length.filter(|max| length > *max) {
            let detail = format!("Too long: may not be more than {max} bytes");
            errors.push(FieldError::new(named(path), Cause::TooLong, detail));
        }
        if let Some(min) = checks.min_length.filter(|min| length < *min) {
            errors.push(invalid(path, &value(), format!("should be at least {min} chars long")));
        }
    }
    if let Some(pattern) = &checks.pattern
        && !pattern.is_match(text)
    {
        errors.push(invalid(path, &value(), format!("should match '{pattern}'")));
    }
}

fn check_number(checks: &Checks, number: &Number, path: &Path<'_>, errors: &mut Vec<FieldError>) {
    let Some(found) = number.as_f64() else { return };
    let value = || Value::Number(number.clone());
    if let Some(bound) = &checks.minimum
        && (found < bound.limit || (bound.exclusive && found <= bound.limit))
    {
        let words = if bound.exclusive { "should be greater than" } else { "should be greater than or equal to" };
        errors.push(invalid(path, &value(), format!("{words} {}", bound.text)));
    }
    if let Some(bound) = &checks.maximum
        && (found > bound.limit || (bound.exclusive && found >= bound.limit))
    {
        let words = if bound.exclusive { "should be less than" } else { "should be less than or equal to" };
        errors.push(invalid(path, &value(), format!("{words} {}", bound.text)));
    }
    if let Some(factor) = checks.multiple_of {
        let quotient = found / factor;
        if (quotient - quotient.round()).abs() > 1e-9 {
            errors.push(invalid(path, &value(), format!("should be a multiple of {factor}")));
        }
    }
}

pub(super) fn is_integer(number: &Number) -> bool {
    !number.is_f64() || number.as_f64().is_some_and(|n| n.fract() == 0.0)
}

/// `Invalid value: V: PATH in body WHY`.
pub(super) fn invalid(path: &Path<'_>, value: &Value, why: impl std::fmt::Display) -> FieldError {
    FieldError::invalid(named(path), value, format_args!("{path} in body {why}"))
}

/// The path as `field` names it: the object itself is `<nil>`.
pub(super) fn named(path: &Path<'_>) -> String {
    let text = path.to_string();
    if text.is_empty() { "<nil>".to_owned() } else { text }
}
