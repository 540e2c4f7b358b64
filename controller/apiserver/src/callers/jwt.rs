//! Tokens as they are written: JSON Web Tokens with one algorithm, one key and known claims. Pure.
//!
//! A token says in its head how it is signed. Nothing of that is believed: the signature is checked with our key and our
//! algorithm before a byte of the claims is read.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pki::TokenKey;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// A longer token is nobody's.
const LONGEST: usize = 16 * 1024;

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Who issued it.
    pub iss: String,
    /// The user name.
    pub sub: String,
    /// For whom it is meant.
    pub aud: Vec<String>,
    /// When it ends; seconds since 1970.
    pub exp: i64,
    /// When it begins.
    pub nbf: i64,
    /// When it was issued.
    pub iat: i64,
    /// Its own name.
    pub jti: String,
    /// What it is bound to.
    #[serde(rename = "kubernetes.io")]
    pub bound: Bound,
}

/// The objects that a token lives and dies with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// Namespace of all of them.
    pub namespace: String,
    /// The account, if it is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub serviceaccount: Option<Named>,
    /// Another object that calls as itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub object: Option<Caller>,
    /// A Secret, if the token was asked for with one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub secret: Option<Named>,
}

/// An object of a kind whose objects call as themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// API group.
    pub group: String,
    /// Plural.
    pub resource: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// An object and no other of the same name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// Why a token is not ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It has not the form of a token.
    #[error("the token is malformed")]
    Malformed,
    /// Our key has not signed it.
    #[error("the token's signature is not ours")]
    Signature,
}

/// Writes and signs a token.
///
/// # Errors
/// [`pki::Error`] when the key cannot sign.
pub fn write(key: &TokenKey, claims: &Claims) -> Result<String, pki::Error> {
    let head = json!({"alg": "ES256", "kid": key.id(), "typ": "JWT"}).to_string();
    let body = serde_json::to_vec(claims).map_err(|error| pki::Error::Malformed { reason: error.to_string() })?;
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(head), URL_SAFE_NO_PAD.encode(body));
    let signature = key.sign(signed.as_bytes())?;
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

/// Reads a token that our key signed. Says nothing about times, audience or what it is bound to.
///
/// # Errors
/// [`Unreadable`].
pub fn read(key: &TokenKey, token: &str) -> Result<Claims, Unreadable> {
    if token.len() > LONGEST {
        return Err(Unreadable::Malformed);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(Unreadable::Malformed)?;
    let (_, body) = signed.split_once('.').ok_or(Unreadable::Malformed)?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| Unreadable::Malformed)?;
    if !key.verify(signed.as_bytes(), &signature) {
        return Err(Unreadable::Signature);
    }
    let body = URL_SAFE_NO_PAD.decode(body).map_err(|_| Unreadable::Malformed)?;
    serde_json::from_slice(&body).map_err(|_| Unreadable::Malformed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claims() -> Claims {
        Claims {
            iss: "i".into(),
            sub: "system:serviceaccount:n:a".into(),
            aud: vec!["x".into()],
            exp: 2,
            nbf: 1,
            iat: 1,
            jti: "j".into(),
            bound: Bound {
                namespace: "n".into(),
                serviceaccount: Some(Named { name: "a".into(), uid: "u".into() }),
                object: None,
                secret: None,
            },
        }
    }

    #[test]
    fn a_token_is_read_as_it_was_written_and_only_with_its_key() {
        let key = TokenKey::generate().unwrap();
        let token = write(&key, &claims()).unwrap();
        assert_eq!(read(&key, &token), Ok(claims()));
        assert_eq!(read(&TokenKey::generate().unwrap(), &token), Err(Unreadable::Signature));
    }

    #[test]
    fn what_the_head_says_about_signing_is_not_believed() {
        let key = TokenKey::generate().unwrap();
        let token = write(&key, &claims()).unwrap();
        let parts: Vec<&str> = token.split('.').collect();
        for head in [r#"{"alg":"none"}"#, r#"{"alg":"HS256"}"#, "", "x"] {
            let head = URL_SAFE_NO_PAD.encode(head);
            for forged in [format!("{head}.{}.", parts[1]), format!("{head}.{}.{}", parts[1], parts[2])] {
                assert_eq!(read(&key, &forged), Err(Unreadable::Signature), "{forged}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_text_is_taken_for_a_token(text in "\\PC*") {
            let key = TokenKey::generate().unwrap();
            prop_assert!(read(&key, &text).is_err());
        }

        #[test]
        fn a_token_with_any_changed_letter_is_refused(at in 0usize..400, to in "[A-Za-z0-9_.-]") {
            let key = TokenKey::generate().unwrap();
            let token = write(&key, &claims()).unwrap();
            let at = at % token.len();
            let mut changed = token.clone();
            changed.replace_range(at..=at, &to);
            // The last letter of the signature carries bits that mean nothing; they may not be set either.
            prop_assert!(changed == token || read(&key, &changed).is_err());
        }
    }
}
