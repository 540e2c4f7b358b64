//! What may stand in a ConfigMap and in a Secret: names of entries that can be file names, a bounded size, and for the
//! well-known types of Secrets the entries that those who read them count on.
//!
//! In the official server's words. What was wrong before and did not change is let through, as in schemas: data of an
//! older server may lack all this.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::schema::{Cause, FieldError};

/// All values of an object together, in bytes.
const MOST: usize = 1024 * 1024;
/// Longest name of an entry, in bytes.
const LONGEST_KEY: usize = 253;
/// The maps of entries.
const MAPS: [&str; 2] = ["data", "binaryData"];
const KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or \
                   'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
/// Names the account that a token's Secret is of.
const ACCOUNT: &str = "kubernetes.io/service-account.name";

/// Everything wrong with the entries of a `ConfigMap` or `Secret`.
pub(crate) fn validate(kind: &str, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let kept = |field: &str| old.is_some_and(|old| old[field] == new[field]);
    if MAPS.into_iter().all(kept) && kept("type") {
        return Vec::new();
    }
    let mut errors = Vec::new();
    for map in MAPS {
        let known = |key: &str| old.is_some_and(|old| old[map].get(key).is_some());
        for key in new[map].as_object().into_iter().flatten().map(|(key, _)| key).filter(|key| !known(key)) {
            errors.extend(check_key(key).map(|error| named(map, key, error)));
            if map == "binaryData" && new["data"].get(key).is_some() {
                let error = FieldError::invalid("", &key.as_str().into(), "duplicate of key present in data");
                errors.push(named(map, key, error));
            }
        }
    }
    let encoded = |map: &str| kind == "Secret" || map == "binaryData";
    let size: usize = MAPS.iter().map(|map| weight(&new[*map], encoded(map))).sum();
    if size > MOST {
        let field = if kind == "Secret" { "data" } else { "" };
        errors.push(FieldError::new(field, Cause::TooLong, format!("Too long: may not be more than {MOST} bytes")));
    }
    if kind == "Secret" && old.is_none_or(|old| check_type(old).is_empty()) {
        errors.extend(check_type(new));
    }
    errors
}

fn named(map: &str, key: &str, error: FieldError) -> FieldError {
    FieldError { field: format!("{map}[{key}]"), ..error }
}

fn check_key(key: &str) -> Option<FieldError> {
    let value = Value::from(key);
    if key.len() > LONGEST_KEY {
        return Some(FieldError::invalid("", &value, format!("must be no more than {LONGEST_KEY} characters")));
    }
    if key.is_empty() || !key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
        return Some(FieldError::invalid("", &value, KEY));
    }
    match key {
        "." => Some(FieldError::invalid("", &value, "must not be '.'")),
        ".." => Some(FieldError::invalid("", &value, "must not be '..'")),
        key if key.starts_with("..") => Some(FieldError::invalid("", &value, "must not start with '..'")),
        _ => None,
    }
}

/// The bytes of all values of a map.
fn weight(map: &Value, encoded: bool) -> usize {
    let padding = |text: &str| text.bytes().rev().take_while(|b| *b == b'=').count();
    let bytes = |text: &str| if encoded { (text.len() / 4 * 3).saturating_sub(padding(text)) } else { text.len() };
    map.as_object().into_iter().flatten().filter_map(|(_, value)| value.as_str()).map(bytes).sum()
}

/// The entries that readers of a well-known type of Secret count on.
fn check_type(secret: &Value) -> Vec<FieldError> {
    let has = |key: &str| secret["data"].get(key).is_some();
    let lacking = |key: &str| (!has(key)).then(|| FieldError::required(format!("data[{key}]"), ""));
    let json_in = |key: &str| {
        let decoded = STANDARD.decode(secret["data"][key].as_str().unwrap_or_default()).unwrap_or_default();
        let sound = serde_json::from_slice::<serde::de::IgnoredAny>(&decoded).is_ok();
        let why = "<secret contents redacted>";
        let broken = || FieldError::invalid(format!("data[{key}]"), &why.into(), "must be valid JSON");
        lacking(key).or_else(|| (!sound).then(broken))
    };
    match secret["type"].as_str().unwrap_or_default() {
        "kubernetes.io/tls" => ["tls.crt", "tls.key"].into_iter().filter_map(lacking).collect(),
        "kubernetes.io/ssh-auth" => lacking("ssh-privatekey").into_iter().collect(),
        "kubernetes.io/basic-auth" if !has("username") => lacking("password").into_iter().collect(),
        "kubernetes.io/dockerconfigjson" => json_in(".dockerconfigjson").into_iter().collect(),
        "kubernetes.io/dockercfg" => json_in(".dockercfg").into_iter().collect(),
        "kubernetes.io/service-account-token" if secret["metadata"]["annotations"][ACCOUNT].is_null() => {
            vec![FieldError::required(format!("metadata.annotations[{ACCOUNT}]"), "")]
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(kind: &str, new: &Value, old: Option<&Value>) -> Vec<String> {
        validate(kind, new, old).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn names_of_entries_are_checked_but_not_those_that_are_there_already() {
        let bad = json!({"data": {"a b": "x", "..up": "x", "fine.conf": "x"}, "binaryData": {"fine.conf": "eA=="}});
        let errors = told("ConfigMap", &bad, None);
        assert_eq!(errors.len(), 3, "{errors:?}");
        assert!(errors[0].starts_with("data[..up]: Invalid value: \"..up\": must not start with '..'"), "{errors:?}");
        assert!(errors[1].starts_with("data[a b]: Invalid value: \"a b\": a valid config key must"), "{errors:?}");
        assert!(errors[2].ends_with("duplicate of key present in data"), "{errors:?}");
        let mut changed = bad.clone();
        changed["data"]["other"] = json!("y");
        assert!(told("ConfigMap", &changed, Some(&bad)).is_empty());
    }

    #[test]
    fn a_mebibyte_fits_and_no_more() {
        let of = |size: usize| json!({"data": {"a": "x".repeat(size)}});
        assert!(told("ConfigMap", &of(MOST), None).is_empty());
        assert_eq!(told("ConfigMap", &of(MOST + 1), None).len(), 1);
        let secret = |size: usize| json!({"data": {"a": STANDARD.encode(vec![0; size])}});
        assert!(told("Secret", &secret(MOST), None).is_empty());
        assert_eq!(told("Secret", &secret(MOST + 1), None).len(), 1);
    }

    #[test]
    fn known_types_of_secrets_hold_what_their_readers_expect() {
        for (kind, data, lacking) in [
            ("kubernetes.io/tls", json!({"tls.crt": ""}), "data[tls.key]: Required value"),
            ("kubernetes.io/ssh-auth", json!({}), "data[ssh-privatekey]: Required value"),
            ("kubernetes.io/basic-auth", json!({}), "data[password]: Required value"),
            ("kubernetes.io/dockerconfigjson", json!({}), "data[.dockerconfigjson]: Required value"),
            (
                "kubernetes.io/dockercfg",
                json!({".dockercfg": "eA=="}),
                "data[.dockercfg]: Invalid value: \"<secret contents redacted>\": must be valid JSON",
            ),
            (
                "kubernetes.io/service-account-token",
                json!({}),
                "metadata.annotations[kubernetes.io/service-account.name]: Required value",
            ),
        ] {
            assert_eq!(told("Secret", &json!({"type": kind, "data": data}), None), [lacking], "{kind}");
        }
        let emptied = json!({"type": "kubernetes.io/tls", "data": {"tls.crt": ""}});
        let whole = json!({"type": "kubernetes.io/tls", "data": {"tls.crt": "", "tls.key": ""}});
        assert_eq!(told("Secret", &emptied, Some(&whole)), ["data[tls.key]: Required value"]);
        let changed = json!({"type": "kubernetes.io/tls", "data": {"tls.crt": "eA=="}});
        assert!(told("Secret", &changed, Some(&emptied)).is_empty());
        let sound = json!({"type": "kubernetes.io/basic-auth", "data": {"username": "eA=="}});
        assert!(told("Secret", &sound, None).is_empty());
        assert!(told("Secret", &json!({"type": "example.dev/own", "data": {}}), None).is_empty());
    }
}
