//! `/healthz`, `/livez` and `/readyz`: what probes ask, and people who want to know more.
//!
//! Alive is who answers. Ready is who can serve: the store answers too, and takes writes. Each check can be asked by its
//! name (`/readyz/etcd`), all of them are listed by `?verbose`, and `?exclude=etcd` leaves one out. The plain answer
//! stays two letters or an error, as probes read only its code.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderValue, StatusCode, header};
use store::Consistency;

use crate::error::Error;
use crate::server::Server;

/// Something that can be well or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Check {
    /// The process answers.
    Ping,
    /// The store answers.
    Etcd,
    /// The store takes writes.
    Space,
}

const LIVE: &[Check] = &[Check::Ping];
const READY: &[Check] = &[Check::Ping, Check::Etcd, Check::Space];

impl Check {
    fn name(self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Etcd => "etcd",
            Self::Space => "etcd-space",
        }
    }

    fn named(name: &str) -> Option<Self> {
        READY.iter().copied().find(|check| check.name() == name)
    }

    async fn run(self, server: &Server) -> Result<(), Error> {
        match self {
            Self::Ping => Ok(()),
            Self::Etcd => {
                let nothing = format!("{}~", server.store.keys().prefix());
                server.store.list(&nothing, Consistency::Linearizable).await?;
                Ok(())
            }
            Self::Space if server.store.is_full() => Err(Error::from(store::Error::NoSpace)),
            Self::Space => Ok(()),
        }
    }
}

/// The three paths and what is below them.
pub(crate) fn routes() -> Router<Arc<Server>> {
    let mut router = Router::new();
    for (path, name, checks) in [("/healthz", "healthz", LIVE), ("/livez", "livez", LIVE), ("/readyz", "readyz", READY)]
    {
        router = router
            .route(path, get(move |state, query| whole(name, checks, state, query)))
            .route(&format!("{path}/{{check}}"), get(one));
    }
    router
}

async fn whole(
    name: &'static str,
    checks: &'static [Check],
    State(server): State<Arc<Server>>,
    RawQuery(query): RawQuery,
) -> Response {
    let query = query.unwrap_or_default();
    let excluded = |check: Check| query.split('&').any(|pair| pair.strip_prefix("exclude=") == Some(check.name()));
    let verbose = query.split('&').any(|pair| pair.split('=').next() == Some("verbose"));
    let (mut lines, mut failed) = (String::new(), None);
    for check in checks.iter().copied() {
        let told = match check {
            left_out if excluded(left_out) => format!("[+]{} excluded: ok\n", check.name()),
            _ => match check.run(&server).await {
                Ok(()) => format!("[+]{} ok\n", check.name()),
                Err(error) => {
                    let line = format!("[-]{} failed: {error}\n", check.name());
                    failed.get_or_insert(error);
                    line
                }
            },
        };
        lines.push_str(&told);
    }
    match failed {
        None if verbose => text(StatusCode::OK, format!("{lines}{name} check passed\n")),
        None => text(StatusCode::OK, "ok".to_owned()),
        Some(error) if verbose => {
            let code = StatusCode::from_u16(error.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            text(code, format!("{lines}{name} check failed\n"))
        }
        Some(error) => error.into_response(),
    }
}

async fn one(State(server): State<Arc<Server>>, Path(name): Path<String>) -> Response {
    let Some(check) = Check::named(&name) else { return Error::NoRoute.into_response() };
    match check.run(&server).await {
        Ok(()) => text(StatusCode::OK, "ok".to_owned()),
        Err(error) => error.into_response(),
    }
}

fn text(code: StatusCode, text: String) -> Response {
    let mut response = (code, text).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
