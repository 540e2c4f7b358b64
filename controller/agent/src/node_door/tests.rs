//! Doors in namespaces of the test's own. Needs root, and fails without.

use super::admit::samples::token_of;
use super::*;
use crate::layout::Owner;
use crate::network::reach::Reach;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode, header};
use host::netns::Namespaces;
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use pki::{Authority, Subject, Usage};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

/// A namespace with two addresses, and a door into it; what comes through is counted and answered by a fake API.
struct House {
    namespaces: Namespaces,
    namespace: Namespace,
    authority: Authority,
    doors: NodeDoors,
    passed: Arc<AtomicUsize>,
    _dir: tempfile::TempDir,
}

/// The token that the fake API does not like.
const VOID: &str = "void";

impl House {
    async fn new(name: &str) -> House {
        pki::install_crypto_provider();
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::load_or_create(dir.path(), "test").unwrap();
        let names = vec!["localhost".to_owned()];
        let subject = Subject::new("system:agent:host0", ["agents"]);
        let identity = authority.issue(&subject, &Usage::Both { names }).unwrap();
        let namespaces = Namespaces::default();
        let (namespace, _) = namespaces.ensure(&format!("test-{name}-{}", std::process::id())).await.unwrap();
        let passed = Arc::new(AtomicUsize::new(0));
        let count = passed.clone();
        let api = tower::service_fn(move |request: Request<kube::client::Body>| {
            count.fetch_add(1, Ordering::SeqCst);
            let headers = request.headers().clone();
            async move {
                assert!(!headers.contains_key("impersonate-user"), "{headers:?}");
                let token = headers[header::AUTHORIZATION].to_str().unwrap().to_owned();
                let mut response = Response::new(kube::client::Body::from(token.clone().into_bytes()));
                if token.ends_with(VOID) {
                    *response.status_mut() = StatusCode::UNAUTHORIZED;
                }
                Ok::<_, std::convert::Infallible>(response)
            }
        });
        let doors = NodeDoors::new(&pki::Shown::new(&identity).unwrap(), Client::new(api, "default")).unwrap();
        House { namespaces, namespace, authority, doors, passed, _dir: dir }
    }

    fn wanted(&self, api_access: bool) -> Wanted {
        let mut wanted = crate::network::plan::wanted(
            &crate::network::plan::samples::names(),
            &crate::network::plan::samples::network(),
            &[crate::network::plan::samples::port(2)],
        )
        .unwrap();
        wanted.owner = Owner { namespace: "t".into(), name: "net".into(), uid: "u".into() };
        wanted.gateway = Ipv4Addr::LOCALHOST.into();
        wanted.ports[0].ip = Some(Ipv4Addr::new(127, 0, 0, 2));
        wanted.ports[0].name = "node01".into();
        wanted.reach = Reach::Here;
        wanted.api_access = api_access;
        wanted.netns = self.namespace.name().to_owned();
        wanted
    }

    /// To the network's own address of the family.
    async fn connect(&self, from: IpAddr) -> std::io::Result<TcpStream> {
        let to: IpAddr = if from.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        let made = netns::enter(&self.namespace, move || {
            let socket = if from.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            socket.bind((from, 0).into())?;
            Ok::<_, std::io::Error>(socket)
        });
        let socket = made.await.unwrap()?;
        socket.connect((to, PORT).into()).await
    }

    /// What a guest is answered that shows this certificate, if it is asked for one, and this token.
    async fn ask(&self, from: impl Into<IpAddr>, certificate: &str, token: Option<&str>) -> (u16, String) {
        let shown = self.authority.issue(&Subject::new(certificate, ["system:masters"]), &Usage::Client).unwrap();
        let tls = TlsConnector::from(Arc::new(pki::client_config(&shown, self.authority.cert_pem()).unwrap()));
        let stream = self.connect(from.into()).await.unwrap();
        let stream = tls.connect("localhost".try_into().unwrap(), stream).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = Request::get("/version").header("host", "x").header("impersonate-user", "admin");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let response = sender.send_request(request.body(Body::empty()).unwrap()).await.unwrap();
        let code = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (code, String::from_utf8_lossy(&body).into_owned())
    }

    fn passed(&self) -> usize {
        self.passed.load(Ordering::SeqCst)
    }

    async fn end(self) {
        self.doors.close(self.namespace.name());
        self.namespaces.delete(self.namespace.name()).await.unwrap();
    }
}

const NODE: [u8; 4] = [127, 0, 0, 2];
const NEIGHBOUR: [u8; 4] = [127, 0, 0, 3];

#[tokio::test(flavor = "multi_thread")]
async fn only_the_node_itself_passes() {
    let house = House::new("node-door").await;
    let opened = house.doors.ensure(&house.namespace, &house.wanted(true)).await.unwrap();
    assert!(opened.is_some_and(|change| change.message.contains("127.0.0.1:6443")));
    let own = token_of("system:node:t:node01");
    assert_eq!(house.ask(NODE, "anybody", Some(&own)).await, (200, format!("Bearer {own}")));
    assert_eq!(house.passed(), 1);
    for (what, from, certificate, token, code) in [
        ("an administrator's certificate", NODE, "admin", None, 401),
        ("an agent's certificate", NODE, "system:agent:host0", None, 401),
        ("another kind's token", NODE, "x", Some("system:serviceaccount:t:robot"), 403),
        ("another node's token", NODE, "x", Some("system:node:t:node02"), 403),
        ("another tenant's node", NODE, "x", Some("system:node:other:node01"), 403),
        ("the token, carried off", NEIGHBOUR, "x", Some("system:node:t:node01"), 403),
    ] {
        let (found, _) = house.ask(from, certificate, token.map(token_of).as_deref()).await;
        assert_eq!(found, code, "{what}");
    }
    assert_eq!(house.passed(), 1, "somebody got through");
    house.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_network_of_ipv6_alone_a_node_is_known_by_that() {
    let house = House::new("node-door6").await;
    let mut wanted = house.wanted(true);
    wanted.gateway = Ipv6Addr::LOCALHOST.into();
    (wanted.ports[0].ip, wanted.ports[0].six) = (None, Some(Ipv6Addr::LOCALHOST));
    let opened = house.doors.ensure(&house.namespace, &wanted).await.unwrap();
    assert!(opened.is_some_and(|change| change.message.contains("[::1]:6443")));
    let own = token_of("system:node:t:node01");
    assert_eq!(house.ask(Ipv6Addr::LOCALHOST, "anybody", Some(&own)).await, (200, format!("Bearer {own}")));
    wanted.ports[0].six = "fd00::7".parse().ok();
    assert_eq!(house.doors.ensure(&house.namespace, &wanted).await.unwrap(), None);
    assert_eq!(house.ask(Ipv6Addr::LOCALHOST, "anybody", Some(&own)).await.0, 403, "another has the address");
    assert_eq!(house.passed(), 1);
    house.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_the_api_refuses_is_not_carried_there_again_at_once() {
    let house = House::new("node-void").await;
    house.doors.ensure(&house.namespace, &house.wanted(true)).await.unwrap();
    let void = format!("{}{VOID}", token_of("system:node:t:node01"));
    for _ in 0..20 {
        assert_eq!(house.ask(NODE, "x", Some(&void)).await.0, 401);
    }
    assert!(house.passed() < 10, "{} guesses were carried", house.passed());
    house.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_does_not_ask_for_it_has_nothing_to_connect_to() {
    let house = House::new("node-none").await;
    let refused = |error: std::io::Error| error.kind() == std::io::ErrorKind::ConnectionRefused;
    assert_eq!(house.doors.ensure(&house.namespace, &house.wanted(false)).await.unwrap(), None);
    assert!(house.connect(NODE.into()).await.is_err_and(refused));
    house.doors.ensure(&house.namespace, &house.wanted(true)).await.unwrap();
    assert_eq!(house.doors.ensure(&house.namespace, &house.wanted(true)).await.unwrap(), None, "it stands");
    house.connect(NODE.into()).await.unwrap();
    assert!(house.doors.ensure(&house.namespace, &house.wanted(false)).await.unwrap().is_some());
    // The listener goes when its task does, which is soon.
    let closed = async {
        while house.connect(NODE.into()).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), closed).await.expect("it closes");
    house.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_is_told_with_its_holder() {
    let house = House::new("node-taken").await;
    let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT);
    let other = netns::listen_tcp(&house.namespace, address).await.unwrap();
    let error = house.doors.ensure(&house.namespace, &house.wanted(true)).await.unwrap_err();
    let said = control_loop::sentence(&error);
    let us = format!("(process {})", std::process::id());
    assert!(said.starts_with("127.0.0.1:6443 in the network's namespace is taken by ") && said.contains(&us), "{said}");
    assert_eq!(error.category(), "AddressInUse");
    drop(other);
    assert!(house.doors.ensure(&house.namespace, &house.wanted(true)).await.unwrap().is_some());
    house.end().await;
}
