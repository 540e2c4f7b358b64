//! Who passes: pure.

use axum::http::{HeaderMap, header};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::NODE_USER;

/// Why a request does not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// It brings no token, or one that cannot be read.
    NoToken,
    /// It is not the token of the node that speaks.
    NotThisNode,
}

/// As much of a token's claims as is looked at here.
#[derive(Deserialize)]
struct Claims {
    sub: String,
}

/// Whether a request brings the token of this node. What the token says is believed for now: if it is forged, the API server
/// refuses it, and if it is genuine, it said the truth.
pub(super) fn admit(headers: &HeaderMap, namespace: &str, node: Option<&str>) -> Result<(), Refused> {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).ok_or(Refused::NoToken)?;
    let (scheme, token) = value.split_once(' ').ok_or(Refused::NoToken)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Refused::NoToken);
    }
    let user = user_of(token.trim()).ok_or(Refused::NoToken)?;
    let whose = user.strip_prefix(NODE_USER).and_then(|whose| whose.split_once(':'));
    match (whose, node) {
        (Some((of, name)), Some(node)) if of == namespace && name == node => Ok(()),
        _ => Err(Refused::NotThisNode),
    }
}

fn user_of(token: &str) -> Option<String> {
    let mut parts = token.split('.');
    let (_, claims, _) = (parts.next()?, parts.next()?, parts.next()?);
    let claims = URL_SAFE_NO_PAD.decode(claims).ok()?;
    serde_json::from_slice::<Claims>(&claims).ok().map(|claims| claims.sub)
}

#[cfg(test)]
pub(super) mod samples {
    use super::*;

    /// A token that says so; nobody signed it.
    pub(crate) fn token_of(user: &str) -> String {
        let claims = URL_SAFE_NO_PAD.encode(serde_json::json!({"sub": user}).to_string());
        format!("e30.{claims}.c2ln")
    }
}

#[cfg(test)]
mod tests {
    use super::samples::token_of;
    use super::*;

    fn asked(authorization: &str) -> Result<(), Refused> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, authorization.parse().unwrap());
        admit(&headers, "t", Some("node01"))
    }

    #[test]
    fn only_the_node_that_speaks_passes() {
        assert_eq!(asked(&format!("Bearer {}", token_of("system:node:t:node01"))), Ok(()));
        for other in [
            "system:node:t:node02",
            "system:node:other:node01",
            "system:node:t:node01:x",
            "system:node:node01",
            "system:agent:host01",
            "system:serviceaccount:t:node01",
            "admin",
            "",
        ] {
            assert_eq!(asked(&format!("Bearer {}", token_of(other))), Err(Refused::NotThisNode), "{other}");
        }
    }

    #[test]
    fn whoever_brings_nothing_readable_has_no_token() {
        assert_eq!(admit(&HeaderMap::new(), "t", Some("node01")), Err(Refused::NoToken));
        for nonsense in ["Bearer", "Bearer ", "Bearer a.b", "Bearer a.b.c", "Bearer e30.e30.x", "Basic dTpw"] {
            assert_eq!(asked(nonsense), Err(Refused::NoToken), "{nonsense}");
        }
    }

    #[test]
    fn an_address_of_no_node_lets_nobody_pass() {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, format!("Bearer {}", token_of("system:node:t:node01")).parse().unwrap());
        assert_eq!(admit(&headers, "t", None), Err(Refused::NotThisNode));
    }
}
