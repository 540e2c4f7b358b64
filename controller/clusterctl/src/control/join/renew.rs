//! The host's side of renewal: when two thirds of its certificate's life are over, it asks for the next one as itself.
//!
//! ```text
//!   wait ─► hosts/NAME/certificate, by the present certificate ─► file, whole or as it was ─► doors and client go over
//!     ▲                    │ no answer, refused                                                     │
//!     └────────────────────┴──── again, more often the nearer the end ◄─────────────────────────────┘
//! ```
//!
//! The key stays; so the new certificate is one file, and whenever this process is killed the pair on disk fits. Nothing
//! restarts: doors show the new one to whoever comes next, and the client opens new connections.

use super::{Given, Renewed};
use anyhow::{Context, Result};
use futures::future::BoxFuture;
use kube::Client;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The clock is looked at this often: it may be set, and machines sleep.
const LOOK: Duration = Duration::from_secs(600);
/// Between two attempts, at most and at least.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(600));

/// What is kept up to date.
pub struct Renewal {
    /// Name of the Host.
    pub host: String,
    /// The certificate's file.
    pub path: PathBuf,
    /// The present identity.
    pub identity: pki::Identity,
    /// What the agent's doors show.
    pub shown: pki::Shown,
    /// The client that calls as the host, to be exchanged.
    pub client: watch::Sender<Client>,
}

/// Makes the client that calls by an identity.
pub type Connect = Box<dyn Fn(pki::Identity) -> BoxFuture<'static, Result<Client>> + Send + Sync>;

/// A client whose inner client can be exchanged: requests go to the newest.
pub fn exchangeable(first: Client) -> (Client, watch::Sender<Client>) {
    let (sender, newest) = watch::channel(first);
    let service = tower::service_fn(move |request| {
        let client = newest.borrow().clone();
        async move { client.send(request).await }
    });
    (Client::new(service, "default"), sender)
}

impl Renewal {
    /// Renews until `shutdown`.
    pub async fn keep(mut self, connect: Connect, shutdown: CancellationToken) {
        while shutdown.run_until_cancelled(self.due()).await.is_some() {
            let done = self.renew(&connect);
            let Some(done) = shutdown.run_until_cancelled(done).await else { return };
            if let Err(error) = done {
                tracing::warn!(error = format!("{error:#}"), "this host's certificate could not be renewed yet");
                let pause = (self.left() / 10).clamp(AGAIN.0, AGAIN.1);
                if shutdown.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                    return;
                }
            } else {
                tracing::info!("renewed this host's certificate");
            }
        }
    }

    /// Waits until the certificate should be renewed.
    async fn due(&self) {
        // One that cannot be read is as good as one that has ended.
        let at = pki::renew_at(&self.identity.cert_pem).unwrap_or(SystemTime::UNIX_EPOCH);
        while let Ok(ahead) = at.duration_since(SystemTime::now()) {
            tokio::time::sleep(ahead.min(LOOK)).await;
        }
    }

    /// About what is left of the certificate's life once it is due: half of what has been waited for.
    fn left(&self) -> Duration {
        let at = pki::renew_at(&self.identity.cert_pem).unwrap_or(SystemTime::UNIX_EPOCH);
        SystemTime::now().duration_since(at).unwrap_or_default()
    }

    async fn renew(&mut self, connect: &Connect) -> Result<()> {
        let request = pki::request_for(&self.identity.key_pem).context("failed to make the request")?;
        let body = serde_json::to_vec(&Renewed { request }).context("failed to write the request")?;
        let url = format!("/apis/{}/{}/hosts/{}/certificate", crds::GROUP, crds::VERSION, self.host);
        let asked = http::Request::post(url).header(http::header::CONTENT_TYPE, "application/json").body(body);
        let client = self.client.borrow().clone();
        let given: Given =
            client.request(asked.context("failed to write the request")?).await.context("the server gives none")?;
        let next = pki::Identity { cert_pem: given.certificate, key_pem: self.identity.key_pem.clone() };
        // Whoever could not use it keeps the old one.
        let client = connect(next.clone()).await?;
        self.shown.exchange(&next).context("the new certificate is not usable")?;
        process::write_atomic(&self.path, &next.cert_pem, 0o644).context("failed to store the new certificate")?;
        self.client.send_replace(client);
        self.identity = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::credentials;
    use std::sync::Arc;

    const LIFE: Duration = Duration::from_secs(3);

    /// A server that certifies, and counts; every second time it has no time.
    fn server(authority: Arc<pki::Authority>, asked: Arc<std::sync::atomic::AtomicUsize>) -> Client {
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let (authority, asked) = (authority.clone(), asked.clone());
            async move {
                assert_eq!(request.uri().path(), "/apis/photoncloud.dev/v1alpha1/hosts/edge/certificate");
                let body = http_body_util::BodyExt::collect(request.into_body()).await.unwrap().to_bytes();
                let wanted: Renewed = serde_json::from_slice(&body).unwrap();
                if asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst) % 2 == 1 {
                    return Err(std::io::Error::from(std::io::ErrorKind::ConnectionRefused));
                }
                let (subject, usage) = credentials::of_agent("edge");
                let certificate = authority.certify_for(&wanted.request, &subject, &usage, LIFE).unwrap();
                let given = serde_json::to_vec(&Given { certificate }).unwrap();
                Ok(http::Response::new(kube::client::Body::from(given)))
            }
        });
        Client::new(service, "default")
    }

    #[tokio::test]
    async fn a_short_certificate_is_renewed_again_and_again() {
        pki::install_crypto_provider();
        let dir = tempfile::tempdir().unwrap();
        let authority = Arc::new(pki::Authority::load_or_create(&dir.path().join("pki"), "test").unwrap());
        let (key_pem, request) = pki::request().unwrap();
        let (subject, usage) = credentials::of_agent("edge");
        let cert_pem = authority.certify_for(&request, &subject, &usage, LIFE).unwrap();
        let identity = pki::Identity { cert_pem: cert_pem.clone(), key_pem: key_pem.clone() };
        let path = dir.path().join("agent-edge.crt");
        std::fs::write(&path, &cert_pem).unwrap();
        let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let (_, client) = exchangeable(server(authority.clone(), asked.clone()));
        let (exchanged, mut exchanges) = watch::channel(0);
        let shown = pki::Shown::new(&identity).unwrap();
        let renewal = Renewal { host: "edge".to_owned(), path: path.clone(), identity, shown, client };
        let shutdown = CancellationToken::new();
        let made = {
            let (authority, asked) = (authority.clone(), asked.clone());
            let made: Connect = Box::new(move |next: pki::Identity| {
                // It fits its key.
                assert!(next.key_pem == key_pem && pki::Shown::new(&next).is_ok());
                exchanged.send_modify(|count| *count += 1);
                let client = server(authority.clone(), asked.clone());
                Box::pin(async move { Ok(client) })
            });
            made
        };
        let keeping = tokio::spawn(renewal.keep(made, shutdown.clone()));
        let twice = tokio::time::timeout(Duration::from_secs(60), exchanges.wait_for(|count| *count >= 2)).await;
        twice.expect("it is renewed").unwrap();
        assert!(asked.load(std::sync::atomic::Ordering::SeqCst) >= 3, "a refusal is not the end");
        let stored = std::fs::read_to_string(&path).unwrap();
        assert_ne!(stored, cert_pem);
        assert!(pki::renew_at(&stored).is_ok());
        shutdown.cancel();
        keeping.await.unwrap();
    }
}
