//! A wire between a store and etcd that can be cut, or lose what etcd says.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
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
        self.state.send_modify(|state| *state = State { cuts: state.cuts + 1, cut: true, deaf: false });
    }

    /// Loses all answers from now on; only a cut can follow.
    pub fn deafen(&self) {
        self.state.send_modify(|state| state.deaf = true);
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
            let ((mut near_in, near_out), (far_in, mut far_out)) = (near.into_split(), far.into_split());
            let listening = seen.clone();
            tokio::select! {
                _ = copy(&mut near_in, &mut far_out) => {}
                _ = answer(far_in, near_out, listening, begun.cuts) => {}
                _ = seen.wait_for(|state| state.cuts > begun.cuts) => {}
            }
        });
    }
}

/// Passes answers on until a cut, which may come while an answer is on its way.
async fn answer(
    mut far: OwnedReadHalf,
    mut near: OwnedWriteHalf,
    state: watch::Receiver<State>,
    cuts: usize,
) -> Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = far.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        let now = *state.borrow();
        if now.cuts > cuts {
            return Ok(());
        }
        if !now.deaf {
            near.write_all(&buffer[..length]).await?;
        }
    }
}
