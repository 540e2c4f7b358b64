//! In whose name a request writes fields: what it says, else its program, else its user.

use axum::body::Body;
use http::{Request, header};

use super::query::{Query, invalid_options};
use crate::error::Error;
use crate::identity::Identity;
use crate::schema::{Cause, FieldError};

/// The official limit, in bytes.
const LONGEST: usize = 128;

/// The manager of a request's writes; `kind` names their options in a refusal.
pub fn of(query: &Query, request: &Request<Body>, kind: &str) -> Result<String, Error> {
    let given = query.field_manager.as_str();
    if given.len() > LONGEST {
        let why = FieldError::new("fieldManager", Cause::TooLong, "Too long: may not be more than 128 bytes");
        return Err(invalid_options(kind, vec![why]));
    }
    if given.chars().any(char::is_control) {
        let why = FieldError::invalid("fieldManager", &given.into(), "should only contain printable characters");
        return Err(invalid_options(kind, vec![why]));
    }
    if !given.is_empty() {
        return Ok(given.to_owned());
    }
    let agent = request.headers().get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or("");
    let program = agent.split('/').next().unwrap_or("").trim();
    let user = request.extensions().get::<Identity>().map_or("", |identity| &*identity.user);
    let name = [program, user].into_iter().find(|name| !name.is_empty()).unwrap_or("unknown");
    Ok(name.chars().filter(|c| !c.is_control()).take(LONGEST).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(query: &str, agent: &str) -> String {
        let mut request = Request::builder().header("user-agent", agent).body(Body::empty()).unwrap();
        request.extensions_mut().insert(Identity::new("robot", &[]));
        of(&Query::parse(Some(query)).unwrap(), &request, "UpdateOptions").unwrap_or_else(|error| error.to_string())
    }

    #[test]
    fn the_name_is_given_or_the_program_or_the_user() {
        assert_eq!(name("fieldManager=me", "curl/8"), "me");
        assert_eq!(name("", "kubectl/v1.34 (linux/amd64)"), "kubectl");
        assert_eq!(name("", ""), "robot");
        assert!(name(&format!("fieldManager={}", "x".repeat(129)), "").contains("may not be more than 128 bytes"));
        assert!(name("fieldManager=a%01", "").contains("printable"));
    }
}
