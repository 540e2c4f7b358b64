//! A wire between a store and etcd that can be cut.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub struct Wire {
    address: SocketAddr,
    whole: Arc<watch::Sender<bool>>,
    relay: JoinHandle<()>,
}

impl Wire {
    /// A wire to the given `https://` endpoint.
    pub async fn to(endpoint: &str) -> Result<Wire> {
        let target = endpoint.strip_prefix("https://").context("not https")?.to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let whole = Arc::new(watch::Sender::new(true));
        let relay = tokio::spawn(relay(listener, target, whole.clone()));
        Ok(Wire { address, whole, relay })
    }

    pub fn endpoint(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Breaks what is open and refuses what is new.
    pub fn cut(&self) {
        self.whole.send_replace(false);
    }

    pub fn mend(&self) {
        self.whole.send_replace(true);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.relay.abort();
    }
}

async fn relay(listener: TcpListener, target: String, whole: Arc<watch::Sender<bool>>) {
    while let Ok((mut near, _)) = listener.accept().await {
        let mut state = whole.subscribe();
        if !*state.borrow_and_update() {
            continue;
        }
        let target = target.clone();
        tokio::spawn(async move {
            let Ok(mut far) = TcpStream::connect(target).await else {
                return;
            };
            tokio::select! {
                _ = copy_bidirectional(&mut near, &mut far) => {}
                _ = state.wait_for(|whole| !whole) => {}
            }
        });
    }
}
