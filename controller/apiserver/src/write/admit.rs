//! What every written object goes through, whoever wrote it and however.

use serde_json::Value;

use crate::dispatch::Call;
use crate::error::Error;
use crate::object::{meta, set_meta};
use crate::registry::Resource;
use crate::request::query::FieldValidation;
use crate::schema::{self, FieldError};

/// Checks that a body is an object of the addressed kind and place, and fills in what the path already says.
pub(super) fn identify(call: &Call, body: &mut Value) -> Result<(), Error> {
    let resource = &call.resource;
    let kind = &resource.definition.kind;
    let expected = resource.api_version();
    let Some(map) = body.as_object_mut() else {
        return Err(Error::BadRequest(format!("the body is not an object of kind {kind}")));
    };
    if resource.definition.builtin {
        // Typed clients leave out what the path says; of a custom resource it is always demanded.
        for (field, own) in [("kind", kind), ("apiVersion", &expected)] {
            let given = map.get(field).is_some_and(|given| given.as_str().is_none_or(|text| !text.is_empty()));
            if !given {
                map.insert(field.to_owned(), Value::String(own.clone()));
            }
        }
    }
    let text = |field: &str| map.get(field).and_then(Value::as_str).unwrap_or("").to_owned();
    let (body_kind, body_version) = (text("kind"), text("apiVersion"));
    if body_kind.is_empty() {
        return Err(Error::BadRequest(format!("Object 'Kind' is missing in {:?}", excerpt(body))));
    }
    if body_version.is_empty() {
        return Err(Error::BadRequest(format!("Object 'apiVersion' is missing in {:?}", excerpt(body))));
    }
    if body_version != expected {
        return Err(Error::BadRequest(format!(
            "the API version in the data ({body_version}) does not match the expected API version ({expected})"
        )));
    }
    if body_kind != *kind {
        let error = FieldError::invalid("kind", &Value::String(body_kind), format!("must be {kind}"));
        return Err(Error::Invalid(resource.kind_subject(meta(body, "name")), vec![error]));
    }
    place(call, body)
}

fn place(call: &Call, body: &mut Value) -> Result<(), Error> {
    if body.get("metadata").is_some_and(|m| !m.is_object() && !m.is_null()) {
        return Err(Error::BadRequest("metadata is not an object".to_owned()));
    }
    if let Some(namespace) = &call.namespace {
        match meta(body, "namespace") {
            "" => set_meta(body, "namespace", Some(Value::String(namespace.clone()))),
            same if same == namespace => {}
            _ => {
                return Err(Error::BadRequest(
                    "the namespace of the provided object does not match the namespace sent on the request".to_owned(),
                ));
            }
        }
    } else {
        set_meta(body, "namespace", None);
    }
    if call.name.is_empty() {
        return Ok(());
    }
    match meta(body, "name") {
        "" => set_meta(body, "name", Some(Value::String(call.name.clone()))),
        same if same == call.name => {}
        other => {
            return Err(Error::BadRequest(format!(
                "the name of the object ({other}) does not match the name on the URL ({})",
                call.name
            )));
        }
    }
    Ok(())
}

fn excerpt(body: &Value) -> String {
    body.to_string().chars().take(200).collect()
}

/// Removes unknown fields, and answers for them and for repeated ones as the client asked; returns the warnings.
pub(super) fn prune(call: &Call, body: &mut Value) -> Result<Vec<String>, Error> {
    let unknown = unknown_fields(&call.resource, body);
    match call.query.field_validation {
        FieldValidation::Strict if !unknown.is_empty() || !call.repeated.is_empty() => {
            let kind = &call.resource.definition.kind;
            Err(Error::BadRequest(format!(
                "{kind} in version {:?} cannot be handled as a {kind}: {}",
                call.resource.version().name,
                schema::strict_decoding_error(&call.repeated, &unknown)
            )))
        }
        FieldValidation::Warn => Ok(schema::decoding_complaints(&call.repeated, &unknown).collect()),
        _ => Ok(Vec::new()),
    }
}

/// Removes and names what neither metadata nor the schema know.
pub(super) fn unknown_fields(resource: &Resource, body: &mut Value) -> Vec<String> {
    let mut unknown = schema::metadata::prune_metadata(body);
    unknown.extend(resource.version().schema.prune(body));
    unknown
}

/// Everything wrong with a document, as one 422.
pub(super) fn validate(resource: &Resource, new: &Value, old: Option<&Value>) -> Result<(), Error> {
    let mut errors = match old {
        None => schema::validate_metadata(&resource.definition, new),
        Some(old) => schema::metadata::validate_metadata_update(&resource.definition, new, old),
    };
    errors.extend(resource.version().schema.validate(new, old));
    errors.extend(crate::special::validate(resource, new, old));
    if errors.is_empty() {
        return Ok(());
    }
    let name = match meta(new, "name") {
        "" => meta(new, "generateName"),
        name => name,
    };
    Err(Error::Invalid(resource.kind_subject(name), errors))
}

/// Warns of versions that will go away.
pub(super) fn deprecation(resource: &Resource) -> Option<String> {
    resource.version().warning(&resource.definition)
}
