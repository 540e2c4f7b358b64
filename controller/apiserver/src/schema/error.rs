//! What is wrong with one field, in the official server's words: clients show these texts and match on them.

use std::fmt;

/// Why a field is refused; the `reason` of a `StatusCause`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// The value breaks a rule.
    Invalid,
    /// A value is missing.
    Required,
    /// The value is none of the supported ones.
    NotSupported,
    /// The value has the wrong JSON type.
    TypeInvalid,
    /// The value occurs twice where it may not.
    Duplicate,
    /// A value may not be set here.
    Forbidden,
    /// The string is too long.
    TooLong,
    /// There are too many items.
    TooMany,
    /// The referenced thing does not exist.
    NotFound,
    /// The server failed, not the caller.
    Internal,
}

impl Cause {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "FieldValueInvalid",
            Self::Required => "FieldValueRequired",
            Self::NotSupported => "FieldValueNotSupported",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::NotFound => "FieldValueNotFound",
            Self::Internal => "InternalError",
        }
    }
}

/// One refused field: `field` is a path such as `spec.nodes[0].name`, `detail` the message of the `StatusCause`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// Path from the root of the object; `<nil>` for the object itself.
    pub field: String,
    /// The machine-readable reason.
    pub reason: Cause,
    /// The text after the path, for example `Invalid value: "x": must be …`.
    pub detail: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.detail)
    }
}

impl std::error::Error for FieldError {}

impl FieldError {
    /// An error whose text is already complete.
    pub fn new(field: impl Into<String>, reason: Cause, detail: impl Into<String>) -> Self {
        Self { field: field.into(), reason, detail: detail.into() }
    }

    /// `Invalid value: VALUE: why`; `value` is shown as Go shows it.
    pub fn invalid(field: impl Into<String>, value: &serde_json::Value, why: impl fmt::Display) -> Self {
        Self::new(field, Cause::Invalid, format!("Invalid value: {}: {why}", shown(value)))
    }

    /// `Required value` with an optional explanation.
    pub fn required(field: impl Into<String>, why: &str) -> Self {
        let detail = if why.is_empty() { "Required value".to_owned() } else { format!("Required value: {why}") };
        Self::new(field, Cause::Required, detail)
    }

    /// `Forbidden: why`.
    pub fn forbidden(field: impl Into<String>, why: impl fmt::Display) -> Self {
        Self::new(field, Cause::Forbidden, format!("Forbidden: {why}"))
    }

    /// `Duplicate value: VALUE`.
    pub fn duplicate(field: impl Into<String>, value: &serde_json::Value) -> Self {
        Self::new(field, Cause::Duplicate, format!("Duplicate value: {}", shown(value)))
    }

    /// `Unsupported value: VALUE: supported values: "a", "b"`.
    pub fn not_supported<S: AsRef<str>>(field: impl Into<String>, value: &serde_json::Value, supported: &[S]) -> Self {
        let list: Vec<String> = supported.iter().map(|word| quoted(word.as_ref())).collect();
        let tail = if list.is_empty() { String::new() } else { format!(": supported values: {}", list.join(", ")) };
        Self::new(field, Cause::NotSupported, format!("Unsupported value: {}{tail}", shown(value)))
    }
}

/// A value in an error text: strings quoted, scalars bare, everything else as JSON; long ones are cut.
pub(crate) fn shown(value: &serde_json::Value) -> String {
    const LONGEST: usize = 512;
    let text = match value {
        serde_json::Value::String(text) => quoted(text),
        serde_json::Value::Null => "null".to_owned(),
        other => other.to_string(),
    };
    match text.char_indices().nth(LONGEST) {
        Some((cut, _)) => format!("{}...", &text[..cut]),
        None => text,
    }
}

/// A string in double quotes with Go's `%q` escapes for what matters.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::Value::String(text.to_owned()).to_string()
}

/// Several errors as one sentence: alone as it is, several in brackets, repeated ones once.
pub fn aggregate(errors: &[FieldError]) -> String {
    let mut seen = std::collections::HashSet::new();
    let texts: Vec<String> = errors.iter().map(ToString::to_string).filter(|text| seen.insert(text.clone())).collect();
    match texts.as_slice() {
        [only] => only.clone(),
        _ => format!("[{}]", texts.join(", ")),
    }
}

/// What is said of fields that come twice and of fields that the schema does not know.
pub fn decoding_complaints(repeated: &[String], unknown: &[String]) -> impl Iterator<Item = String> {
    let twice = repeated.iter().map(|path| format!("duplicate field \"{path}\""));
    twice.chain(unknown.iter().map(|path| format!("unknown field \"{path}\"")))
}

/// The same as the text of a 400, as `fieldValidation=Strict` answers it.
pub fn strict_decoding_error(repeated: &[String], unknown: &[String]) -> String {
    let texts: Vec<String> = decoding_complaints(repeated, unknown).collect();
    format!("strict decoding error: {}", texts.join(", "))
}
