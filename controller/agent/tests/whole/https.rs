//! HTTPS as reconciler, agents and HAProxy make it together: what is shown follows the Secrets, no request is lost when they change, and
//! what cannot be served is told and disturbs nobody.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use bytes::Bytes;
use host::netns::{self, Namespace};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use pki::{Authority, Identity, Subject, Usage};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::balancer::{DEADLINE, SERVICE, Services, namespace};
use crate::house::key;
use crate::overlay::Guest;

const SITE: &str = "site.example";

/// Says of every request what it is told of the client.
async fn serve(guest: &Guest, number: u8) -> AbortOnDropHandle<()> {
    let at = SocketAddr::from((Ipv4Addr::new(10, 77, 0, number), 8081));
    let listener = netns::listen_tcp(&namespace(guest).await, at).await.unwrap();
    AbortOnDropHandle::new(tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut asked = Vec::new();
                while !asked.ends_with(b"\r\n\r\n") && stream.read_buf(&mut asked).await.is_ok_and(|count| count > 0) {}
                let asked = String::from_utf8_lossy(&asked).to_lowercase();
                let told = |name: &str| {
                    asked.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("-").trim().to_owned()
                };
                let body = format!("{} {}", told("x-forwarded-proto:"), told("x-forwarded-for:"));
                let said = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                let _ = stream.write_all(said.as_bytes()).await;
            });
        }
    }))
}

/// Who asks, and whom it trusts.
#[derive(Clone)]
struct Asker {
    from: Namespace,
    trusts: Arc<rustls::RootCertStore>,
}

impl Asker {
    /// A connection to whoever proves to have that name.
    async fn connect(&self, name: &str, protocol: &[u8]) -> io::Result<TlsStream<tokio::net::TcpStream>> {
        let mut config =
            rustls::ClientConfig::builder().with_root_certificates(self.trusts.clone()).with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        let stream = netns::connect_tcp(&self.from, (SERVICE, 443).into()).await.map_err(io::Error::other)?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(protocol));
        Ok(stream)
    }

    /// What is shown to who asks for that name.
    async fn shown(&self, name: &str) -> io::Result<CertificateDer<'static>> {
        let connected = tokio::time::timeout(DEADLINE, self.connect(name, b"http/1.1")).await?;
        let stream = connected?;
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first).cloned();
        shown.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    async fn until_shown(&self, name: &str, wanted: &Identity) {
        let (wanted, begun) = (CertificateDer::from_pem_slice(wanted.cert_pem.as_bytes()).unwrap(), Instant::now());
        loop {
            let shown = self.shown(name).await;
            if shown.as_ref().is_ok_and(|shown| *shown == wanted) {
                return;
            }
            assert!(begun.elapsed() < DEADLINE, "{name} is not shown its certificate: {:?}", shown.err());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn open(&self, two: bool) -> Result<Sender, String> {
        let stream =
            self.connect(SITE, if two { b"h2" } else { b"http/1.1" }).await.map_err(|error| error.to_string())?;
        let stream = TokioIo::new(stream);
        let failed = |error: hyper::Error| format!("{error:?}");
        if two {
            let (sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.map_err(failed)?;
            tokio::spawn(connection);
            return Ok(Sender::Two(sender));
        }
        let (sender, connection) = hyper::client::conn::http1::handshake(stream).await.map_err(failed)?;
        tokio::spawn(connection);
        Ok(Sender::One(sender))
    }
}

enum Sender {
    One(hyper::client::conn::http1::SendRequest<Empty<Bytes>>),
    Two(hyper::client::conn::http2::SendRequest<Empty<Bytes>>),
}

impl Sender {
    /// Whether the connection takes another request.
    async fn is_open(&mut self) -> bool {
        match self {
            Sender::One(sender) => sender.ready().await.is_ok(),
            Sender::Two(sender) => sender.ready().await.is_ok(),
        }
    }

    /// What is answered; nothing when the connection was told to end before the request was on its way, as HTTP/2 allows at any time.
    async fn ask(&mut self) -> Result<Option<String>, String> {
        let failed = |error: hyper::Error| format!("{error:?}");
        let request = http::Request::get(format!("https://{SITE}/")).header("host", SITE).body(Empty::new()).unwrap();
        let answer = match self {
            Sender::One(sender) => sender.send_request(request).await.map_err(failed)?,
            Sender::Two(sender) => match sender.try_send_request(request).await {
                Ok(answer) => answer,
                Err(mut error) => {
                    let unsent = error.take_message().is_some();
                    return if unsent { Ok(None) } else { Err(failed(error.into_error())) };
                }
            },
        };
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(failed)?.to_bytes();
        match status.as_u16() {
            200 => Ok(Some(String::from_utf8_lossy(&body).into_owned())),
            _ => Err(status.to_string()),
        }
    }
}

/// Clients that ask without a pause: over one connection each, by HTTP/1.1 and by HTTP/2, and over one for each request.
struct Load {
    over: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    fn new(asker: &Asker) -> Load {
        let (over, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let client = |(keep, two)| tokio::spawn(ask_on(asker.clone(), keep, two, over.clone(), asked.clone()));
        let clients = [(true, false), (true, true), (false, false)].into_iter().map(client).collect();
        Load { over: over.clone(), asked: asked.clone(), clients }
    }

    /// Returns once so many more have been answered.
    async fn answered(&self, count: usize) {
        let (wanted, begun) = (self.asked.load(Ordering::Relaxed) + count, Instant::now());
        while self.asked.load(Ordering::Relaxed) < wanted {
            assert!(begun.elapsed() < DEADLINE, "requests are not answered");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn end(self) -> Vec<String> {
        self.over.store(true, Ordering::Relaxed);
        let mut failures = Vec::new();
        for client in self.clients {
            failures.extend(client.await.unwrap());
        }
        failures
    }
}

async fn ask_on(asker: Asker, keep: bool, two: bool, over: Arc<AtomicBool>, asked: Arc<AtomicUsize>) -> Vec<String> {
    let (mut failures, mut kept) = (Vec::new(), None::<Sender>);
    while !over.load(Ordering::Relaxed) && failures.len() < 10 {
        if let Some(sender) = &mut kept
            && !sender.is_open().await
        {
            kept = None;
        }
        let mut sender = match kept.take() {
            Some(sender) => sender,
            None => match asker.open(two).await {
                Ok(sender) => sender,
                Err(error) => {
                    failures.push(format!("connect (h2: {two}): {error}"));
                    continue;
                }
            },
        };
        match tokio::time::timeout(DEADLINE, sender.ask()).await {
            Ok(Ok(Some(_))) => drop(asked.fetch_add(1, Ordering::Relaxed)),
            Ok(Ok(None)) => {}
            Ok(Err(error)) => failures.push(format!("ask (h2: {two}, kept: {keep}): {error}")),
            Err(late) => failures.push(late.to_string()),
        }
        kept = Some(sender).filter(|_| keep);
    }
    failures
}

fn listener(secrets: &[&str]) -> Value {
    json!({"protocol": "HTTPS", "port": 443, "targetPort": 8081, "tls": {"secrets": secrets}})
}

fn balancer(listener: Value) -> Value {
    let backends = json!([{"selector": {"matchLabels": {"app": "web"}}, "weight": 1}]);
    json!({"serviceIP": "vip", "listeners": [listener], "backends": backends, "drainSeconds": 5})
}

async fn ask_api(services: &Services, method: &str, path: &str, body: Value) {
    let uri = format!("/api/v1/namespaces/t/secrets{path}");
    let request = http::Request::builder().method(method).uri(uri).body(body.to_string().into_bytes()).unwrap();
    services.one.api.client().request::<Value>(request).await.unwrap();
}

/// A Secret with a certificate and a key, made or replaced.
async fn put_secret(services: &Services, name: &str, cert_pem: &str, key_pem: &str) {
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": "kubernetes.io/tls",
        "data": {"tls.crt": encode(cert_pem), "tls.key": encode(key_pem)}});
    match services.one.api.objects("secrets").iter().any(|one| one["metadata"]["name"] == json!(name)) {
        true => ask_api(services, "PATCH", &format!("/{name}"), object).await,
        false => ask_api(services, "POST", "", object).await,
    }
}

/// Waits until the load balancer's condition has that reason, and says its message.
async fn told(services: &Services, name: &str, reason: &str) -> String {
    let condition = |object: &Value| object["status"]["conditions"][0].clone();
    let is_told = |object: &Value| condition(object)["reason"] == json!(reason);
    let object = services.one.api.until("loadbalancers", &key(name), reason, is_told).await;
    condition(&object)["message"].as_str().unwrap_or_default().to_owned()
}

/// One request in plain HTTP, answered.
async fn is_answered_plainly(asker: &Asker) -> bool {
    let asked = async {
        let mut stream = netns::connect_tcp(&asker.from, (SERVICE, 80).into()).await.map_err(io::Error::other)?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
        let mut said = String::new();
        stream.read_to_string(&mut said).await?;
        Ok::<_, io::Error>(said.contains(" 200 ") && said.ends_with("http 10.77.0.2"))
    };
    tokio::time::timeout(DEADLINE, asked).await.is_ok_and(|said| said.unwrap_or(false))
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_follow_their_secrets_and_no_request_is_lost_when_they_change() {
    let mut services = Services::new().await;
    let over = CancellationToken::new();
    let reconciler = tokio::spawn(reconcilers::load_balancer::run(services.one.api.client(), over.clone()));
    let _servers = [serve(&services.near, 3).await, serve(&services.far, 4).await];
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::load_or_create(dir.path(), "authority").unwrap();
    let issue = |name: &str| {
        let usage = Usage::Server { names: vec![name.to_owned()] };
        authority.issue(&Subject::new(name, Vec::<String>::new()), &usage).unwrap()
    };
    let mut trusts = rustls::RootCertStore::empty();
    trusts.add(CertificateDer::from_pem_slice(authority.cert_pem().as_bytes()).unwrap()).unwrap();
    let asker = Asker { from: services.asks.clone(), trusts: Arc::new(trusts) };

    // Nobody listens before there is something to show, and another load balancer of the network has nothing to do with it.
    services.one.apply_balancer("plain", balancer(json!({"protocol": "HTTP", "port": 80, "targetPort": 8081}))).await;
    services.one.apply_balancer("safe", balancer(listener(&["site", "other"]))).await;
    let message = told(&services, "safe", "SecretNotFound").await;
    assert!(message.starts_with("spec.listeners[0].tls.secrets[0]: Secret site does not exist"), "{message}");
    assert_eq!(told(&services, "plain", "Serving").await, "");
    let begun = Instant::now();
    while !is_answered_plainly(&asker).await {
        assert!(begun.elapsed() < DEADLINE, "plain HTTP is not answered");
    }
    assert!(asker.shown(SITE).await.is_err());

    let (mut site, other) = (issue(SITE), issue("*.other.example"));
    put_secret(&services, "site", &site.cert_pem, &site.key_pem).await;
    asker.until_shown(SITE, &site).await;
    put_secret(&services, "other", &other.cert_pem, &other.key_pem).await;
    asker.until_shown("a.other.example", &other).await;
    told(&services, "safe", "Serving").await;
    let stranger = asker.shown("stranger.example").await.unwrap_err().to_string();
    assert!(stranger.contains(SITE) && !stranger.contains("other.example"), "who asks for another name: {stranger}");
    for two in [false, true] {
        assert_eq!(asker.open(two).await.unwrap().ask().await.unwrap().unwrap(), "https 10.77.0.2");
    }

    let load = Load::new(&asker);
    for _ in 0..3 {
        load.answered(60).await;
        site = issue(SITE);
        put_secret(&services, "site", &site.cert_pem, &site.key_pem).await;
        asker.until_shown(SITE, &site).await;
    }
    // One whose key is another's is not shown; the others are.
    put_secret(&services, "other", &other.cert_pem, &site.key_pem).await;
    let message = told(&services, "safe", "KeyMismatch").await;
    assert!(message.contains("spec.listeners[0].tls.secrets[1]: Secret other"), "{message}");
    let begun = Instant::now();
    while asker.shown("a.other.example").await.is_ok() {
        assert!(begun.elapsed() < DEADLINE, "it is still shown");
    }
    asker.until_shown(SITE, &site).await;
    load.answered(60).await;
    put_secret(&services, "other", &other.cert_pem, &other.key_pem).await;
    asker.until_shown("a.other.example", &other).await;
    told(&services, "safe", "Serving").await;
    load.answered(60).await;
    assert_eq!(load.end().await, Vec::<String>::new());
    assert!(is_answered_plainly(&asker).await);

    keys_are_for_the_proxy_alone(&services, &[&site, &other]);
    // Whoever starts again reads them again and changes nothing.
    let before = services.one.proxies();
    services.one.stop().await;
    services.one.start().await;
    services.one.settled_writes().await;
    assert_eq!(services.one.proxies(), before, "it is adopted");

    ask_api(&services, "DELETE", "/site", Value::Null).await;
    ask_api(&services, "DELETE", "/other", Value::Null).await;
    told(&services, "safe", "SecretNotFound").await;
    let begun = Instant::now();
    while netns::connect_tcp(&asker.from, (SERVICE, 443).into()).await.is_ok() {
        assert!(begun.elapsed() < DEADLINE, "somebody listens with nothing to show");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(is_answered_plainly(&asker).await);
    services.one.until(|| services.one.files(".pem").is_empty() && services.two.files(".pem").is_empty()).await;
    services.one.delete("loadbalancers", "safe").await;
    services.one.delete("loadbalancers", "plain").await;
    services.one.until(|| services.one.proxies().is_empty() && services.two.proxies().is_empty()).await;
    services.one.delete("serviceips", "vip").await;
    over.cancel();
    reconciler.await.unwrap();
    services.go().await;
}

/// In files that nobody else can read, of which there are no more than there are certificates, and nowhere else.
fn keys_are_for_the_proxy_alone(services: &Services, shown: &[&Identity]) {
    let files = services.one.files(".pem");
    assert_eq!(files.len(), shown.len(), "{files:?}");
    for file in &files {
        let found = std::fs::metadata(file).unwrap();
        assert_eq!(found.mode() & 0o777, 0o600);
        let text = std::fs::read_to_string(file).unwrap();
        assert!(shown.iter().any(|one| text.contains(one.key_pem.trim())), "it is none of theirs");
    }
    let secret = |one: &Identity| one.key_pem.lines().nth(1).unwrap().to_owned();
    let said = services
        .one
        .api
        .objects("loadbalancers")
        .iter()
        .chain(&services.one.api.objects("events"))
        .map(Value::to_string)
        .collect::<String>();
    for name in ["haproxy.cfg", "started-with.json", "process.json", "log"] {
        for file in services.one.files(name) {
            let text = String::from_utf8_lossy(&std::fs::read(&file).unwrap()).into_owned();
            assert!(shown.iter().all(|one| !text.contains(&secret(one))), "{file:?} holds a key");
        }
    }
    assert!(shown.iter().all(|one| !said.contains(&secret(one))), "the API tells a key");
}
