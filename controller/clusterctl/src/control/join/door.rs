//! The door at which hosts show their token: a listener of its own, with this one thing behind it.

use super::{Asked, Given, KIND, NAMESPACE, digest};
use crate::control::access;
use crate::instance::credentials;
use anyhow::{Context, Result};
use apiserver::ApiServer;
use axum::Json;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, Preconditions};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

/// Hosts at the door at once; strangers can take no more than this.
const GUESTS: usize = 16;
/// All that a host has to do takes less than this.
const VISIT: Duration = Duration::from_secs(15);

struct Door {
    authority: Arc<pki::Authority>,
    life: Duration,
    secrets: Api<Secret>,
}

/// Serves until it is dropped.
pub async fn serve(
    listener: TcpListener,
    api: &ApiServer,
    identity: &pki::Identity,
    (authority, life): (Arc<pki::Authority>, Duration),
) -> Result<()> {
    let tls = TlsAcceptor::from(Arc::new(pki::open_server_config(identity).context("failed to set up TLS")?));
    let client = api.client(&access::reconciler("join"), &[], NAMESPACE);
    let door = Arc::new(Door { authority, life, secrets: Api::namespaced(client, NAMESPACE) });
    let router = axum::Router::new().route("/join", post(join)).layer(DefaultBodyLimit::max(16 << 10)).with_state(door);
    let guests = Arc::new(Semaphore::new(GUESTS));
    loop {
        // The semaphore is never closed, so a place always comes.
        let place = guests.clone().acquire_owned().await.ok();
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a host could not be let to the door");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (tls, service) = (tls.clone(), TowerToHyperService::new(router.clone()));
        tokio::spawn(async move {
            let _place = place;
            let visit = async {
                let Ok(stream) = tls.accept(stream).await else { return };
                let mut http = Builder::new(TokioExecutor::new());
                http.http1().timer(TokioTimer::new());
                // A guest who leaves early has only itself to tell.
                let _ = http.serve_connection(TokioIo::new(stream), service).await;
            };
            if tokio::time::timeout(VISIT, visit).await.is_err() {
                tracing::debug!(%peer, "a host stood at the door for too long");
            }
        });
    }
}

async fn join(State(door): State<Arc<Door>>, Json(asked): Json<Asked>) -> Response {
    match door.admit(&asked).await {
        Ok((host, given)) => {
            tracing::info!(host, "a host joined");
            Json(given).into_response()
        }
        Err(error) => {
            tracing::warn!(error = format!("{error:#}"), "a host was not let in");
            // Why is no stranger's business.
            let message = "the token is unknown, used, or past its end";
            let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": message, "reason": "Forbidden", "code": 403});
            (http::StatusCode::FORBIDDEN, Json(status)).into_response()
        }
    }
}

impl Door {
    async fn admit(&self, asked: &Asked) -> Result<(String, Given)> {
        let secret = self.secrets.get(&asked.id).await.context("no such token")?;
        anyhow::ensure!(secret.type_.as_deref() == Some(KIND), "{} is no token", asked.id);
        let data = secret.data.clone().unwrap_or_default();
        let field =
            |name: &str| data.get(name).and_then(|value| String::from_utf8(value.0.clone()).ok()).unwrap_or_default();
        // Digests are compared: how long that takes tells nothing of the word.
        anyhow::ensure!(field("digest") == digest(&asked.word), "another word");
        let ends: jiff::Timestamp = field("ends").parse().context("a token without an end")?;
        anyhow::ensure!(jiff::Timestamp::now() < ends, "its end was {ends}");
        let host = field("host");
        let (subject, usage) = credentials::of_agent(&host);
        let certificate = self.authority.certify_for(&asked.request, &subject, &usage, self.life)?;
        let once = DeleteParams {
            preconditions: Some(Preconditions {
                uid: secret.metadata.uid,
                resource_version: secret.metadata.resource_version,
            }),
            ..DeleteParams::default()
        };
        // Whoever deletes it has used it; a second one at the same time does not get past this.
        self.secrets.delete(&asked.id, &once).await.context("used by another")?;
        Ok((host, Given { certificate }))
    }
}
