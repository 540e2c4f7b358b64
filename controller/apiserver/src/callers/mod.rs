//! Who is calling.
//!
//! ```text
//!  Identity that the mount has proven (certificate, in-process) ──┐
//!  no such identity: `Authorization: Bearer TOKEN` ── tokens ─────┼─► `Impersonate-User` … and may they? ─► the caller
//!  neither ─────────────────────────────────────────────────► 401 ┘      too many tokens that prove nobody ─► 429
//! ```
//!
//! A header never outranks what the mount has proven. `jwt` is pure; `requests` answers the documents about tokens.

mod jwt;
pub(crate) mod requests;
mod strangers;
mod tokens;

pub(crate) use strangers::{Peer, Strangers};
pub use tokens::CallerKind;
pub(crate) use tokens::Tokens;

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use http::{HeaderMap, Request, header};

use crate::access::{Attributes, Named};
use crate::error::Error;
use crate::identity::{ACCOUNT_USER, Identity};
use crate::server::Server;
use tokens::ISSUER;

/// A header by which a caller speaks as somebody else.
const AS_USER: &str = "impersonate-user";
const AS_GROUP: &str = "impersonate-group";
const AS_UID: &str = "impersonate-uid";
const AS_EXTRA: &str = "impersonate-extra-";

/// The token that proved a request's caller; an extension of the request.
#[derive(Debug, Clone)]
pub(crate) struct ByToken(pub(crate) Arc<str>);

impl Server {
    /// Whether a token that proved its caller would still do so.
    pub(crate) fn still_proves(&self, token: &str) -> bool {
        self.prove(token, &[ISSUER.to_owned()]).is_ok()
    }

    /// Who is calling: whom the mount has proven, or whom a token proves. An error when the caller's address has sent too
    /// many tokens that prove nobody.
    pub(crate) fn proven(&self, request: &Request<Body>) -> Result<Option<Identity>, Error> {
        if let Some(identity) = request.extensions().get::<Identity>() {
            return Ok(Some(identity.clone()));
        }
        let Some(token) = bearer(request.headers()) else { return Ok(None) };
        let peer = request.extensions().get::<Peer>().copied();
        let fresh = !self.tokens.knows(token);
        if fresh && !self.strangers.take(peer, Instant::now()) {
            let why = "too many tokens that prove nobody came from your address; try again";
            return Err(Error::Overloaded(why.to_owned()));
        }
        match self.prove(token, &[ISSUER.to_owned()]) {
            Ok(proven) => {
                if fresh {
                    self.strangers.give_back(peer);
                }
                Ok(Some(proven.identity))
            }
            Err(refused) => {
                tracing::debug!(%refused, "a token was refused");
                Ok(None)
            }
        }
    }

    /// The caller whose rights count for this request, whose proof was looked at when it came in.
    pub(crate) fn caller(&self, request: &Request<Body>) -> Result<Identity, Error> {
        let proven = request.extensions().get::<Identity>().ok_or(Error::Unauthorized)?;
        self.spoken_for(proven.clone(), request.headers())
    }

    /// The caller as whom the proven one asks to be taken, if it may be.
    fn spoken_for(&self, proven: Identity, headers: &HeaderMap) -> Result<Identity, Error> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
        let user = text(AS_USER);
        let mut groups: Vec<String> =
            headers.get_all(AS_GROUP).iter().filter_map(|value| value.to_str().ok()).map(str::to_owned).collect();
        let extra = headers.keys().any(|name| name.as_str().starts_with(AS_EXTRA));
        if user.is_empty() {
            if groups.is_empty() && text(AS_UID).is_empty() && !extra {
                return Ok(proven);
            }
            return Err(Error::BadRequest("groups, uid or extra are impersonated without a user".to_owned()));
        }
        if extra {
            return Err(Error::BadRequest(
                "extra fields of users are not known here and cannot be impersonated".to_owned(),
            ));
        }
        let may = |named: Named<'_>| self.access.authorize(&proven, &Attributes::special("impersonate", named));
        match user.strip_prefix(ACCOUNT_USER).and_then(|rest| rest.split_once(':')) {
            Some((namespace, name)) => {
                may(Named { resource: "serviceaccounts", namespace, name, ..Named::default() })?;
                if groups.is_empty() {
                    groups = crate::identity::account_groups(namespace);
                }
            }
            None => may(Named { resource: "users", name: user, ..Named::default() })?,
        }
        // Those of an account come with it; whatever else is asked for is a right of its own.
        let own = user.strip_prefix(ACCOUNT_USER).and_then(|rest| rest.split_once(':'));
        let own = own.map(|(namespace, _)| crate::identity::account_groups(namespace)).unwrap_or_default();
        for group in groups.iter().filter(|group| !own.contains(group)) {
            may(Named { resource: "groups", name: group, ..Named::default() })?;
        }
        if !text(AS_UID).is_empty() {
            may(Named { group: "authentication.k8s.io", resource: "uids", name: text(AS_UID), ..Named::default() })?;
        }
        Ok(Identity::from_owned(user, groups))
    }
}

/// The token that a request brings.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}
