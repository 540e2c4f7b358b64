//! Who is calling.
//!
//! The caller is a request extension set by the code that mounts the router (the TLS acceptor, or `client()`); without
//! one, a token that we have signed says it (see `callers`). Nothing a client can make up decides who it is.

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
    /// Uid of the ServiceAccount that the caller is, if it is one.
    pub uid: Option<Arc<str>>,
}

/// What a ServiceAccount's user name begins with; its namespace and name follow, with a colon between.
pub(crate) const ACCOUNT_USER: &str = "system:serviceaccount:";

/// The user name of a ServiceAccount.
pub(crate) fn account_user(namespace: &str, name: &str) -> String {
    format!("{ACCOUNT_USER}{namespace}:{name}")
}

/// The groups of every ServiceAccount of a namespace.
pub(crate) fn account_groups(namespace: &str) -> Vec<String> {
    vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")]
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
        Self { user: user.into(), groups: groups.into(), uid: None }
    }

    /// The identity of a ServiceAccount, proven by its token.
    pub(crate) fn of_account(namespace: &str, name: &str, uid: &str) -> Self {
        let identity = Self::from_owned(&account_user(namespace, name), account_groups(namespace));
        Self { uid: Some(uid.into()), ..identity }
    }

    /// Whether the caller may do everything.
    pub(crate) fn is_master(&self) -> bool {
        self.groups.iter().any(|group| group == MASTERS)
    }

    /// The caller as review documents show them.
    pub(crate) fn document(&self) -> Value {
        let mut document = json!({"username": *self.user, "groups": *self.groups});
        if let Some(uid) = &self.uid {
            document["uid"] = json!(**uid);
        }
        document
    }
}
