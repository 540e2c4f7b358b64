//! What users ask of a running controller. Words and flags are kubectl's where the verb is kubectl's.

pub mod apply;
pub mod catalog;
pub mod connection;
pub mod delete;
pub mod flow;
pub mod get;
pub mod guest;
pub mod manifest;
pub mod output;
pub mod power;
pub mod wait;

use crate::cli::Global;
use anyhow::Result;
use clap::Subcommand;
use std::process::ExitCode;

/// The commands that speak to the API.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Create what is missing and change what differs, from manifests
    #[command(after_help = "Examples:\n  clusterctl apply -f manifests/one-vm.yaml\n  cat vm.yaml | clusterctl apply -f -")]
    Apply(apply::ApplyArgs),
    /// Print objects
    #[command(after_help = "Examples:\n  clusterctl get nodes\n  clusterctl get vm,port -o wide\n  clusterctl get testrun fresh-smoke -o yaml\n  clusterctl get vm -A -w")]
    Get(get::GetArgs),
    /// Delete objects and wait until they are gone
    #[command(after_help = "Examples:\n  clusterctl delete cluster/smoke\n  clusterctl delete -f manifests/one-vm.yaml")]
    Delete(delete::DeleteArgs),
    /// Wait until objects meet a condition
    #[command(after_help = "Examples:\n  clusterctl wait testrun/fresh-smoke --for=condition=Complete --timeout=20m\n  clusterctl wait vm/web --for=delete")]
    Wait(wait::WaitArgs),
    /// Run a flow with live progress; the exit code is the verdict
    #[command(after_help = "Examples:\n  clusterctl run fresh-smoke          clean, rebuild, run\n  clusterctl run smoke                run again on the live cluster\n  clusterctl run my-test.yaml --junit report.xml")]
    Run(flow::RunArgs),
    /// Run a finished TestRun again, as a new object
    #[command(after_help = "Example:\n  clusterctl rerun testrun/fresh-smoke")]
    Rerun(flow::RerunArgs),
    /// Run a command in a node or machine
    #[command(after_help = "Example:\n  clusterctl exec node04 -- uname -a")]
    Exec(guest::ExecArgs),
    /// Print a machine's serial log
    #[command(after_help = "Examples:\n  clusterctl logs node01\n  clusterctl logs node01 -f --tail 20")]
    Logs(guest::LogsArgs),
    /// Print hosts, clusters, nodes, machines and test runs
    #[command(after_help = "Example:\n  clusterctl status")]
    Status,
    /// Power clusters and machines off, and keep their disks
    #[command(after_help = "Examples:\n  clusterctl stop\n  clusterctl stop smoke")]
    Stop(power::PowerArgs),
    /// Power clusters and machines on again
    #[command(after_help = "Example:\n  clusterctl start smoke")]
    Start(power::PowerArgs),
}

impl Command {
    /// Runs the command.
    pub async fn run(self, global: &Global) -> Result<ExitCode> {
        let client = connection::client(global).await?;
        let namespace = global.namespace.as_str();
        match self {
            Self::Apply(args) => return apply::run(&client, namespace, &args).await,
            Self::Get(args) => get::run(&client, namespace, &args).await?,
            Self::Delete(args) => return delete::run(&client, namespace, &args).await,
            Self::Wait(args) => return wait::run(&client, namespace, &args).await,
            Self::Run(args) => return flow::run(&client, namespace, &args).await,
            Self::Rerun(args) => return flow::rerun(&client, namespace, &args).await,
            Self::Exec(args) => return guest::exec(&client, namespace, &args).await,
            Self::Logs(args) => guest::logs(&client, namespace, &args).await?,
            Self::Status => power::status(&client, namespace).await?,
            Self::Stop(args) => power::stop(&client, namespace, &args).await?,
            Self::Start(args) => power::start(&client, namespace, &args).await?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
