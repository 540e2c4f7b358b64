//! `create` and `replace`: a new object, or a whole object in place of the old one.

use super::api;
use super::apply::DryRun;
use super::catalog::Catalog;
use super::manifest::{Document, Sources};
use super::token;
use anyhow::{Result, bail};
use http::Method;
use kube::Client;
use serde_json::{Value, json};
use std::process::ExitCode;

/// What to create, or put in place of what is there.
#[derive(clap::Args, Debug)]
pub struct CreateArgs {
    /// The manifests.
    #[command(flatten)]
    pub sources: Sources,
    /// `server`: let the server check everything and store nothing; `client`: only say what would be sent.
    #[arg(long, default_value = "none", value_name = "WHERE")]
    pub dry_run: DryRun,
}

/// What to make.
#[derive(clap::Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct NewArgs {
    /// Objects of manifests.
    #[command(flatten)]
    pub manifests: CreateArgs,
    /// Or what no manifest can say.
    #[command(subcommand)]
    pub made: Option<Made>,
}

/// What is made by its own words.
#[derive(clap::Subcommand, Debug)]
pub enum Made {
    /// Make a token by which programs call as a ServiceAccount
    #[command(
        after_help = "The token ends with its account, and with the Secret it is bound to.\n\nExamples:\n  clusterctl create token robot -n acme\n  clusterctl create token robot -n acme --duration=24h\n  clusterctl create token node/node01 -n acme\n  clusterctl create token robot -n acme --bound-object-kind Secret --bound-object-name lease"
    )]
    Token(token::TokenArgs),
}

/// Makes it.
pub async fn new(client: &Client, namespace: &str, args: &NewArgs) -> Result<ExitCode> {
    match &args.made {
        Some(Made::Token(wanted)) => token::run(client, namespace, wanted).await.map(|()| ExitCode::SUCCESS),
        None => run(client, namespace, &args.manifests, Verb::Create).await,
    }
}

/// Whether an object must be new.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// It must.
    Create,
    /// It must exist.
    Replace,
}

/// Writes every document; one that is refused does not hold up the others.
pub async fn run(client: &Client, namespace: &str, args: &CreateArgs, verb: Verb) -> Result<ExitCode> {
    let documents = args.sources.read()?;
    let catalog = Catalog::load(client).await?;
    let mut code = ExitCode::SUCCESS;
    for document in &documents {
        match write(client, &catalog, namespace, document, verb, args.dry_run).await {
            Ok(line) => println!("{line}{}", args.dry_run.suffix()),
            Err(error) => {
                eprintln!("error: {}: {error:#}", document.origin);
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

async fn write(
    client: &Client,
    catalog: &Catalog,
    namespace: &str,
    document: &Document,
    verb: Verb,
    dry: DryRun,
) -> Result<String> {
    let mut object = document.object.clone();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let generated = verb == Verb::Create && object["metadata"]["generateName"].is_string();
    if !generated {
        document.identity()?;
    }
    let resource = catalog.of_manifest(&text(&object["apiVersion"]), &text(&object["kind"]))?;
    let namespace = document.namespace(namespace);
    if resource.namespaced {
        object["metadata"]["namespace"] = json!(namespace);
    }
    let name = text(&object["metadata"]["name"]);
    let (method, url, done) = match verb {
        Verb::Create => (Method::POST, resource.collection(Some(namespace)), "created"),
        Verb::Replace => {
            let url = resource.object(namespace, &name);
            let Some(found) = api::find(client, &url).await? else {
                bail!("{} not found; `clusterctl create` or `apply` makes it", resource.object_name(&name))
            };
            if object["metadata"]["resourceVersion"].is_null() {
                object["metadata"]["resourceVersion"] = found["metadata"]["resourceVersion"].clone();
            }
            (Method::PUT, url, "replaced")
        }
    };
    let name = match dry {
        DryRun::Client => name,
        _ => {
            let made = api::send(client, method, &format!("{url}{}", dry.query()), api::JSON, &object).await?;
            text(&made["metadata"]["name"])
        }
    };
    Ok(format!("{} {done}", resource.object_name(&name)))
}
