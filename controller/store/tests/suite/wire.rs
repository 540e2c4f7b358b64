//! A wire between a store and etcd that can be cut, or lose what etcd says.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

#[derive(Clone, Copy, Default)]
struct State {
    /// How often it was cut. What was open before a cut ends, however soon the wire is mended.
    cuts: usize,
    /// Nothing new is let in.
    cut: bool,
    /// Requests pass, answers are lost.
    deaf: bool,
    /// Nothing passes; it all looks well, and goes on later.
    stalled: bool,
}

pub struct Wire {
    address: SocketAddr,
    state: Arc<watch::Sender<State>>,
    refused: watch::Receiver<usize>,
    relay: JoinHandle<()>,
}

impl Wire {
    /// A wire to the given `https://` endpoint.
    pub async fn to(endpoint: &str) -> Result<Wire> {
        let target = endpoint.strip_prefix("https://").context("not https")?.to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let state = Arc::new(watch::Sender::new(State::default()));
        let (refusals, refused) = watch::channel(0);
        let relay = tokio::spawn(relay(listener, target, state.clone(), refusals));
        Ok(Wire { address, state, refused, relay })
    }

    pub fn endpoint(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Breaks what is open and refuses what is new.
    pub fn cut(&self) {
        self.state.send_modify(|state| *state = State { cuts: state.cuts + 1, cut: true, ..State::default() });
    }

    /// Loses all answers from now on; only a cut can follow.
    pub fn deafen(&self) {
        self.state.send_modify(|state| state.deaf = true);
    }

    /// Keeps everything to itself, as a stopped program or a router that drops packets does.
    pub fn stall(&self) {
        self.state.send_modify(|state| state.stalled = true);
    }

    /// Delivers what was kept, and goes on.
    pub fn resume(&self) {
        self.state.send_modify(|state| state.stalled = false);
    }

    pub fn mend(&self) {
        self.state.send_modify(|state| state.cut = false);
    }

    /// Waits until somebody has tried the wire in vain.
    pub async fn refuses(&self) -> Result<()> {
        let mut refused = self.refused.clone();
        let before = *refused.borrow();
        refused.wait_for(|now| *now > before).await?;
        Ok(())
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.relay.abort();
    }
}

async fn relay(
    listener: TcpListener,
    target: String,
    state: Arc<watch::Sender<State>>,
    refusals: watch::Sender<usize>,
) {
    while let Ok((near, _)) = listener.accept().await {
        let begun = *state.borrow();
        if begun.cut {
            refusals.send_modify(|count| *count += 1);
            continue;
        }
        let (target, mut seen) = (target.clone(), state.subscribe());
        tokio::spawn(async move {
            let Ok(far) = TcpStream::connect(target).await else {
                return;
            };
            let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
            let (asking, answering) = (seen.clone(), seen.clone());
            tokio::select! {
                _ = pass(near_in, far_out, asking, begun.cuts, |_| false) => {}
                _ = pass(far_in, near_out, answering, begun.cuts, |state| state.deaf) => {}
                _ = seen.wait_for(|state| state.cuts > begun.cuts) => {}
            }
        });
    }
}

/// Passes bytes on until a cut, which may come while some are on their way.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut state: watch::Receiver<State>,
    cuts: usize,
    are_lost: impl Fn(State) -> bool,
) -> Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = from.read(&mut buffer).await?;
        let now = *state.wait_for(|state| !state.stalled || state.cuts > cuts).await?;
        if length == 0 || now.cuts > cuts {
            return Ok(());
        }
        if !are_lost(now) {
            to.write_all(&buffer[..length]).await?;
        }
    }
}
