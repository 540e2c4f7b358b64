//! Query parameters, with the checks and the words of the official server.

use std::collections::HashMap;

use crate::error::{Error, Subject};
use crate::schema::{Cause, FieldError};

/// How strictly unknown and duplicate fields are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FieldValidation {
    /// Drop silently.
    Ignore,
    /// Drop, and say so in `Warning` headers.
    #[default]
    Warn,
    /// Refuse.
    Strict,
}

/// `resourceVersionMatch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RevisionMatch {
    /// Exactly this revision.
    Exact,
    /// This revision or newer.
    NotOlderThan,
}

/// Query parameters of a request, decoded once.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// `labelSelector`, as written.
    pub label_selector: String,
    /// `fieldSelector`, as written.
    pub field_selector: String,
    /// `watch`
    pub watch: bool,
    /// `allowWatchBookmarks`
    pub bookmarks: bool,
    /// `sendInitialEvents`
    pub send_initial_events: Option<bool>,
    /// `timeoutSeconds`
    pub timeout_seconds: Option<u64>,
    /// `limit`
    pub limit: Option<usize>,
    /// `continue`
    pub continue_token: String,
    /// `resourceVersion`; `None` when absent or empty.
    pub revision: Option<u64>,
    /// `resourceVersionMatch`
    pub revision_match: Option<RevisionMatch>,
    /// `dryRun=All`
    pub dry_run: bool,
    /// `fieldValidation`
    pub field_validation: FieldValidation,
    /// `fieldManager`
    pub field_manager: String,
    /// `force`, of server-side apply.
    pub force: bool,
    /// `propagationPolicy`
    pub propagation_policy: Option<String>,
    /// `gracePeriodSeconds`
    pub grace_period_seconds: Option<i64>,
    /// `orphanDependents`, the old form of a propagation policy.
    pub orphan_dependents: Option<bool>,
    /// `includeObject` of Table answers.
    pub include_object: Option<String>,
    /// What is wrong with the options of a write; a read does not look at them.
    unsupported: Vec<FieldError>,
}

impl Query {
    /// Decodes the query string of a request.
    pub fn parse(raw: Option<&str>) -> Result<Self, Error> {
        let mut query = Self::default();
        let mut seen: HashMap<String, ()> = HashMap::new();
        for (key, value) in pairs(raw.unwrap_or("")) {
            // Go's form decoding keeps the first of repeated scalars, except dryRun which is a list.
            if key != "dryRun" && seen.insert(key.clone(), ()).is_some() {
                continue;
            }
            query.set(&key, value)?;
        }
        Ok(query)
    }

    fn set(&mut self, key: &str, value: String) -> Result<(), Error> {
        match key {
            "labelSelector" => self.label_selector = value,
            "fieldSelector" => self.field_selector = value,
            "watch" => self.watch = truth(&value),
            "allowWatchBookmarks" => self.bookmarks = truth(&value),
            "sendInitialEvents" => self.send_initial_events = Some(truth(&value)),
            "timeoutSeconds" => self.timeout_seconds = number(key, &value)?.map(|n| u64::try_from(n).unwrap_or(0)),
            "limit" => self.limit = number(key, &value)?.and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0),
            "continue" => self.continue_token = value,
            "resourceVersion" => self.revision = revision(&value)?,
            "resourceVersionMatch" => self.revision_match = revision_match(&value)?,
            "dryRun" => match dry_run(&value) {
                Ok(dry) => self.dry_run |= dry,
                Err(error) => self.unsupported.push(error),
            },
            "fieldValidation" => match field_validation(&value) {
                Ok(validation) => self.field_validation = validation,
                Err(error) => self.unsupported.push(error),
            },
            "fieldManager" => self.field_manager = value,
            "force" => self.force = truth(&value),
            "propagationPolicy" => self.propagation_policy = Some(value).filter(|v| !v.is_empty()),
            "gracePeriodSeconds" => self.grace_period_seconds = number(key, &value)?,
            "orphanDependents" => self.orphan_dependents = Some(truth(&value)),
            "includeObject" => self.include_object = Some(value).filter(|v| !v.is_empty()),
            _ => {}
        }
        Ok(())
    }

    /// The one name that the field selector leaves, which access rules may allow where they do not allow the whole
    /// collection.
    pub fn selected_name(&self) -> Option<&str> {
        let demanded = self.field_selector.split(',').find_map(|term| term.trim().strip_prefix("metadata.name="));
        let name = demanded.map(|name| name.strip_prefix('=').unwrap_or(name))?;
        (!name.is_empty() && !name.contains(['\\', '=', '/'])).then_some(name)
    }

    /// Refuses values that the options of a write may not have; `kind` is the name of these, such as `CreateOptions`.
    pub fn check_options(&self, kind: &str) -> Result<(), Error> {
        let meant = |error: &&FieldError| kind != "DeleteOptions" || error.field != "fieldValidation";
        let errors: Vec<FieldError> = self.unsupported.iter().filter(meant).cloned().collect();
        if errors.is_empty() { Ok(()) } else { Err(invalid_options(kind, errors)) }
    }

    /// Refuses combinations that have no meaning for a list.
    pub fn check_list(&self) -> Result<(), Error> {
        let Some(matching) = self.revision_match else { return Ok(()) };
        if !self.continue_token.is_empty() {
            return Err(invalid_list(
                "resourceVersionMatch",
                "Forbidden: resourceVersionMatch is forbidden for continue",
            ));
        }
        match (matching, self.revision) {
            (_, None) => Err(invalid_list(
                "resourceVersionMatch",
                "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
            )),
            (RevisionMatch::Exact, Some(0)) => Err(invalid_list(
                "resourceVersionMatch",
                "Forbidden: resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\"",
            )),
            _ => Ok(()),
        }
    }

    /// Refuses combinations that have no meaning for a watch.
    pub fn check_watch(&self) -> Result<(), Error> {
        match (self.send_initial_events, self.revision_match) {
            (Some(_), Some(RevisionMatch::NotOlderThan)) | (None, None) => Ok(()),
            (Some(_), _) => Err(invalid_list(
                "resourceVersionMatch",
                "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            )),
            (None, Some(_)) => Err(invalid_list(
                "resourceVersionMatch",
                "Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            )),
        }
    }
}

fn invalid_list(field: &str, message: &str) -> Error {
    invalid_options("ListOptions", vec![FieldError::new(field, Cause::Forbidden, message)])
}

/// Refused options of a request; `kind` is what the official server calls them.
pub(crate) fn invalid_options(kind: &str, errors: Vec<FieldError>) -> Error {
    Error::Invalid(Subject { group: "meta.k8s.io".into(), resource: kind.into(), name: String::new() }, errors)
}

/// Splits and decodes `a=b&c=d`; invalid UTF-8 becomes replacement characters, which then match nothing.
fn pairs(raw: &str) -> impl Iterator<Item = (String, String)> + '_ {
    raw.split('&').filter(|p| !p.is_empty()).map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (unescape(key), unescape(value))
    })
}

fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let hex = |at: usize| bytes.get(at).and_then(|b| char::from(*b).to_digit(16));
        match (bytes[i], hex(i + 1), hex(i + 2)) {
            (b'+', _, _) => out.push(b' '),
            (b'%', Some(hi), Some(lo)) => {
                out.push(u8::try_from(hi * 16 + lo).unwrap_or_default());
                i += 2;
            }
            (b, _, _) => out.push(b),
        }
        i += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn truth(value: &str) -> bool {
    // apimachinery: anything but "false" and "0" is true, so that a bare `?watch` works.
    !matches!(value.to_ascii_lowercase().as_str(), "false" | "0")
}

fn number(key: &str, value: &str) -> Result<Option<i64>, Error> {
    if value.is_empty() {
        return Ok(None);
    }
    value.parse().map(Some).map_err(|_| {
        Error::BadRequest(format!("strconv.ParseInt: parsing {value:?}: invalid syntax (query parameter {key})"))
    })
}

fn revision(value: &str) -> Result<Option<u64>, Error> {
    match value {
        "" => Ok(None),
        text => text.parse().ok().map(Some).ok_or_else(|| {
            Error::BadRequest(format!("resourceVersion: Invalid value: {text:?}: must be a non-negative number"))
        }),
    }
}

fn revision_match(value: &str) -> Result<Option<RevisionMatch>, Error> {
    match value {
        "" => Ok(None),
        "Exact" => Ok(Some(RevisionMatch::Exact)),
        "NotOlderThan" => Ok(Some(RevisionMatch::NotOlderThan)),
        other => Err(invalid_list(
            "resourceVersionMatch",
            &format!("Unsupported value: {other:?}: supported values: \"Exact\", \"NotOlderThan\""),
        )),
    }
}

pub(crate) fn dry_run(value: &str) -> Result<bool, FieldError> {
    match value {
        "" => Ok(false),
        "All" => Ok(true),
        other => Err(FieldError::not_supported("dryRun", &other.into(), &["All"])),
    }
}

fn field_validation(value: &str) -> Result<FieldValidation, FieldError> {
    match value {
        "" | "Warn" => Ok(FieldValidation::Warn),
        "Ignore" => Ok(FieldValidation::Ignore),
        "Strict" => Ok(FieldValidation::Strict),
        other => Err(FieldError::not_supported("fieldValidation", &other.into(), &["Ignore", "Strict", "Warn"])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_checked() {
        let q = Query::parse(Some("labelSelector=a%3Db%2Cc+in%20(d)&limit=5&watch=1&resourceVersion=12&dryRun=All"));
        let q = q.unwrap();
        assert_eq!(q.label_selector, "a=b,c in (d)");
        assert_eq!((q.limit, q.watch, q.revision, q.dry_run), (Some(5), true, Some(12), true));
        for bad in ["resourceVersion=x", "resourceVersion=-1", "limit=q"] {
            assert!(matches!(Query::parse(Some(bad)), Err(Error::BadRequest(_))), "{bad}");
        }
    }

    #[test]
    fn options_of_a_write_are_refused_by_name() {
        let q = |text| Query::parse(Some(text)).unwrap();
        let refused = q("dryRun=Some&fieldValidation=Loud").check_options("CreateOptions").unwrap_err();
        assert_eq!(refused.code(), 422);
        assert_eq!(
            refused.to_string(),
            "CreateOptions.meta.k8s.io \"\" is invalid: [dryRun: Unsupported value: \"Some\": supported values: \"All\", \
             fieldValidation: Unsupported value: \"Loud\": supported values: \"Ignore\", \"Strict\", \"Warn\"]"
        );
        assert!(q("fieldValidation=Loud").check_options("DeleteOptions").is_ok(), "a deletion has no such option");
        assert!(q("dryRun=All&dryRun=").dry_run, "it is a list");
    }

    #[test]
    fn meaningless_combinations_are_refused() {
        let q = |text| Query::parse(Some(text)).unwrap();
        assert!(q("resourceVersionMatch=Exact").check_list().is_err());
        assert!(q("resourceVersionMatch=Exact&resourceVersion=0").check_list().is_err());
        assert!(q("resourceVersionMatch=Exact&resourceVersion=5").check_list().is_ok());
        assert!(q("sendInitialEvents=true").check_watch().is_err());
        assert!(q("sendInitialEvents=true&resourceVersionMatch=NotOlderThan").check_watch().is_ok());
    }
}
