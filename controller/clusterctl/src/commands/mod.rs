//! What users ask of a running controller. Words and flags are kubectl's where the verb is kubectl's.

pub mod api;
pub mod api_resources;
pub mod apply;
pub mod auth;
pub mod catalog;
pub mod columns;
pub mod completion;
pub mod connection;
pub mod console;
pub mod create;
pub mod delete;
pub mod describe;
pub mod diff;
pub mod edit;
pub mod events;
pub mod explain;
pub mod fields;
pub mod flow;
pub mod get;
pub mod guest;
pub mod jsonpath;
pub mod manifest;
pub mod mark;
pub mod merge;
pub mod net;
pub mod output;
pub mod patch;
pub mod port_forward;
pub mod power;
pub mod shell;
pub mod ssh;
pub mod stream;
pub mod terminal;
pub mod token;
pub mod tree;
pub mod version;
pub mod view;
pub mod wait;
pub mod watch;

use crate::global::Global;
use anyhow::Result;
use clap::Subcommand;
use kube::Client;
use std::process::ExitCode;

/// The commands that speak to the API, and the few that only speak of it.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Create what is missing and change what differs, from manifests
    #[command(
        after_help = "Examples:\n  clusterctl apply -f manifests/one-vm.yaml\n  clusterctl apply -R -f manifests --dry-run=server\n  clusterctl apply --server-side -f manifests/one-vm.yaml\n  cat vm.yaml | clusterctl apply -f -"
    )]
    Apply(apply::ApplyArgs),
    /// Create objects that must not exist yet, from manifests; or a token
    #[command(
        after_help = "Examples:\n  clusterctl create -f manifests/one-vm.yaml\n  clusterctl create token robot -n acme --duration=24h"
    )]
    Create(create::NewArgs),
    /// Put whole objects in place of those that exist, from manifests
    #[command(after_help = "Example:\n  clusterctl get vm web -o yaml > web.yaml\n  clusterctl replace -f web.yaml")]
    Replace(create::CreateArgs),
    /// Print what apply would change (0: nothing, 1: something, more: it could not be told)
    #[command(after_help = "Example:\n  clusterctl diff -f manifests/one-vm.yaml")]
    Diff(diff::DiffArgs),
    /// Print objects
    #[command(
        after_help = "Examples:\n  clusterctl get nodes\n  clusterctl get vm,port -o wide\n  clusterctl get testrun fresh-smoke -o yaml\n  clusterctl get vm -A -w\n  clusterctl get nodes -o jsonpath='{range .items[*]}{.metadata.name} {.status.ip}{\"\\n\"}{end}'\n  clusterctl get vm -o custom-columns=NAME:.metadata.name,HOST:.spec.host --sort-by=.spec.host"
    )]
    Get(Box<get::GetArgs>),
    /// Print objects in full, with their conditions and events
    #[command(after_help = "Examples:\n  clusterctl describe node node01\n  clusterctl describe testrun/fresh-smoke")]
    Describe(describe::DescribeArgs),
    /// Print what happened, oldest first
    #[command(
        after_help = "Examples:\n  clusterctl events\n  clusterctl events --for node/node01 -w\n  clusterctl events -A --types=Warning"
    )]
    Events(events::EventsArgs),
    /// Print who owns an object, and what it owns
    #[command(after_help = "Example:\n  clusterctl tree cluster/smoke")]
    Tree(tree::TreeArgs),
    /// Describe the fields of a kind
    #[command(
        after_help = "Examples:\n  clusterctl explain vm\n  clusterctl explain testrun.spec.steps\n  clusterctl explain cluster.spec --recursive"
    )]
    Explain(explain::ExplainArgs),
    /// Print the kinds that the server has
    #[command(
        after_help = "Examples:\n  clusterctl api-resources\n  clusterctl api-resources --api-group=photoncloud.dev -o wide"
    )]
    ApiResources(api_resources::ApiResourcesArgs),
    /// Ask who the caller is and what he may do
    #[command(
        subcommand,
        after_help = "Examples:\n  clusterctl auth can-i delete vm -n acme --as jane\n  clusterctl auth can-i --list\n  clusterctl auth whoami"
    )]
    Auth(auth::Command),
    /// Who may reach whom in tenant networks, why, and whether packets agree
    #[command(
        subcommand,
        after_help = "Examples:\n  clusterctl net matrix\n  clusterctl net matrix --probe\n  clusterctl net trace client web --port 443\n  clusterctl net capture web | wireshark -k -i -"
    )]
    Net(net::Command),
    /// Edit an object in your editor (KUBE_EDITOR, EDITOR)
    #[command(after_help = "Example:\n  EDITOR=nano clusterctl edit vm/web")]
    Edit(edit::EditArgs),
    /// Change fields of objects by a patch
    #[command(
        after_help = "Examples:\n  clusterctl patch vm web -p '{\"spec\": {\"runStrategy\": \"Halted\"}}'\n  clusterctl patch vm/web --type=json -p '[{\"op\": \"remove\", \"path\": \"/metadata/labels/tier\"}]'"
    )]
    Patch(patch::PatchArgs),
    /// Set or remove labels
    #[command(
        after_help = "Examples:\n  clusterctl label vm web tier=front\n  clusterctl label vm/web tier=back --overwrite\n  clusterctl label vm --all tier-"
    )]
    Label(mark::MarkArgs),
    /// Set or remove annotations
    #[command(after_help = "Example:\n  clusterctl annotate vm web note='the old one'")]
    Annotate(mark::MarkArgs),
    /// Have the reconcilers of objects look at them again
    #[command(after_help = "Example:\n  clusterctl reconcile node/node01")]
    Reconcile(mark::ReconcileArgs),
    /// Delete objects and wait until they are gone
    #[command(
        after_help = "Examples:\n  clusterctl delete cluster/smoke\n  clusterctl delete -f manifests/one-vm.yaml"
    )]
    Delete(delete::DeleteArgs),
    /// Wait until objects meet a condition
    #[command(
        after_help = "Examples:\n  clusterctl wait testrun/fresh-smoke --for=condition=Complete --timeout=20m\n  clusterctl wait vm/web --for=jsonpath='{.status.phase}'=Running\n  clusterctl wait vm/web --for=delete"
    )]
    Wait(wait::WaitArgs),
    /// Run a flow with live progress; the exit code is the verdict
    #[command(
        after_help = "Examples:\n  clusterctl run fresh-smoke          clean, rebuild, run\n  clusterctl run smoke                run again on the live cluster\n  clusterctl run my-test.yaml --junit report.xml"
    )]
    Run(flow::RunArgs),
    /// Run a finished TestRun again, as a new object
    #[command(after_help = "Example:\n  clusterctl rerun testrun/fresh-smoke")]
    Rerun(flow::RerunArgs),
    /// Run a command in a node or machine
    #[command(
        after_help = "Examples:\n  clusterctl exec node04 -- uname -a\n  clusterctl exec -i node04 -- sh < script.sh"
    )]
    Exec(guest::ExecArgs),
    /// Open a shell in a node or machine
    #[command(
        after_help = "A machine with an SSH server is reached by the ssh program. One without gets a root shell on its serial\nport, which its guest agent starts: one at a time, ended by `exit` or ctrl-].\n\nExamples:\n  clusterctl ssh node04\n  clusterctl ssh node04 -- uname -a\n  clusterctl ssh admin@web -i ~/.ssh/id_ed25519"
    )]
    Ssh(ssh::SshArgs),
    /// Join the terminal to a machine's serial port; ctrl-] ends
    #[command(after_help = "Example:\n  clusterctl console node01")]
    Console(console::ConsoleArgs),
    /// Carry a machine's TCP ports to this computer's loopback
    #[command(
        after_help = "Examples:\n  clusterctl port-forward web 8080:80\n  clusterctl port-forward web :22 9100\n  ssh -o ProxyCommand='clusterctl port-forward --stdio web 22' root@web"
    )]
    PortForward(port_forward::PortForwardArgs),
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
    /// Print the version of this program and of the server
    #[command(after_help = "Examples:\n  clusterctl version\n  clusterctl version --client -o json")]
    Version(version::VersionArgs),
    /// Print the path of the kubeconfig, for kubectl
    #[command(
        after_help = "Example:\n  export KUBECONFIG=$(clusterctl kubeconfig)\n  kubectl get nodes.photoncloud.dev"
    )]
    Kubeconfig,
}

impl Command {
    /// Runs the command.
    pub async fn run(self, global: &Global) -> Result<ExitCode> {
        match self {
            Self::Version(args) => version::run(global, &args).await?,
            Self::Kubeconfig => println!("{}", connection::kubeconfig(global)?.display()),
            asking => return asking.ask(global, &connection::client(global).await?).await,
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Runs a command that needs the server.
    async fn ask(self, global: &Global, client: &Client) -> Result<ExitCode> {
        let namespace = global.namespace.as_str();
        match self {
            Self::Apply(args) => return apply::run(client, namespace, &args).await,
            Self::Create(args) => return create::new(client, namespace, &args).await,
            Self::Replace(args) => return create::run(client, namespace, &args, create::Verb::Replace).await,
            Self::Diff(args) => return Ok(diff::run(client, namespace, &args).await),
            Self::Get(args) => return get::run(client, namespace, &args).await,
            Self::Describe(args) => return describe::run(client, namespace, &args).await,
            Self::Events(args) => events::run(client, namespace, &args).await?,
            Self::Tree(args) => tree::run(client, namespace, &args).await?,
            Self::Explain(args) => explain::run(client, &args).await?,
            Self::ApiResources(args) => api_resources::run(client, &args).await?,
            Self::Auth(command) => return command.run(client, namespace).await,
            Self::Net(command) => return command.run(client, namespace).await,
            Self::Edit(args) => edit::run(client, namespace, &args).await?,
            Self::Patch(args) => return patch::run(client, namespace, &args).await,
            Self::Label(args) => return mark::run(client, namespace, &args, mark::Field::Labels).await,
            Self::Annotate(args) => return mark::run(client, namespace, &args, mark::Field::Annotations).await,
            Self::Reconcile(args) => mark::reconcile(client, namespace, &args).await?,
            Self::Delete(args) => return delete::run(client, namespace, &args).await,
            Self::Wait(args) => return wait::run(client, namespace, &args).await,
            Self::Run(args) => return flow::run(client, namespace, &args).await,
            Self::Rerun(args) => return flow::rerun(client, namespace, &args).await,
            Self::Exec(args) => return guest::exec(client, namespace, &args).await,
            Self::Ssh(args) => return ssh::run(client, global, &args).await,
            Self::Console(args) => console::run(client, namespace, &args).await?,
            Self::PortForward(args) => port_forward::run(client, namespace, &args).await?,
            Self::Logs(args) => guest::logs(client, namespace, &args).await?,
            Self::Status => power::status(client, namespace).await?,
            Self::Stop(args) => power::stop(client, namespace, &args).await?,
            Self::Start(args) => power::start(client, namespace, &args).await?,
            // These were run without a server.
            Self::Version(_) | Self::Kubeconfig => {}
        }
        Ok(ExitCode::SUCCESS)
    }
}
