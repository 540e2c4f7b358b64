//! The one task that owns a guest agent's socket: it takes requests in turn, so that answers cannot be mixed up.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::Error;
use super::channel::{Answer, Channel};
use crate::qemu::machine::GUEST_AGENT_SOCKET;
use crate::qemu::socket;

/// How long a command that is answered only on failure is given to fail.
const MOMENT: Duration = Duration::from_millis(500);

/// One command for the agent.
pub struct Request {
    pub name: &'static str,
    pub command: Vec<u8>,
    pub answered: bool,
    pub asked: Instant,
    pub deadline: Duration,
}

/// A command with whoever waits for its answer.
pub struct Asked {
    pub request: Request,
    pub reply: oneshot::Sender<Result<Value, Error>>,
}

/// Serves requests until nobody can make any more.
pub async fn run(run_dir: PathBuf, mut requests: mpsc::Receiver<Asked>) {
    let mut channel = None;
    while let Some(Asked { request, mut reply }) = requests.recv().await {
        let served = tokio::select! {
            // Whoever asked has gone away; being dropped halfway is what the channel is made for.
            () = reply.closed() => continue,
            served = serve(&run_dir, &mut channel, &request) => served,
        };
        if matches!(served, Err(Error::NotConnected { .. })) {
            channel = None;
        }
        // Gone away in the last moment.
        let _ = reply.send(served);
    }
}

async fn serve(
    run_dir: &std::path::Path,
    channel: &mut Option<Channel<UnixStream>>,
    request: &Request,
) -> Result<Value, Error> {
    let command = request.name;
    let lost = |source| Error::NotConnected { command, source };
    let exchange = async {
        let channel = match channel {
            Some(channel) => channel,
            None => channel.insert(Channel::new(socket::connect(run_dir, GUEST_AGENT_SOCKET).await?)),
        };
        match request.answered {
            true => channel.exchange(&request.command).await.map(Some),
            false => channel.tell(&request.command, MOMENT).await,
        }
    };
    let answer = tokio::time::timeout_at(request.asked + request.deadline, exchange).await;
    match answer.map_err(|_| Error::Timeout { command, deadline: request.deadline })?.map_err(lost)? {
        Some(Answer::Return(value)) => Ok(value),
        None => Ok(Value::Null),
        Some(Answer::Error { desc }) => Err(Error::CommandFailed { command, description: desc }),
    }
}
