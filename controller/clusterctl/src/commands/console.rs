//! `console`: a machine's serial port.

use super::guest::{machine_name, subresource};
use super::stream;
use super::terminal::{self, Raw};
use anyhow::Result;
use kube::Client;

/// Whose console.
#[derive(clap::Args, Debug)]
pub struct ConsoleArgs {
    /// Node or machine.
    pub machine: String,
}

/// Joins the terminal to the serial port, until ctrl-].
pub async fn run(client: &Client, namespace: &str, args: &ConsoleArgs) -> Result<()> {
    let machine = machine_name(&args.machine);
    let stream = stream::open(client, &subresource(namespace, machine, "console")).await?;
    eprintln!("Connected to the serial port of {machine}; ctrl-] ends. For a shell: clusterctl ssh {machine}");
    let raw = Raw::enter()?;
    let ended = terminal::converse(stream, tokio::io::stdin(), std::io::stdout()).await;
    drop(raw);
    if ended? == terminal::Ended::Closed {
        eprintln!("\n{machine} closed the connection.");
    } else {
        eprintln!();
    }
    Ok(())
}
