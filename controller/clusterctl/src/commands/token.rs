//! `create token`: a token of a ServiceAccount or a Node, by a TokenRequest.

use super::api::{self, JSON};
use super::output;
use crate::print::Ending;
use anyhow::{Context, Result, bail};
use http::Method;
use kube::Client;
use serde_json::{Value, json};
use std::time::Duration;

/// Whose token, and for how long.
#[derive(clap::Args, Debug)]
pub struct TokenArgs {
    /// The ServiceAccount; or a Node, as `node/NAME`.
    #[arg(value_name = "ACCOUNT")]
    pub account: String,
    /// How long it is good: 10m at least. An hour when not said.
    #[arg(long, value_name = "TIME", value_parser = super::wait::duration)]
    pub duration: Option<Duration>,
    /// For whom it is meant, if not for this API; may be given several times.
    #[arg(long, value_name = "NAME")]
    pub audience: Vec<String>,
    /// The kind of an object that the token ends with.
    #[arg(long, value_parser = ["Secret"], requires = "bound_object_name", value_name = "KIND")]
    pub bound_object_kind: Option<String>,
    /// Its name.
    #[arg(long, requires = "bound_object_kind", value_name = "NAME")]
    pub bound_object_name: Option<String>,
    /// Its uid.
    #[arg(long, requires = "bound_object_kind", value_name = "UID")]
    pub bound_object_uid: Option<String>,
    /// Print the server's answer, with the end of the token: yaml, json.
    #[arg(short, long, value_parser = ["yaml", "json"], value_name = "FORM")]
    pub output: Option<String>,
}

/// Asks for the token and prints it.
pub async fn run(client: &Client, namespace: &str, args: &TokenArgs) -> Result<()> {
    let (kind, name) = args.account.split_once('/').unwrap_or(("serviceaccount", &args.account));
    let root = match kind {
        "serviceaccount" | "serviceaccounts" | "sa" => "/api/v1".to_owned(),
        "node" | "nodes" | "no" => format!("/apis/{}/{}", crds::GROUP, crds::VERSION),
        other => bail!(Ending::Usage(format!("{other:?} do not call by tokens; ServiceAccounts and nodes do"))),
    };
    let plural = if root == "/api/v1" { "serviceaccounts" } else { "nodes" };
    if name.is_empty() || name.contains(['/', '?', '%', '#']) {
        bail!(Ending::Usage(format!("{name:?} is no name")));
    }
    let url = format!("{root}/namespaces/{namespace}/{plural}/{name}/token");
    let answer = api::send(client, Method::POST, &url, JSON, &request(args)).await?;
    match args.output.as_deref() {
        Some("json") => println!("{}", serde_json::to_string_pretty(&answer).context("failed to render JSON")?),
        Some(_) => print!("{}", output::yaml(&answer)?),
        None => println!("{}", answer["status"]["token"].as_str().context("the server's answer holds no token")?),
    }
    Ok(())
}

fn request(args: &TokenArgs) -> Value {
    let mut spec = json!({});
    if let Some(duration) = args.duration {
        spec["expirationSeconds"] = json!(duration.as_secs());
    }
    if !args.audience.is_empty() {
        spec["audiences"] = json!(args.audience);
    }
    if let Some(kind) = &args.bound_object_kind {
        spec["boundObjectRef"] = json!({"apiVersion": "v1", "kind": kind, "name": args.bound_object_name});
        if let Some(uid) = &args.bound_object_uid {
            spec["boundObjectRef"]["uid"] = json!(uid);
        }
    }
    json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec})
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: TokenArgs,
    }

    #[test]
    fn what_is_not_said_is_left_to_the_server() {
        let of = |words: &[&str]| request(&Line::parse_from(words).args)["spec"].clone();
        assert_eq!(of(&["x", "robot"]), json!({}));
        assert_eq!(
            of(&["x", "robot", "--duration=24h", "--audience=a", "--audience=b"]),
            json!({"expirationSeconds": 86400, "audiences": ["a", "b"]})
        );
        assert_eq!(
            of(&["x", "robot", "--bound-object-kind=Secret", "--bound-object-name=s"]),
            json!({"boundObjectRef": {"apiVersion": "v1", "kind": "Secret", "name": "s"}})
        );
        assert!(Line::try_parse_from(["x", "robot", "--bound-object-kind=Secret"]).is_err());
    }
}
