//! The API on a socket: certificates, protocols, upgrades, shutdown.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use pki::{Authority, Subject, Usage};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::lab::{Lab, SOON, WIDGETS};

pub struct Served {
    pub address: SocketAddr,
    pub authority: Authority,
    stop: oneshot::Sender<()>,
    done: tokio::task::JoinHandle<()>,
}

pub async fn serve(lab: &Lab, dir: &std::path::Path) -> Result<Served> {
    pki::install_crypto_provider();
    let authority = Authority::load_or_create(dir, "test")?;
    let names = vec!["127.0.0.1".to_owned()];
    let subject = Subject { common_name: "server".to_owned(), organizations: vec![] };
    let server = authority.issue(&subject, &Usage::Server { names })?;
    let config = pki::optional_server_config(&server, authority.cert_pem())?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let api = lab.api.clone();
    let done = tokio::spawn(async move {
        api.serve(listener, config, async {
            // A dropped sender ends the server too.
            let _ = stopped.await;
        })
        .await;
    });
    Ok(Served { address, authority, stop, done })
}

impl Served {
    pub async fn connect(&self, authority: &Authority, alpn: &str) -> Result<TlsStream<TcpStream>> {
        let subject = Subject { common_name: "jane".to_owned(), organizations: vec!["tenants".to_owned()] };
        let identity = authority.issue(&subject, &Usage::Client)?;
        let mut config = pki::client_config(&identity, self.authority.cert_pem())?;
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        let stream = TcpStream::connect(self.address).await?;
        Ok(TlsConnector::from(Arc::new(config)).connect("127.0.0.1".try_into()?, stream).await?)
    }

    /// A connection on which the client shows no certificate.
    pub async fn connect_bare(&self, from: std::net::IpAddr) -> Result<TlsStream<TcpStream>> {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(self.authority.cert_pem().as_bytes()) {
            roots.add(certificate?)?;
        }
        let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let socket = TcpSocket::new_v4()?;
        socket.bind((from, 0).into())?;
        let stream = socket.connect(self.address).await?;
        Ok(TlsConnector::from(Arc::new(config)).connect("127.0.0.1".try_into()?, stream).await?)
    }

    pub async fn stop(self) -> Result<()> {
        drop(self.stop);
        Ok(tokio::time::timeout(SOON, self.done).await??)
    }
}

/// Lets the group of the connecting user do everything.
pub async fn let_in(lab: &Lab) -> Result<()> {
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "tenants"},
        "roleRef": {"kind": "ClusterRole", "name": "cluster-admin"}, "subjects": [{"kind": "Group", "name": "tenants"}],
    });
    let path = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    lab.call("POST", path, &binding).await?.expect(201).map(drop)
}

async fn whoami(served: &Served, alpn: &str) -> Result<Value> {
    let io = TokioIo::new(served.connect(&served.authority, alpn).await?);
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}).to_string();
    let request = Request::post(format!("https://{}/apis/authentication.k8s.io/v1/selfsubjectreviews", served.address))
        .header("content-type", "application/json")
        .header("host", "127.0.0.1")
        .body(Body::from(review))?;
    let response = if alpn == "h2" {
        let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await?;
        tokio::spawn(connection);
        sender.send_request(request).await?
    } else {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
        tokio::spawn(connection);
        sender.send_request(request).await?
    };
    ensure!(response.status() == 201, "{}", response.status());
    Ok(serde_json::from_slice(&response.into_body().collect().await?.to_bytes())?)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_says_who_is_calling() -> Result<()> {
    let lab = Lab::new().await?;
    let dir = tempfile::tempdir()?;
    let served = serve(&lab, dir.path()).await?;
    for alpn in ["http/1.1", "h2"] {
        let me = whoami(&served, alpn).await?;
        assert_eq!(me["status"]["userInfo"]["username"], "jane", "{alpn}");
        assert_eq!(me["status"]["userInfo"]["groups"], json!(["tenants", "system:authenticated"]));
    }
    let strangers = tempfile::tempdir()?;
    let stranger = Authority::load_or_create(strangers.path(), "stranger")?;
    let refused = async {
        let mut stream = served.connect(&stranger, "http/1.1").await?;
        stream.write_all(b"GET /version HTTP/1.1\r\nhost: x\r\n\r\n").await?;
        let mut byte = [0];
        ensure!(stream.read(&mut byte).await? == 0, "a stranger was answered");
        Ok::<_, anyhow::Error>(())
    };
    if let Ok(()) = refused.await {
        // The server closed without a word: refused as well.
    }
    served.stop().await?;
    lab.end().await
}

async fn echo(request: Request<Body>) -> Response {
    let target = request.extensions().get::<apiserver::ConnectTarget>().cloned();
    let name = target.map(|t| t.name).unwrap_or_default();
    let mut request = request;
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let mut stream = TokioIo::new(upgraded);
        let mut word = [0; 5];
        if stream.read_exact(&mut word).await.is_ok() {
            let _ = stream.write_all(format!("{name}:").as_bytes()).await;
            let _ = stream.write_all(&word).await;
            let _ = stream.shutdown().await;
        }
    });
    let headers = [("connection", "upgrade"), ("upgrade", "photon-stream")];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

#[tokio::test(flavor = "multi_thread")]
async fn upgrades_pass_through_connect_subresources() -> Result<()> {
    let lab = Lab::new().await?;
    let dir = tempfile::tempdir()?;
    lab.widget("a", json!({})).await?;
    let_in(&lab).await?;
    lab.api.connect("example.dev", "widgets", "console", tower::service_fn(|r| async { Ok(echo(r).await) }));
    let served = serve(&lab, dir.path()).await?;
    let mut stream = served.connect(&served.authority, "http/1.1").await?;
    let request =
        format!("GET {WIDGETS}/a/console HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: photon-stream\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await?);
    }
    ensure!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    stream.write_all(b"hello").await?;
    let mut echoed = Vec::new();
    tokio::time::timeout(SOON, stream.read_to_end(&mut echoed)).await??;
    assert_eq!(echoed, b"a:hello");
    lab.get(&format!("{WIDGETS}/zz/console")).await?.expect(404)?;
    let list = lab.until("/apis/example.dev/v1", |list| list.to_string().contains("widgets/console")).await;
    list.context("discovery never named the subresource")?;
    served.stop().await?;
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closing_server_ends_its_watches() -> Result<()> {
    let lab = Lab::new().await?;
    let dir = tempfile::tempdir()?;
    let_in(&lab).await?;
    let served = serve(&lab, dir.path()).await?;
    let mut stream = served.connect(&served.authority, "http/1.1").await?;
    let request = format!("GET {WIDGETS}?watch=1 HTTP/1.1\r\nhost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut head = [0; 12];
    stream.read_exact(&mut head).await?;
    assert_eq!(&head, b"HTTP/1.1 200");
    served.stop().await?;
    let mut rest = Vec::new();
    tokio::time::timeout(SOON, stream.read_to_end(&mut rest)).await??;
    assert!(rest.ends_with(b"0\r\n\r\n"), "{}", String::from_utf8_lossy(&rest));
    lab.end().await
}
