//! Writing answers: objects, lists, tables and metadata, as JSON or YAML, packed when large.

use std::io::Write;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use crate::dispatch::Call;
use crate::error::Error;
use crate::front::Made;
use crate::object::{Object, View, meta};
use crate::read::{Item, Page, SLICE};
use crate::registry::Resource;
use crate::request::accept::{Accept, Encoding, Form};
use crate::request::query::Query;
use crate::schema::table::{self, Include};
use crate::stored;
use crate::write::Written;

/// Answers at least this long are packed for clients that unpack; the official server's threshold.
const PACK_FROM: usize = 128 * 1024;

/// An answer with one object.
pub(crate) fn object(call: &Call, code: u16, view: &View, warnings: &[String]) -> Result<Response, Error> {
    let bytes = match call.accept.form {
        Form::Object => view.raw(),
        Form::Partial(version) => partial_view(view, version),
        Form::Table(version) => {
            let metadata = json!({"resourceVersion": meta(view.value(), "resourceVersion")});
            let options = table_options(version, include(&call.query)?, true);
            to_bytes(&table(&call.resource, std::slice::from_ref(view), metadata, options))
        }
    };
    let mut response = json_bytes(code, bytes, call.accept)?;
    warn(&mut response, warnings);
    Ok(response)
}

/// Adds warnings to an answer.
pub(crate) fn warn(response: &mut Response, warnings: &[String]) {
    for warning in warnings {
        if let Ok(value) = HeaderValue::from_str(&warning_header(warning)) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
}

/// An answer to a write, with the object that came of it.
pub(crate) fn written(call: &Call, written: &Written) -> Result<Response, Error> {
    let mut response = object(call, written.code, &written.view, &written.warnings)?;
    let of = |field| meta(written.view.value(), field).into();
    let revision = written.changed.then(|| of("resourceVersion"));
    response.extensions_mut().insert(Made { name: of("name"), revision });
    Ok(response)
}

/// An answer with a page of a collection.
pub(crate) async fn list(call: &Call, page: &Page) -> Result<Response, Error> {
    let mut metadata = json!({"resourceVersion": page.revision.to_string()});
    if let Some(token) = &page.continue_token {
        metadata["continue"] = json!(token);
    }
    if let Some(remaining) = page.remaining {
        metadata["remainingItemCount"] = json!(remaining);
    }
    let resource = &call.resource;
    let bytes = match call.accept.form {
        Form::Object => whole_list(call, page, &metadata).await?,
        Form::Partial(version) => {
            let mut out = list_head("PartialObjectMetadataList", version, &metadata, page.items.len() * 512);
            for (at, item) in page.items.iter().enumerate() {
                separate(at, &mut out);
                out.extend_from_slice(&partial_view(&view(item, resource)?, version));
            }
            list_end(out)
        }
        Form::Table(version) => {
            let options = table_options(version, include(&call.query)?, true);
            let views = page.items.iter().map(|item| view(item, resource)).collect::<Result<Vec<_>, _>>()?;
            to_bytes(&table(resource, &views, metadata, options))
        }
    };
    json_bytes(200, bytes, call.accept)
}

async fn whole_list(call: &Call, page: &Page, metadata: &Value) -> Result<Bytes, Error> {
    let (resource, api_version) = (&call.resource, call.resource.api_version());
    let size = page.items.iter().map(|item| match item {
        Item::Stored(entry) => entry.value.len() + 64,
        Item::View(_) => 1024,
    });
    let mut out = list_head(&resource.definition.list_kind, &api_version, metadata, size.sum());
    for (at, item) in page.items.iter().enumerate() {
        if at % SLICE == SLICE - 1 {
            tokio::task::yield_now().await;
        }
        separate(at, &mut out);
        match item {
            Item::Stored(entry) => stored::append(entry, resource, &api_version, &mut out)?,
            Item::View(view) => out.extend_from_slice(&view.raw()),
        }
    }
    Ok(list_end(out))
}

fn view(item: &Item, resource: &Resource) -> Result<View, Error> {
    Ok(match item {
        Item::Stored(entry) => resource.view(&Object::of(entry)?),
        Item::View(view) => view.clone(),
    })
}

/// The beginning of a list, with room for `size` bytes of items.
fn list_head(kind: &str, api_version: &str, metadata: &Value, size: usize) -> Vec<u8> {
    let (kind, api_version) = (Value::from(kind), Value::from(api_version));
    let head = format!("{{\"kind\":{kind},\"apiVersion\":{api_version},\"metadata\":{metadata},\"items\":[");
    let mut out = Vec::with_capacity(head.len() + size + 2);
    out.extend_from_slice(head.as_bytes());
    out
}

fn separate(at: usize, out: &mut Vec<u8>) {
    if at > 0 {
        out.push(b',');
    }
}

fn list_end(mut out: Vec<u8>) -> Bytes {
    out.extend_from_slice(b"]}");
    Bytes::from(out)
}

/// A plain JSON document.
pub(crate) fn document(code: u16, value: &Value, accept: Accept) -> Result<Response, Error> {
    json_bytes(code, to_bytes(value), accept)
}

/// JSON bytes in the encoding the client wants.
pub(crate) fn json_bytes(code: u16, bytes: Bytes, accept: Accept) -> Result<Response, Error> {
    let (bytes, media) = match accept.encoding {
        Encoding::Json => (bytes, "application/json"),
        Encoding::Yaml => (yaml(&bytes)?, "application/yaml"),
    };
    Ok(bytes_of(code, bytes, media, accept.gzip))
}

/// Bytes of any media type, packed when that pays.
pub(crate) fn bytes_of(code: u16, bytes: Bytes, media: &'static str, gzip: bool) -> Response {
    let packed = (gzip && bytes.len() >= PACK_FROM).then(|| pack(&bytes)).flatten();
    let is_packed = packed.is_some();
    let mut response = Response::new(Body::from(packed.unwrap_or(bytes)));
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    if is_packed {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    }
    response
}

/// What HEAD gets: the same but for the body, whose length is told.
pub(crate) fn without_body(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    if let Some(length) = http_body::Body::size_hint(&body).exact() {
        parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Response::from_parts(parts, Body::empty())
}

fn pack(bytes: &Bytes) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 8), Compression::fast());
    encoder.write_all(bytes).ok()?;
    encoder.finish().ok().map(Bytes::from)
}

fn yaml(bytes: &Bytes) -> Result<Bytes, Error> {
    let broken = |error: &dyn std::fmt::Display| Error::Internal(format!("yaml: {error}"));
    let value: Value = serde_json::from_slice(bytes).map_err(|error| broken(&error))?;
    serde_saphyr::to_string(&value).map(Bytes::from).map_err(|error| broken(&error))
}

fn to_bytes(value: &Value) -> Bytes {
    Bytes::from(value.to_string())
}

/// `PartialObjectMetadata` of an object.
pub(crate) fn partial(value: &Value, version: &str) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": version, "metadata": value["metadata"]})
}

/// The same of a stored object, with its `managedFields`.
pub(crate) fn partial_view(view: &View, version: &str) -> Bytes {
    crate::object::write(&partial(view.value(), version), &view.object().managed)
}

/// What a table's rows carry, as the query asks.
pub(crate) fn include(query: &Query) -> Result<Include, Error> {
    match query.include_object.as_deref() {
        None | Some("Metadata") => Ok(Include::Metadata),
        Some("None") => Ok(Include::None),
        Some("Object") => Ok(Include::Object),
        Some(other) => Err(Error::BadRequest(format!("unrecognized includeObject value: {other:?}"))),
    }
}

/// Rendering options for now.
pub(crate) fn table_options(api_version: &str, include: Include, headers: bool) -> table::Options<'_> {
    table::Options { api_version, include, headers, now: jiff::Timestamp::now() }
}

/// A table of objects.
pub(crate) fn table(resource: &Resource, views: &[View], metadata: Value, options: table::Options<'_>) -> Value {
    let values = views.iter().map(View::value);
    table::render(&resource.definition, resource.version(), values, metadata, options)
}

/// A `Warning` header's value; control characters cannot travel in it.
fn warning_header(text: &str) -> String {
    let clean: String = text.chars().filter(|c| c.is_ascii() && !c.is_ascii_control()).take(256).collect();
    format!("299 - {}", Value::from(clean))
}
