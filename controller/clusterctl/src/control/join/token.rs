//! `clusterctl join-token create`.

use super::{KIND, NAMESPACE, Token, digest};
use crate::data::Form;
use crate::global::Global;
use crate::instance::{Instance, credentials};
use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use serde_json::json;
use std::collections::BTreeMap;

/// What to do with tokens.
#[derive(clap::Subcommand, Debug)]
pub enum Command {
    /// Make a token by which one host may join, once
    #[command(
        after_help = "The server must have been started with --join-listen. Delete the Secret to take the token back.\n\nExample:\n  clusterctl join-token create --host edge01 --url https://10.0.0.1:6444 --minutes 30"
    )]
    Create(CreateArgs),
}

/// Whom the token lets in.
#[derive(clap::Args, Debug)]
pub struct CreateArgs {
    /// Name that the host will have.
    #[arg(long, value_name = "NAME")]
    pub host: String,
    /// URL of the server's --join-listen, as the host reaches it.
    #[arg(long, value_name = "URL")]
    pub url: String,
    /// How long the token is good.
    #[arg(long, default_value_t = 60, value_name = "MINUTES")]
    pub minutes: u32,
    /// Form of the output; `json` has the Secret's name, too.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Form,
}

impl Command {
    /// Runs the command.
    pub async fn run(self, global: &Global) -> Result<()> {
        let Command::Create(args) = self;
        let client = crate::commands::connection::client(global).await?;
        let authority = credentials::authority_pem(&Instance::open(&global.data_dir)?)?;
        let word = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
        let ends = jiff::Timestamp::now() + jiff::SignedDuration::from_mins(i64::from(args.minutes));
        let data = BTreeMap::from([
            ("host".to_owned(), args.host.clone()),
            ("digest".to_owned(), digest(&word)),
            ("ends".to_owned(), ends.to_string()),
        ]);
        let secret = Secret {
            metadata: ObjectMeta { generate_name: Some(format!("join-{}-", args.host)), ..ObjectMeta::default() },
            type_: Some(KIND.to_owned()),
            string_data: Some(data),
            ..Secret::default()
        };
        let secrets = Api::<Secret>::namespaced(client, NAMESPACE);
        let made = secrets.create(&PostParams::default(), &secret).await.context("failed to store the token")?;
        let id = made.metadata.name.unwrap_or_default();
        let token = Token { id: id.clone(), word, host: args.host.clone(), url: args.url, authority };
        let token = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).context("failed to write the token")?);
        let told = json!({"token": token, "secret": id, "host": args.host, "ends": ends.to_string()});
        args.output.print(&told, || vec![token.clone()])
    }
}
