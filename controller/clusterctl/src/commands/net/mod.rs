//! `net`: who may reach whom, why, whether packets agree, and the packets themselves.

mod capture;
mod matrix;
mod objects;
mod probe;
mod questions;
mod trace;

use anyhow::Result;
use clap::Subcommand;
use kube::Client;
use std::process::ExitCode;

/// Questions about networks.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Print which Port may reach which on what, as the objects say; with --probe, try it (0: as they say, 1: not)
    #[command(
        after_help = "One conversation of each sort that the rules tell apart is asked about: tcp/80, tcp/1000-1999, tcp/other, icmp, …\nPorts with addresses of IPv6 are asked about in each family: tcp/80 where both end alike, else tcp4/80 and tcp6/80.\n\nA probe is made by the guests, with the busybox that each has. Nothing has to listen: a guest that refuses has answered.\nOnly tcp and echoes of icmp and icmpv6 are tried. What disagrees is tried three times, and named with the rule that decided.\n\nExamples:\n  clusterctl net matrix\n  clusterctl net matrix -n acme --from web --protocol tcp --port 443 -o wide\n  clusterctl net matrix --network front --probe\n  clusterctl net matrix -A -o json"
    )]
    Matrix(matrix::MatrixArgs),
    /// Explain the way from one Port or machine to another, or to a service, hop by hop (0: open, 1: closed)
    #[command(
        after_help = "Examples:\n  clusterctl net trace client web --port 443\n  clusterctl net trace vm/client vm/web\n  clusterctl net trace client service/shop --port 80\n  clusterctl net trace client web --port 443 --family ipv6\n  clusterctl net trace client web --protocol udp --port 53 -o yaml"
    )]
    Trace(trace::TraceArgs),
    /// Stream what passes a Port as a pcapng capture, for Wireshark, tshark or tcpdump
    #[command(
        after_help = "Seen is all that the guest sends, also what a filter drops then, and all that reaches it. Inbound is what the guest receives.\nThe capture ends with ctrl-c, with its reader, or by --count or --duration; then it is said how many packets came and how many\nwere lost because they came faster than they were read. The guest's traffic never waits.\n\nExamples:\n  clusterctl net capture web | wireshark -k -i -\n  clusterctl net capture vm/web | tcpdump -nr - port 443\n  clusterctl net capture web --write web.pcapng --duration 30s\n  clusterctl net capture web --count 100 --snaplen 96 -w - > web.pcapng"
    )]
    Capture(capture::CaptureArgs),
}

impl Command {
    /// Runs the command.
    pub async fn run(self, client: &Client, namespace: &str) -> Result<ExitCode> {
        match self {
            Self::Matrix(args) => matrix::run(client, namespace, &args).await,
            Self::Trace(args) => trace::run(client, namespace, &args).await,
            Self::Capture(args) => capture::run(client, namespace, &args).await,
        }
    }
}
