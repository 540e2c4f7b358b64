//! `exec` and `logs`: into a machine, by the way of the API server and the agent of its host.

use super::get::{encode, said};
use anyhow::{Context, Result, bail};
use crds::exec::{ExecRequest, ExecResult, ExecState};
use futures::AsyncReadExt;
use http::Request;
use kube::Client;
use std::io::Write;
use std::process::ExitCode;

/// What to run where.
#[derive(clap::Args, Debug)]
pub struct ExecArgs {
    /// Node or machine.
    pub machine: String,
    /// Program and arguments, after `--`.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<String>,
    /// Pass standard input on.
    #[arg(short = 'i', long)]
    pub stdin: bool,
}

/// Whose log.
#[derive(clap::Args, Debug)]
pub struct LogsArgs {
    /// Node or machine.
    pub machine: String,
    /// Go on as the log grows.
    #[arg(short, long)]
    pub follow: bool,
    /// Only the last lines.
    #[arg(long, value_name = "LINES")]
    pub tail: Option<u64>,
}

/// The name in `node/x`, `vm/x` or `x`.
pub fn machine_name(word: &str) -> &str {
    word.rsplit('/').next().unwrap_or(word)
}

/// URL of a machine's subresource.
pub fn subresource(namespace: &str, machine: &str, subresource: &str) -> String {
    format!("/apis/{}/{}/namespaces/{namespace}/virtualmachines/{machine}/{subresource}", crds::GROUP, crds::VERSION)
}

/// Runs a command in the guest; the exit code is the command's.
pub async fn exec(client: &Client, namespace: &str, args: &ExecArgs) -> Result<ExitCode> {
    let stdin = if args.stdin {
        Some(std::io::read_to_string(std::io::stdin()).context("failed to read standard input")?)
    } else {
        None
    };
    let mut request = ExecRequest {
        name: format!("cli-{}", uuid::Uuid::new_v4()),
        command: args.command.clone(),
        stdin,
        wait_seconds: 20,
        tail_bytes: 262_144,
        forget: false,
    };
    loop {
        let result = ask(client, namespace, machine_name(&args.machine), &request).await?;
        match result.state {
            // From here on it is only looked after: after a reboot of the guest it must not be started again.
            ExecState::Running => (request.command, request.stdin) = (Vec::new(), None),
            ExecState::Lost => bail!("the machine was restarted; what became of the command is unknown"),
            ExecState::Exited => {
                write(&mut std::io::stdout(), &result.stdout, result.stdout_bytes)?;
                write(&mut std::io::stderr(), &result.stderr, result.stderr_bytes)?;
                request.forget = true;
                request.wait_seconds = 0;
                request.tail_bytes = 0;
                ask(client, namespace, machine_name(&args.machine), &request).await?;
                let code = result.exit_code.unwrap_or(1);
                return Ok(ExitCode::from(u8::try_from(code & 0xff).unwrap_or(1)));
            }
        }
    }
}

fn write(stream: &mut impl Write, text: &str, all: u64) -> Result<()> {
    let shown = text.len() as u64;
    if all > shown {
        eprintln!("(the first {} bytes are left out)", all - shown);
    }
    stream.write_all(text.as_bytes()).and_then(|()| stream.flush()).context("failed to write the output")
}

/// Starts an execution in the guest, or looks after it.
pub async fn ask(client: &Client, namespace: &str, machine: &str, request: &ExecRequest) -> Result<ExecResult> {
    let body = serde_json::to_vec(request).context("failed to render the request")?;
    let request = Request::post(subresource(namespace, machine, "exec"))
        .header("content-type", "application/json")
        .body(body)
        .context("failed to make a request")?;
    client.request(request).await.map_err(said)
}

/// Prints a machine's serial log.
pub async fn logs(client: &Client, namespace: &str, args: &LogsArgs) -> Result<()> {
    let mut query = vec![format!("follow={}", args.follow)];
    if let Some(lines) = args.tail {
        query.push(format!("tailLines={}", encode(&lines.to_string())));
    }
    let url = format!("{}?{}", subresource(namespace, machine_name(&args.machine), "log"), query.join("&"));
    let request = Request::get(url).body(Vec::new()).context("failed to make a request")?;
    let mut stream = Box::pin(client.request_stream(request).await.map_err(said)?);
    let mut buffer = vec![0; 16_384];
    loop {
        let read = stream.read(&mut buffer).await.context("the log broke off")?;
        if read == 0 {
            return Ok(());
        }
        std::io::stdout()
            .write_all(&buffer[..read])
            .and_then(|()| std::io::stdout().flush())
            .context("failed to write the log")?;
    }
}
