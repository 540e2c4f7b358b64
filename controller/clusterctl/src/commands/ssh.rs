//! `ssh`: into a machine, by its SSH server if it has one, else by a shell on its serial port.

use super::guest::{self, ExecArgs, machine_name, subresource};
use super::{shell, stream};
use crate::global::Global;
use anyhow::{Context, Result, bail};
use http::StatusCode;
use kube::Client;
use std::process::ExitCode;
use std::time::Duration;

/// Where to, and what to run there.
#[derive(clap::Args, Debug)]
pub struct SshArgs {
    /// Node or machine; `user@machine` for another user than root.
    #[arg(value_name = "[USER@]MACHINE")]
    pub machine: String,
    /// A command to run instead of a shell, after `--`.
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
    /// The user, where the machine has an SSH server.
    #[arg(short = 'l', long, value_name = "NAME")]
    pub user: Option<String>,
    /// The key, where the machine has an SSH server.
    #[arg(short = 'i', long, value_name = "FILE")]
    pub identity: Option<std::path::PathBuf>,
    /// By which way: `sshd`, `serial`, or what there is.
    #[arg(long, value_enum, default_value_t = Via::Auto, value_name = "WAY")]
    pub via: Via,
}

/// The ways in.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// The SSH server if one answers, else the serial port.
    Auto,
    /// The SSH server.
    Sshd,
    /// The guest agent and the serial port.
    Serial,
}

/// An SSH server answers at once or not at all: the way there is a bridge on one machine.
const PATIENCE: Duration = Duration::from_secs(3);

/// Opens a shell, or runs a command; the exit code is theirs.
pub async fn run(client: &Client, global: &Global, args: &SshArgs) -> Result<ExitCode> {
    let namespace = global.namespace.as_str();
    let (user, machine) = match args.machine.split_once('@') {
        Some((user, machine)) => (Some(user.to_owned()), machine_name(machine)),
        None => (args.user.clone(), machine_name(&args.machine)),
    };
    let by_server = match args.via {
        Via::Auto => has_server(client, namespace, machine).await?,
        way => way == Via::Sshd,
    };
    if by_server {
        return ssh(global, machine, &user.unwrap_or_else(|| "root".to_owned()), args).await;
    }
    if let Some(user) = user.filter(|user| user != "root") {
        bail!("{machine} has no SSH server, and its guest agent knows only root: leave out the user {user}");
    }
    if args.command.is_empty() {
        return shell::run(client, namespace, machine).await;
    }
    let exec = ExecArgs { machine: machine.to_owned(), command: args.command.clone(), stdin: false };
    guest::exec(client, namespace, &exec).await
}

async fn has_server(client: &Client, namespace: &str, machine: &str) -> Result<bool> {
    let url = format!("{}?port=22", subresource(namespace, machine, "portforward"));
    match tokio::time::timeout(PATIENCE, stream::open(client, &url)).await {
        Ok(Ok(_)) => Ok(true),
        Ok(Err(error)) => match error.downcast_ref::<stream::Refused>() {
            Some(refused) if refused.code != StatusCode::NOT_FOUND => Ok(false),
            _ => Err(error),
        },
        Err(_) => Ok(false),
    }
}

async fn ssh(global: &Global, machine: &str, user: &str, args: &SshArgs) -> Result<ExitCode> {
    let program = std::env::current_exe().context("failed to find this program")?;
    let mut ssh = tokio::process::Command::new("ssh");
    ssh.arg("-o").arg(format!("ProxyCommand={}", proxy(&program.display().to_string(), global, machine)));
    // The way is authenticated on both legs by certificates, and a machine that is built anew has new keys.
    for option in ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"] {
        ssh.args(["-o", option]);
    }
    if let Some(identity) = &args.identity {
        ssh.arg("-i").arg(identity);
    }
    ssh.args(["-l", user, "--", machine]).args(&args.command);
    let status = ssh.status().await.context("failed to start ssh; install openssh-client, or say --via=serial")?;
    Ok(ExitCode::from(u8::try_from(status.code().unwrap_or(255)).unwrap_or(255)))
}

/// The command by which ssh reaches the machine. A shell takes it apart, and ssh replaces what begins with %.
fn proxy(program: &str, global: &Global, machine: &str) -> String {
    let mut words = vec![program.to_owned(), "--data-dir".to_owned(), global.data_dir.display().to_string()];
    if let Some(kubeconfig) = &global.kubeconfig {
        words.extend(["--kubeconfig".to_owned(), kubeconfig.display().to_string()]);
    }
    if let Some(user) = &global.as_user {
        words.extend(["--as".to_owned(), user.clone()]);
        words.extend(global.as_group.iter().flat_map(|group| ["--as-group".to_owned(), group.clone()]));
    }
    let rest = ["--namespace", &global.namespace, "port-forward", "--stdio", machine, "22"];
    words.extend(rest.map(str::to_owned));
    let quoted: Vec<String> =
        words.iter().map(|word| format!("'{}'", word.replace('\'', "'\\''").replace('%', "%%"))).collect();
    format!("exec {}", quoted.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proxy_command_survives_a_shell_and_ssh() {
        let mut global = Global {
            data_dir: "/a b/it's%".into(),
            kubeconfig: None,
            namespace: "t".to_owned(),
            as_user: None,
            as_group: Vec::new(),
        };
        assert_eq!(
            proxy("/bin/clusterctl", &global, "web"),
            "exec '/bin/clusterctl' '--data-dir' '/a b/it'\\''s%%' '--namespace' 't' 'port-forward' '--stdio' 'web' '22'"
        );
        global.as_user = Some("jane".to_owned());
        global.as_group = vec!["dev".to_owned()];
        assert!(proxy("clusterctl", &global, "web").contains("'--as' 'jane' '--as-group' 'dev' '--namespace'"));
    }
}
