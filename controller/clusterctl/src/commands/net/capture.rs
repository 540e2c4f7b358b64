//! `net capture`: what passes a Port, for programs that read captures.
//!
//! The bytes are passed on as they come; what is counted on the way is told at the end, on standard error. Being asked to end is
//! said to the agent by ending our half of the stream, so that its last words, which have the count of what was lost, come along.

use super::super::api::said;
use super::super::stream;
use super::super::wait::duration;
use crate::control::signals;
use crate::print::Ending;
use anyhow::{Context, Result, bail};
use crds::{Port, VirtualMachine};
use host::capture::pcapng::Follower;
use kube::{Api, Client};
use rustix::event::{PollFd, PollFlags, poll};
use std::io::{ErrorKind, IsTerminal};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::oneshot;

/// How long the last words may take after we asked for the end.
const LAST_WORDS: Duration = Duration::from_secs(10);
const CHUNK: usize = 64 << 10;

/// Of which Port, and how much.
#[derive(clap::Args, Debug)]
pub struct CaptureArgs {
    /// A Port, or vm/NAME for a machine's first one.
    pub port: String,
    /// Write to a file; without, or as -, to standard output.
    #[arg(short, long, value_name = "FILE")]
    pub write: Option<PathBuf>,
    /// End after so many packets.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// End after this time: 30s, 5m.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub duration: Option<Duration>,
    /// Keep at most so many bytes of each packet.
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..=i64::from(host::capture::WHOLE)))]
    pub snaplen: Option<u32>,
}

impl CaptureArgs {
    fn file(&self) -> Option<&Path> {
        self.write.as_deref().filter(|path| *path != Path::new("-"))
    }

    /// Bytes that are no text would only confuse a terminal.
    fn check(&self, is_terminal: bool) -> Result<()> {
        match is_terminal && self.file().is_none() {
            true => bail!(Ending::Usage(
                "a capture is not for a terminal: pipe it to a program (… | wireshark -k -i -), or name a file by --write"
                    .to_owned()
            )),
            false => Ok(()),
        }
    }

    fn url(&self, namespace: &str, port: &str) -> String {
        let mut query = Vec::new();
        query.extend(self.count.map(|count| format!("count={count}")));
        query.extend(self.duration.map(|time| format!("seconds={}", time.as_secs())));
        query.extend(self.snaplen.map(|bytes| format!("snaplen={bytes}")));
        let (group, version) = (crds::GROUP, crds::VERSION);
        format!("/apis/{group}/{version}/namespaces/{namespace}/ports/{port}/capture?{}", query.join("&"))
    }
}

/// Why no more is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The agent has ended.
    Theirs,
    /// We asked for it, and nothing more came.
    Ours,
    /// Whoever read what we write has ended.
    Reader,
}

/// Captures until it is enough.
pub async fn run(client: &Client, namespace: &str, args: &CaptureArgs) -> Result<ExitCode> {
    args.check(std::io::stdout().is_terminal())?;
    // From here on ctrl-c is an end like any other.
    let asked = signals::shutdown()?;
    let port = port_of(client, namespace, &args.port).await?;
    let stream = stream::open(client, &args.url(namespace, &port)).await?;
    // Not before it is known that there will be something in it.
    let mut out = output(args.file()).await?;
    eprintln!("Capturing on Port {port}; ctrl-c ends.");
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut follower = Follower::default();
    let end = {
        let mut passing = pin!(pass_on(&mut reader, &mut out, &mut follower));
        tokio::select! {
            end = &mut passing => end?,
            () = unread(args.file().is_none()) => End::Reader,
            () = asked.cancelled() => {
                // Who is gone has nothing more to say, and then this ends as well.
                let _ = writer.shutdown().await;
                tokio::time::timeout(LAST_WORDS, passing).await.unwrap_or(Ok(End::Ours))?
            }
        }
    };
    told(&follower, end == End::Theirs && !asked.is_cancelled())
}

/// Says how it ended. `whole`: it has to have come to its own end.
fn told(follower: &Follower, whole: bool) -> Result<ExitCode> {
    let frames = follower.frames;
    let Some(ending) = &follower.ending else {
        if whole {
            bail!("the connection broke off after {frames} packets");
        }
        eprintln!("{frames} packets captured.");
        return Ok(ExitCode::SUCCESS);
    };
    eprintln!("{frames} packets captured, {} lost.", ending.counted.lost);
    match &ending.why {
        Some(why) => bail!("the capture ended early: {why}"),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// The Port that a word names.
async fn port_of(client: &Client, namespace: &str, word: &str) -> Result<String> {
    let (kind, name) = word.split_once('/').unwrap_or(("", word));
    let ports: Api<Port> = Api::namespaced(client.clone(), namespace);
    let machines: Api<VirtualMachine> = Api::namespaced(client.clone(), namespace);
    let by_name = match kind {
        "port" | "ports" => return Ok(name.to_owned()),
        "" => ports.get_opt(name).await.map_err(said)?,
        "vm" | "virtualmachine" | "virtualmachines" | "node" => None,
        other => bail!(Ending::Usage(format!("captured is what passes a Port, not a {other}"))),
    };
    if by_name.is_some() {
        return Ok(name.to_owned());
    }
    let machine = machines.get_opt(name).await.map_err(said)?;
    let first = machine.and_then(|machine| machine.spec.interfaces.into_iter().next());
    first.map(|card| card.port).with_context(|| {
        format!("there is no Port {name}, and no VirtualMachine {name} with one, in namespace {namespace}; `clusterctl get ports` lists them")
    })
}

async fn output(file: Option<&Path>) -> Result<Box<dyn AsyncWrite + Unpin + Send>> {
    Ok(match file {
        None => Box::new(tokio::io::stdout()),
        Some(path) => {
            let created = tokio::fs::File::create(path).await;
            Box::new(created.with_context(|| format!("failed to create {}", path.display()))?)
        }
    })
}

/// Passes on what comes until it ends.
async fn pass_on<R, W>(reader: &mut R, out: &mut W, follower: &mut Follower) -> Result<End>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut chunk = vec![0; CHUNK];
    loop {
        let bytes = match reader.read(&mut chunk).await {
            Ok(0) | Err(_) => return Ok(End::Theirs),
            Ok(length) => &chunk[..length],
        };
        follower.follow(bytes)?;
        let written = async {
            out.write_all(bytes).await?;
            // A reader waits for each packet as it comes.
            out.flush().await
        };
        match written.await {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(End::Reader),
            Err(error) => return Err(error).context("failed to write the capture"),
        }
    }
}

/// Waits until nobody reads standard output any more: while nothing passes, no failed write would tell.
async fn unread(standard_output: bool) {
    let (tell, told) = oneshot::channel();
    if standard_output {
        // A plain thread, which the end of the process does not wait for.
        std::thread::spawn(move || {
            let stdout = std::io::stdout();
            let mut one = [PollFd::new(&stdout, PollFlags::empty())];
            while let Err(rustix::io::Errno::INTR) = poll(&mut one, None) {}
            // Nobody waits any more when the capture has ended first.
            let _ = tell.send(());
        });
        let _ = told.await;
    } else {
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use host::capture::{Counted, pcapng};

    fn args(words: &[&str]) -> CaptureArgs {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: CaptureArgs,
        }
        <Line as clap::Parser>::parse_from(["x"].iter().chain(words)).args
    }

    #[test]
    fn what_is_asked_for_is_in_the_url() {
        let url = |words: &[&str]| args(words).url("t", "web");
        let all = url(&["web", "--count=3", "--duration=1m", "--snaplen=96"]);
        assert!(all.ends_with("/namespaces/t/ports/web/capture?count=3&seconds=60&snaplen=96"), "{all}");
        assert!(url(&["web"]).ends_with("/capture?"));
        assert_eq!(args(&["web", "-w", "-"]).file(), None);
        assert_eq!(args(&["web", "-w", "a"]).file(), Some(Path::new("a")));
    }

    #[test]
    fn a_terminal_gets_no_capture() {
        for (words, fits) in [(&["web"][..], false), (&["web", "-w", "-"], false), (&["web", "-w", "a"], true)] {
            assert_eq!(args(words).check(true).is_ok(), fits, "{words:?}");
            assert!(args(words).check(false).is_ok(), "{words:?}");
        }
    }

    #[tokio::test]
    async fn what_comes_is_passed_on_and_how_it_ended_is_told() {
        let mut whole = Vec::new();
        pcapng::begin(&mut whole, "test", "tap", "Port t/web", 96);
        let broken = whole.clone();
        pcapng::end(&mut whole, Duration::ZERO, Counted::default(), Some("the device went away"));
        let passed = async |bytes: &[u8]| {
            let (mut out, mut follower) = (Vec::new(), Follower::default());
            let end = pass_on(&mut &bytes[..], &mut out, &mut follower).await;
            assert!(end.is_err() || out == bytes);
            end.and_then(|end| told(&follower, end == End::Theirs)).map_err(|error| error.to_string())
        };
        assert_eq!(passed(&whole).await.unwrap_err(), "the capture ended early: the device went away");
        assert_eq!(passed(&broken).await.unwrap_err(), "the connection broke off after 0 packets");
        assert_eq!(passed(b"<html>, says a proxy").await.unwrap_err(), "what comes is no capture");
    }

    #[tokio::test]
    async fn a_reader_that_has_ended_is_no_failure() {
        let (mut out, far) = tokio::io::duplex(64);
        drop(far);
        let mut bytes = Vec::new();
        pcapng::begin(&mut bytes, "test", "tap", "Port t/web", 96);
        let end = pass_on(&mut &bytes[..], &mut out, &mut Follower::default()).await;
        assert_eq!(end.unwrap(), End::Reader);
    }
}
