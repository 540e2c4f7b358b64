//! Who is calling.
//!
//! The caller is a request extension set by the code that mounts the router (the TLS acceptor, or `client()`), never
//! a header: nothing a client can write decides who it is.

use std::sync::Arc;

use serde_json::{Value, json};

/// Every proven caller is in this group.
pub(crate) const AUTHENTICATED: &str = "system:authenticated";
/// Members of this group are not asked for rules.
pub(crate) const MASTERS: &str = "system:masters";

/// A proven caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User name: the certificate's common name, or what the in-process mount was given.
    pub user: Arc<str>,
    /// Groups: the certificate's organizations.
    pub groups: Arc<[String]>,
}

impl Identity {
    /// An identity from its parts. Every proven caller is in `system:authenticated` too.
    #[must_use]
    pub fn new(user: &str, groups: &[&str]) -> Self {
        Self::from_owned(user, groups.iter().map(|g| (*g).to_owned()).collect())
    }

    /// An identity from a verified certificate's subject.
    #[must_use]
    pub fn from_owned(user: &str, mut groups: Vec<String>) -> Self {
        if !groups.iter().any(|group| group == AUTHENTICATED) {
            groups.push(AUTHENTICATED.to_owned());
        }
        Self::as_told(user, groups)
    }

    /// An identity of exactly these groups: somebody who is asked about, not somebody who calls.
    pub(crate) fn as_told(user: &str, groups: Vec<String>) -> Self {
        Self { user: user.into(), groups: groups.into() }
    }

    /// Whether the caller may do everything.
    pub(crate) fn is_master(&self) -> bool {
        self.groups.iter().any(|group| group == MASTERS)
    }

    /// The caller as review documents show them.
    pub(crate) fn document(&self) -> Value {
        json!({"username": *self.user, "groups": *self.groups})
    }
}

/// Nobody may speak as somebody else; who asks to must hear it, and not be answered as himself.
pub(crate) fn refuse_impersonation(headers: &http::HeaderMap) -> Result<(), crate::error::Error> {
    let Some(user) = headers.keys().find(|name| name.as_str().starts_with("impersonate-")).map(|name| &headers[name])
    else {
        return Ok(());
    };
    let name = user.to_str().unwrap_or_default().to_owned();
    let subject = crate::error::Subject { group: String::new(), resource: "users".to_owned(), name };
    Err(crate::error::Error::Forbidden { subject, why: "impersonation is not served".to_owned(), cause: None })
}
