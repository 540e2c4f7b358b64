//! `port-forward`: a machine's TCP ports on this computer's loopback, or one of them on standard input and output.

use super::guest::{machine_name, subresource};
use super::stream;
use crate::print::Ending;
use anyhow::{Context, Result, bail};
use kube::Client;
use std::net::Ipv4Addr;
use tokio::net::{TcpListener, TcpStream};

/// Which ports of which machine.
#[derive(clap::Args, Debug)]
pub struct PortForwardArgs {
    /// Node or machine.
    pub machine: String,
    /// `LOCAL:REMOTE`, `PORT` for both, or `:REMOTE` for any free local port.
    #[arg(required = true, value_name = "[LOCAL:]REMOTE", value_parser = forward)]
    pub ports: Vec<Forward>,
    /// Carry one port over standard input and output, as ssh's ProxyCommand does.
    #[arg(long)]
    pub stdio: bool,
}

/// A port here and a port there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    local: u16,
    remote: u16,
}

fn forward(text: &str) -> Result<Forward, String> {
    let bad = |_| format!("{text:?} is no port; write 8080:80, 80 or :80");
    let (local, remote) = text.split_once(':').unwrap_or((text, text));
    let local = if local.is_empty() { 0 } else { local.parse().map_err(bad)? };
    let remote = remote.parse().map_err(bad)?;
    if remote == 0 { Err(format!("{text:?}: a machine has no port 0")) } else { Ok(Forward { local, remote }) }
}

/// Forwards until interrupted, or until standard input or the machine has ended.
pub async fn run(client: &Client, namespace: &str, args: &PortForwardArgs) -> Result<()> {
    let machine = machine_name(&args.machine);
    if args.stdio {
        let [port] = args.ports.as_slice() else { bail!(Ending::Usage("--stdio carries one port".to_owned())) };
        let mut stream = stream::open(client, &url(namespace, machine, port.remote)).await?;
        let mut here = tokio::io::join(tokio::io::stdin(), tokio::io::stdout());
        tokio::io::copy_bidirectional(&mut here, &mut stream).await.context("the connection broke off")?;
        return Ok(());
    }
    let mut listeners = Vec::new();
    for port in &args.ports {
        // Loopback only: whoever else could connect would have our rights.
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port.local)).await.with_context(|| {
            format!("failed to listen on 127.0.0.1:{}: choose another port, or :{} for any", port.local, port.remote)
        })?;
        println!("Forwarding from {} -> {}", listener.local_addr().context("failed to read the port")?, port.remote);
        listeners.push((listener, url(namespace, machine, port.remote)));
    }
    let serving = futures::future::join_all(listeners.into_iter().map(|(listener, url)| serve(client, listener, url)));
    tokio::select! {
        _ = serving => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    Ok(())
}

fn url(namespace: &str, machine: &str, port: u16) -> String {
    format!("{}?port={port}", subresource(namespace, machine, "portforward"))
}

async fn serve(client: &Client, listener: TcpListener, url: String) {
    loop {
        match listener.accept().await {
            Ok((connection, _)) => {
                let (client, url) = (client.clone(), url.clone());
                tokio::spawn(async move {
                    if let Err(error) = carry(&client, connection, &url).await {
                        eprintln!("error: {error:#}");
                    }
                });
            }
            Err(error) => {
                eprintln!("error: failed to accept a connection: {error}");
                return;
            }
        }
    }
}

async fn carry(client: &Client, mut connection: TcpStream, url: &str) -> Result<()> {
    let mut stream = stream::open(client, url).await?;
    // Either side may reset at will; that is its business.
    let _ = tokio::io::copy_bidirectional(&mut connection, &mut stream).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_written_in_three_ways() {
        assert_eq!(forward("8080:80"), Ok(Forward { local: 8080, remote: 80 }));
        assert_eq!(forward("80"), Ok(Forward { local: 80, remote: 80 }));
        assert_eq!(forward(":80"), Ok(Forward { local: 0, remote: 80 }));
        for bad in ["", "x", "80:", "70000", "80:0", "-1:80"] {
            assert!(forward(bad).is_err(), "{bad}");
        }
    }
}
