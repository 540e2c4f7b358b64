//! `auth whoami`: asks the server by a SelfSubjectReview.

use super::super::api::{self, JSON};
use super::super::output;
use crate::print::table::Table;
use anyhow::{Context, Result};
use http::Method;
use kube::Client;
use serde_json::{Value, json};

/// How it is printed.
#[derive(clap::Args, Debug)]
pub struct WhoamiArgs {
    /// Print the server's answer: yaml, json.
    #[arg(short, long, value_parser = ["yaml", "json"], value_name = "FORM")]
    pub output: Option<String>,
}

/// Asks and prints.
pub async fn run(client: &Client, args: &WhoamiArgs) -> Result<()> {
    let document = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let answer = api::send(client, Method::POST, path, JSON, &document).await?;
    match args.output.as_deref() {
        Some("json") => println!("{}", serde_json::to_string_pretty(&answer).context("failed to render JSON")?),
        Some(_) => print!("{}", output::yaml(&answer)?),
        None => print!("{}", attributes(&answer["status"]["userInfo"]).render(true)),
    }
    Ok(())
}

fn attributes(user: &Value) -> Table {
    let mut table = Table::new(["ATTRIBUTE", "VALUE"].map(str::to_owned).to_vec());
    let text = |field: &str| user[field].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    for (heading, field) in [("Username", "username"), ("UID", "uid")] {
        if let Some(value) = text(field) {
            table.push(vec![heading.to_owned(), value]);
        }
    }
    let groups: Vec<&str> = user["groups"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !groups.is_empty() {
        table.push(vec!["Groups".to_owned(), format!("[{}]", groups.join(" "))]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_is_shown() {
        let user = json!({"username": "jane", "groups": ["dev", "system:authenticated"]});
        assert_eq!(
            attributes(&user).render(true),
            "ATTRIBUTE   VALUE\nUsername    jane\nGroups      [dev system:authenticated]\n"
        );
    }
}
