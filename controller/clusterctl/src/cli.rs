//! The command line.

use crate::global::Global;
use crate::{commands, control, data};
use anyhow::Result;
use clap::{CommandFactory, Parser, Subcommand};
use std::process::ExitCode;

/// Real machines from YAML: clusters, tenant networks, virtual machines and tests as Kubernetes-style objects.
#[derive(Parser, Debug)]
#[command(name = "clusterctl", version = version(), about, max_term_width = 110, arg_required_else_help = true, after_help = "\
Examples:
  clusterctl up --detach                            start the controller on this machine
  clusterctl apply -f manifests/fresh-smoke.yaml    declare six machines and a test
  clusterctl wait testrun/fresh-smoke --for=condition=Complete --timeout=20m
  clusterctl run fresh-smoke                        clean, apply, watch, verdict: all in one
  clusterctl clean                                  delete everything it made

Exit codes: 0 well, 1 a test failed, 2 bad usage, 4 time was up, 5 the infrastructure failed.")]
pub struct Cli {
    /// What is asked of all commands.
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    command: Command,
}

fn version() -> &'static str {
    concat!(env!("CARGO_PKG_VERSION"), " (PhotonCloud's cluster controller)")
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Start the controller on this machine: server and agent
    #[command(
        after_help = "Examples:\n  clusterctl up\n  clusterctl up --detach --data-dir /srv/lab\n  clusterctl up --no-agent"
    )]
    Up(control::up::UpArgs),
    /// Run the server: API, reconcilers and test engine (`up` does this for you)
    #[command(after_help = "Example:\n  clusterctl server --listen 127.0.0.1:6443")]
    Server(control::server::ServerArgs),
    /// Run the agent of one host (`up` does this for you); needs root
    #[command(
        after_help = "Examples:\n  clusterctl agent --host-name host01\n  clusterctl agent --host-name host02 --server https://10.0.0.1:6443,https://10.0.0.2:6443"
    )]
    Agent(control::agent::AgentArgs),
    /// Answer for the names of one network (agents do this; on sockets that they hand down)
    #[command(hide = true, after_help = "Example:\n  clusterctl name-server DIR")]
    NameServer(control::name_server::NameServerArgs),
    /// Get the certificate of a host on another machine, by a token
    #[command(
        after_help = "Example:\n  clusterctl join --token eyJ… && clusterctl agent --host-name edge01 --server https://10.0.0.1:6443"
    )]
    Join(control::join::ask::JoinArgs),
    /// The tokens by which hosts join
    #[command(
        subcommand,
        after_help = "Example:\n  clusterctl join-token create --host edge01 --url https://10.0.0.1:6444"
    )]
    JoinToken(control::join::token::Command),
    /// Stop the controller and delete everything it made on this machine, the image cache apart
    #[command(after_help = "Example:\n  clusterctl clean")]
    Clean(control::clean::CleanArgs),
    #[command(flatten)]
    Data(data::Command),
    #[command(flatten)]
    Client(commands::Command),
    /// Print the completion script of a shell
    #[command(
        after_help = "Examples:\n  source <(clusterctl completion bash)\n  clusterctl completion zsh > \"${fpath[1]}/_clusterctl\"\n  clusterctl completion fish > ~/.config/fish/completions/clusterctl.fish"
    )]
    Completion(commands::completion::CompletionArgs),
}

impl Cli {
    /// What this process shall be, when it shall be a name server: that runs without anything else.
    pub fn name_server(&self) -> Option<&control::name_server::NameServerArgs> {
        match &self.command {
            Command::NameServer(args) => Some(args),
            _ => None,
        }
    }

    /// Runs the command.
    pub async fn run(self) -> Result<ExitCode> {
        match self.command {
            Command::Up(args) => control::up::run(&self.global.data_dir, &args).await?,
            Command::Server(args) => {
                control::logging::start();
                control::server::run(&crate::instance::Instance::create(&self.global.data_dir)?, &args).await?;
            }
            Command::Agent(args) => {
                control::logging::start();
                control::agent::run(&crate::instance::Instance::create(&self.global.data_dir)?, &args).await?;
            }
            Command::NameServer(_) => anyhow::bail!("a name server runs alone"),
            Command::Join(args) => {
                control::join::ask::run(&crate::instance::Instance::create(&self.global.data_dir)?, &args).await?;
            }
            Command::JoinToken(command) => command.run(&self.global).await?,
            Command::Clean(args) => control::clean::run(&self.global.data_dir, &args).await?,
            Command::Data(command) => command.run(&self.global).await?,
            Command::Completion(args) => commands::completion::run(&args, Cli::command())?,
            Command::Client(command) => return command.run(&self.global).await,
        }
        Ok(ExitCode::SUCCESS)
    }
}

#[cfg(test)]
mod words;
