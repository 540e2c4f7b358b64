//! Tokens: issued for a ServiceAccount, or for an object of another kind that calls as itself ([`CallerKind`]); checked with
//! each request.
//!
//! A token is bound to its account's uid, and to a Secret's if it was asked for with one: whoever deletes either takes the
//! token back, with the next request. The signature of a token seen before is not computed again; that account and Secret
//! are still there is looked up in the store's cache each time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use pki::TokenKey;
use sha2::{Digest, Sha256};

use super::jwt::{self, Bound, Caller, Claims, Named};
use crate::error::Error;
use crate::identity::Identity;
use crate::object::{Object, is_deleting, meta};
use crate::registry::Resource;
use crate::server::Server;
use crate::storage;

/// Who issues tokens, and whom they are meant for unless another audience is asked for.
pub(crate) const ISSUER: &str = "https://photoncloud.dev";
/// Tokens remembered; the oldest half goes when there are more.
const REMEMBERED: usize = 4096;

/// A kind whose objects call as themselves, as ServiceAccounts do: its subresource `token` answers TokenRequests, the
/// token lives as long as the object, and the user name is a prefix, the object's namespace, a colon and its name.
#[derive(Debug, Clone)]
pub struct CallerKind {
    /// API group.
    pub group: String,
    /// Plural.
    pub resource: String,
    /// What the user names begin with.
    pub user_prefix: String,
    /// The groups that the callers are in.
    pub groups: Vec<String>,
}

/// Signs tokens and remembers those it has checked.
pub(crate) struct Tokens {
    key: Arc<TokenKey>,
    known: Mutex<HashMap<[u8; 32], Arc<Claims>>>,
}

/// Why a token does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error(transparent)]
    Unreadable(#[from] jwt::Unreadable),
    #[error("the token is not ours: its issuer is {0:?}")]
    Issuer(String),
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    Early,
    #[error("the token is not meant for {0:?}")]
    Audience(Vec<String>),
    #[error("the token is nobody's who may call here")]
    Nobody,
    #[error("the {kind} {name:?} that the token is bound to is gone")]
    Gone { kind: String, name: String },
}

impl Tokens {
    pub(crate) fn new(key: Arc<TokenKey>) -> Self {
        Self { key, known: Mutex::default() }
    }

    /// A new token.
    pub(crate) fn issue(&self, claims: &Claims) -> Result<String, Error> {
        jwt::write(&self.key, claims).map_err(|error| Error::Internal(crate::text::chain(&error)))
    }

    /// Whether a token was read before, so that reading it again costs little.
    pub(crate) fn knows(&self, token: &str) -> bool {
        let digest: [u8; 32] = Sha256::digest(token).into();
        self.known.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&digest)
    }

    /// What a token of ours says.
    fn read(&self, token: &str) -> Result<Arc<Claims>, jwt::Unreadable> {
        let digest: [u8; 32] = Sha256::digest(token).into();
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(claims) = known().get(&digest) {
            return Ok(claims.clone());
        }
        let claims = Arc::new(jwt::read(&self.key, token)?);
        let mut known = known();
        if known.len() >= REMEMBERED {
            let now = Timestamp::now().as_second();
            known.retain(|_, claims| claims.exp > now);
            if known.len() >= REMEMBERED {
                known.clear();
            }
        }
        known.insert(digest, claims.clone());
        Ok(claims)
    }
}

/// A token that counts.
#[derive(Debug)]
pub(crate) struct Proven {
    pub identity: Identity,
    /// Those of the asked audiences that it is meant for.
    pub audiences: Vec<String>,
}

impl Server {
    /// Whom a token stands for, here and now.
    pub(crate) fn prove(&self, token: &str, audiences: &[String]) -> Result<Proven, Refused> {
        let claims = self.tokens.read(token)?;
        check(&claims, Timestamp::now().as_second())?;
        let meant: Vec<String> = audiences.iter().filter(|audience| claims.aud.contains(audience)).cloned().collect();
        if meant.is_empty() {
            return Err(Refused::Audience(audiences.to_vec()));
        }
        let bound = &claims.bound;
        if let Some(secret) = &bound.secret {
            self.still_there(("", "secrets"), &bound.namespace, secret)?;
        }
        let identity = match (&bound.serviceaccount, &bound.object) {
            (Some(account), None) => {
                self.still_there(("", "serviceaccounts"), &bound.namespace, account)?;
                Identity::of_account(&bound.namespace, &account.name, &account.uid)
            }
            (None, Some(caller)) => self.calling_as_itself(&bound.namespace, caller)?,
            _ => return Err(Refused::Nobody),
        };
        Ok(Proven { identity, audiences: meant })
    }

    fn calling_as_itself(&self, namespace: &str, caller: &Caller) -> Result<Identity, Refused> {
        let Caller { group, resource, name, uid } = caller;
        let kind = self.caller_kind(group, resource).ok_or(Refused::Nobody)?;
        self.still_there((group, resource), namespace, &Named { name: name.clone(), uid: uid.clone() })?;
        let identity = Identity::from_owned(&kind.user(namespace, name), kind.groups.clone());
        Ok(Identity { uid: Some(uid.as_str().into()), ..identity })
    }

    /// The kind, if its objects call as themselves.
    pub(crate) fn caller_kind(&self, group: &str, resource: &str) -> Option<&CallerKind> {
        self.options.callers.iter().find(|kind| kind.group == group && kind.resource == resource)
    }

    fn still_there(&self, (group, plural): (&str, &str), namespace: &str, named: &Named) -> Result<(), Refused> {
        let catalog = self.registry.catalog();
        let definition = catalog.definition(group, plural);
        let kind = definition.map_or(plural, |definition| definition.kind.as_str());
        let gone = || Refused::Gone { kind: kind.to_owned(), name: named.name.clone() };
        let resource = Resource::stored(definition.ok_or_else(gone)?);
        let key = storage::key(&self.store, &resource.definition, Some(namespace), &named.name);
        let entry = self.store.get_stale(&key).ok_or_else(gone)?;
        let object = Object::of(&entry).map_err(|_| gone())?;
        let same = meta(&object.value, "uid") == named.uid && !is_deleting(&object.value);
        if same { Ok(()) } else { Err(gone()) }
    }
}

fn check(claims: &Claims, now: i64) -> Result<(), Refused> {
    if claims.iss != ISSUER {
        return Err(Refused::Issuer(claims.iss.clone()));
    }
    if now >= claims.exp {
        return Err(Refused::Expired);
    }
    if now < claims.nbf {
        return Err(Refused::Early);
    }
    Ok(())
}

impl CallerKind {
    /// The user name of an object.
    pub(crate) fn user(&self, namespace: &str, name: &str) -> String {
        format!("{}{namespace}:{name}", self.user_prefix)
    }
}

/// The claims of a new token of this user, who is what the token is bound to.
pub(crate) fn claims(user: String, bound: Bound, audiences: Vec<String>, seconds: i64) -> Claims {
    let now = Timestamp::now().as_second();
    Claims {
        iss: ISSUER.to_owned(),
        sub: user,
        aud: audiences,
        exp: now.saturating_add(seconds),
        nbf: now,
        iat: now,
        jti: uuid::Uuid::new_v4().to_string(),
        bound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_counts_from_its_beginning_to_its_end() {
        let account = Some(Named { name: "a".into(), uid: "u".into() });
        let bound = Bound { namespace: "n".into(), serviceaccount: account, object: None, secret: None };
        let claims = claims("system:serviceaccount:n:a".into(), bound, vec![ISSUER.into()], 600);
        assert_eq!(check(&claims, claims.nbf), Ok(()));
        assert_eq!(check(&claims, claims.exp - 1), Ok(()));
        assert_eq!(check(&claims, claims.exp), Err(Refused::Expired));
        assert_eq!(check(&claims, claims.nbf - 1), Err(Refused::Early));
        let foreign = Claims { iss: "other".into(), ..claims };
        assert_eq!(check(&foreign, foreign.nbf), Err(Refused::Issuer("other".into())));
    }
}
