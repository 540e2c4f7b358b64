//! The server's side of renewal: `hosts/NAME/certificate` certifies the key of the host that asks, for as long again.

use super::{Given, Renewed};
use crate::instance::credentials;
use apiserver::{ApiServer, ConnectTarget, Identity};
use axum::Json;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode};
use serde_json::json;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

/// A request for a certificate is shorter.
const LONGEST: usize = 16 << 10;

/// Has the subresource answered: to the host itself, and to nobody in its name.
pub fn connect(api: &ApiServer, authority: Arc<pki::Authority>, life: Duration) {
    let service = tower::service_fn(move |request: Request<Body>| {
        let authority = authority.clone();
        async move { Ok::<_, Infallible>(answer(&authority, life, request).await) }
    });
    api.connect(crds::GROUP, "hosts", "certificate", service);
}

async fn answer(authority: &pki::Authority, life: Duration, request: Request<Body>) -> Response {
    let host = request.extensions().get::<ConnectTarget>().map(|target| target.name.clone()).unwrap_or_default();
    let caller = request.extensions().get::<Identity>().map(|identity| identity.user.to_string());
    let (subject, usage) = credentials::of_agent(&host);
    if request.method() != Method::POST {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", "certificates are asked for by POST");
    }
    if caller.as_deref() != Some(subject.common_name.as_str()) {
        return refuse(StatusCode::FORBIDDEN, "Forbidden", "a host's certificate is renewed for the host itself alone");
    }
    let body = axum::body::to_bytes(request.into_body(), LONGEST).await;
    let Some(asked) = body.ok().and_then(|body| serde_json::from_slice::<Renewed>(&body).ok()) else {
        return refuse(StatusCode::BAD_REQUEST, "BadRequest", "the body is no request for a certificate");
    };
    match authority.certify_for(&asked.request, &subject, &usage, life) {
        Ok(certificate) => {
            tracing::info!(host, "renewed the certificate of a host");
            (StatusCode::CREATED, Json(Given { certificate })).into_response()
        }
        Err(error) => refuse(StatusCode::BAD_REQUEST, "BadRequest", &error.to_string()),
    }
}

fn refuse(code: StatusCode, reason: &str, message: &str) -> Response {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code.as_u16()});
    (code, Json(status)).into_response()
}
