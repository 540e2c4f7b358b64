//! Services as the agents realise them: connections are shared out over two hosts, a backend that does not answer is out until it does,
//! one that is taken out keeps its connections for its time, and what another hand does does not last.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use host::netns::{self, Namespace, Namespaces};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use crate::house::{House, key};
use crate::overlay::Guest;

pub const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 50);
pub const DEADLINE: Duration = Duration::from_secs(60);

pub async fn namespace(guest: &Guest) -> Namespace {
    Namespaces::default().ensure(&guest.name).await.unwrap().0
}

/// Says its number to whoever connects and to each byte, until it is dropped.
async fn serve(guest: &Guest, number: u8) -> AbortOnDropHandle<()> {
    let at = SocketAddr::from((Ipv4Addr::new(10, 77, 0, number), 8080));
    let listener = netns::listen_tcp(&namespace(guest).await, at).await.unwrap();
    AbortOnDropHandle::new(tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                while stream.write_all(&[number]).await.is_ok() && stream.read_exact(&mut [0]).await.is_ok() {}
            });
        }
    }))
}

/// A new connection to one of the service's ports, and who answers it.
async fn connect(client: &Namespace, port: u16) -> io::Result<(TcpStream, u8)> {
    let connected = tokio::time::timeout(DEADLINE, netns::connect_tcp(client, (SERVICE, port).into())).await?;
    let mut stream = connected.map_err(|_| io::ErrorKind::ConnectionRefused)?;
    let number = hear(&mut stream).await?;
    Ok((stream, number))
}

/// A new connection that this one answers.
async fn connect_to(client: &Namespace, port: u16, wanted: u8) -> TcpStream {
    loop {
        let (stream, number) = connect(client, port).await.unwrap();
        if number == wanted {
            return stream;
        }
    }
}

async fn hear(stream: &mut TcpStream) -> io::Result<u8> {
    let mut word = [0];
    tokio::time::timeout(DEADLINE, stream.read_exact(&mut word)).await??;
    Ok(word[0])
}

/// That the connection is reset, though the client says nothing.
async fn is_reset(stream: &mut TcpStream) {
    let ended = hear(stream).await.unwrap_err();
    assert_eq!(ended.kind(), io::ErrorKind::ConnectionReset, "{ended}");
}

/// Waits until exactly these answer: as many connections in a row as twice as many go round.
async fn until_answered_by(client: &Namespace, port: u16, numbers: &[u8]) {
    let (wanted, begun) = (BTreeSet::from_iter(numbers.iter().copied()), Instant::now());
    loop {
        let mut heard = BTreeSet::new();
        for _ in 0..numbers.len() * 2 {
            // One that is not answered counts as one that somebody else answered.
            heard.insert(connect(client, port).await.map_or(0, |(_, number)| number));
        }
        if heard == wanted {
            return;
        }
        assert!(begun.elapsed() < DEADLINE, "{heard:?} answer at port {port}, not {wanted:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until nobody answers any more.
async fn until_refused(client: &Namespace, port: u16) {
    let begun = Instant::now();
    while connect(client, port).await.is_ok() {
        assert!(begun.elapsed() < DEADLINE, "port {port} still answers");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn balancer(port: u16, drain: u32, check: Option<Value>) -> Value {
    let mut spec = json!({
        "serviceIP": "vip", "listeners": [{"protocol": "TCP", "port": port, "targetPort": 8080}],
        "backends": [{"selector": {"matchLabels": {"app": "web"}}, "weight": 1}], "drainSeconds": drain,
    });
    if let Some(check) = check {
        spec["healthCheck"] = check;
    }
    spec
}

/// What the port's host has told of its health, one after the other.
fn told(house: &House, port: &str) -> Vec<bool> {
    let history = house.api.history("ports", &key(port));
    let mut told: Vec<bool> =
        history.iter().filter_map(|port| port["status"]["backendHealth"][0]["healthy"].as_bool()).collect();
    told.dedup();
    told
}

/// Two hosts of one network, a client on the first, and a server on each: number 3 beside the client, number 4 on the other.
pub struct Services {
    pub one: House,
    pub two: House,
    pub client: Guest,
    pub near: Guest,
    pub far: Guest,
    pub asks: Namespace,
    servers: Vec<AbortOnDropHandle<()>>,
}

impl Services {
    pub async fn new() -> Services {
        let mut one = House::new().await;
        let mut two = one.beside("host1");
        one.start().await;
        two.start().await;
        one.apply_network("net", "10.77.0.0/24").await;
        one.number_network("net", 10_060).await;
        let client = Guest::new(&one, "client", 2).await;
        let (near, far) = (Guest::new(&one, "near", 3).await, Guest::new(&two, "far", 4).await);
        let servers = vec![serve(&near, 3).await, serve(&far, 4).await];
        one.apply_service("vip", "net", &SERVICE.to_string()).await;
        for port in ["near", "far"] {
            one.label_port(port, json!({"app": "web"})).await;
        }
        let asks = namespace(&client).await;
        Services { one, two, client, near, far, asks, servers }
    }

    async fn a_dead_backend_is_out_until_it_answers(&mut self) {
        drop(self.servers.pop());
        until_answered_by(&self.asks, 80, &[3]).await;
        self.servers.push(serve(&self.far, 4).await);
        until_answered_by(&self.asks, 80, &[3, 4]).await;
        let told = told(&self.one, "far");
        assert!(told.ends_with(&[true, false, true]), "{told:?}");
    }

    async fn nothing_is_written_when_all_is_well_and_another_hand_is_undone(&self, table: &str) {
        let before = self.one.settled_writes().await;
        self.one.touch_port("client", "look").await;
        let mut after = self.one.settled_writes().await;
        assert_eq!(after.insert("ports".into(), before["ports"]), Some(before["ports"] + 1));
        assert_eq!(before, after, "a converged look wrote something");
        self.one.nft(&self.client.netns, &["delete", "table", "inet", table]);
        until_answered_by(&self.asks, 80, &[3, 4]).await;
        let repaired =
            || self.one.api.objects("events").iter().any(|event| event["action"] == json!("BalancerWritten"));
        self.one.until(repaired).await;
    }

    /// Of two load balancers with the same backends one lets connections go on for an hour and one for a second: when the second's
    /// have been cut, the first's go on.
    async fn a_backend_that_is_taken_out_keeps_its_connections_for_its_time(&self) -> TcpStream {
        let (mut kept, mut cut) = (connect_to(&self.asks, 80, 3).await, connect_to(&self.asks, 81, 3).await);
        self.one.label_port("near", json!({"app": null})).await;
        for port in [80, 81] {
            until_answered_by(&self.asks, port, &[4]).await;
        }
        is_reset(&mut cut).await;
        kept.write_all(b"x").await.unwrap();
        assert_eq!(hear(&mut kept).await.unwrap(), 3, "it is not cut before its time");
        assert_eq!(connect(&self.asks, 80).await.unwrap().1, 4, "nothing new comes to it");
        kept
    }

    pub async fn go(self) {
        let Services { mut one, mut two, .. } = self;
        drop((self.servers, self.near, self.far, self.client));
        for (house, port) in [(&one, "client"), (&one, "near"), (&two, "far")] {
            house.delete("ports", port).await;
        }
        one.until(|| one.leftovers().is_empty()).await;
        two.until(|| two.leftovers().is_empty()).await;
        one.stop().await;
        two.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_go_to_who_answers_on_either_host_and_nothing_stays_behind() {
    let mut services = Services::new().await;
    // Three in a row, or a machine that stands still for a second takes a backend out.
    let check = json!({
        "type": "TCP", "intervalSeconds": 1, "timeoutSeconds": 1, "healthyThreshold": 1, "unhealthyThreshold": 3,
    });
    services.one.apply_balancer("web", balancer(80, 3600, Some(check))).await;
    services.one.apply_balancer("brief", balancer(81, 1, None)).await;
    until_answered_by(&services.asks, 80, &[3, 4]).await;
    let names = ["vip", "web.net.internal", "brief"];
    services.one.until(|| names.iter().all(|name| services.client.resolves(name))).await;
    services.a_dead_backend_is_out_until_it_answers().await;
    let table = format!("lb{}", &services.client.netns[services.client.netns.len() - 12..]);
    services.nothing_is_written_when_all_is_well_and_another_hand_is_undone(&table).await;
    let mut kept = services.a_backend_that_is_taken_out_keeps_its_connections_for_its_time().await;

    let (one, netns) = (&services.one, &services.client.netns);
    one.delete("loadbalancers", "brief").await;
    until_refused(&services.asks, 81).await;
    one.delete("loadbalancers", "web").await;
    is_reset(&mut kept).await;
    one.until(|| !one.nft(netns, &["list", "tables"]).contains(&table)).await;
    assert!(connect(&services.asks, 80).await.is_err());
    one.delete("serviceips", "vip").await;
    let bridge = one.bridge(netns);
    one.until(|| !one.ip(netns, &["address", "show", "dev", &bridge]).contains("10.77.0.50")).await;
    services.go().await;
}

/// What is answered to one request, whole.
async fn request(client: &Namespace, path: &str) -> io::Result<String> {
    let connected = tokio::time::timeout(DEADLINE, netns::connect_tcp(client, (SERVICE, 80).into())).await?;
    let mut stream = connected.map_err(|_| io::ErrorKind::ConnectionRefused)?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await?;
    let mut said = String::new();
    tokio::time::timeout(DEADLINE, stream.read_to_string(&mut said)).await??;
    Ok(said)
}

/// Answers requests with its number.
async fn serve_http(guest: &Guest, number: u8) -> AbortOnDropHandle<()> {
    let at = SocketAddr::from((Ipv4Addr::new(10, 77, 0, number), 8081));
    let listener = netns::listen_tcp(&namespace(guest).await, at).await.unwrap();
    AbortOnDropHandle::new(tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut asked = Vec::new();
                while !asked.ends_with(b"\r\n\r\n") && stream.read_buf(&mut asked).await.is_ok_and(|count| count > 0) {}
                let said = format!("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n{number}");
                let _ = stream.write_all(said.as_bytes()).await;
            });
        }
    }))
}

async fn until_requests_are_answered_by(client: &Namespace, path: &str, number: u8) {
    let begun = Instant::now();
    loop {
        let said = request(client, path).await;
        if said.as_ref().is_ok_and(|said| said.ends_with(&format!("\r\n\r\n{number}"))) {
            return;
        }
        assert!(begun.elapsed() < DEADLINE, "{path}: {said:?}, not {number}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn one_proxy(house: &House) -> process::ProcessId {
    house.until(|| house.proxies().len() == 1).await;
    process::ProcessId::of(house.proxies()[0]).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_go_by_their_routes_and_the_proxy_is_adopted_repaired_and_goes_with_the_last() {
    let mut services = Services::new().await;
    let _servers = [serve_http(&services.near, 3).await, serve_http(&services.far, 4).await];
    services.one.label_port("far", json!({"app": "api"})).await;
    let api = json!([{"matches": [{"path": {"value": "/api"}}], "backends": [{"selector": {"matchLabels": {"app": "api"}},
        "weight": 1}]}]);
    let mut spec = balancer(80, 1, None);
    spec["listeners"][0] = json!({"protocol": "HTTP", "port": 80, "targetPort": 8081});
    spec["routes"] = api;
    services.one.apply_balancer("web", spec).await;
    until_requests_are_answered_by(&services.asks, "/", 3).await;
    until_requests_are_answered_by(&services.asks, "/api/x", 4).await;

    let before = one_proxy(&services.one).await;
    services.one.stop().await;
    services.one.start().await;
    services.one.settled_writes().await;
    assert_eq!(one_proxy(&services.one).await, before, "it is adopted");
    let repaired = || services.one.api.objects("events").iter().any(|event| event["action"] == json!("ProxyStarted"));
    let (mut proxy, begun) = (before, Instant::now());
    while !repaired() {
        assert!(begun.elapsed() < DEADLINE, "it was never told");
        proxy.signal(rustix::process::Signal::KILL).unwrap();
        proxy.exited().await;
        until_requests_are_answered_by(&services.asks, "/", 3).await;
        // What an agent sets right with its first look it tells nobody; the next time it does.
        let _ = tokio::time::timeout(Duration::from_secs(2), services.one.until(repaired)).await;
        proxy = one_proxy(&services.one).await;
    }

    // What a route has no backend for is said so, and the rest goes on.
    services.one.label_port("far", json!({"app": null})).await;
    let begun = Instant::now();
    while !request(&services.asks, "/api").await.is_ok_and(|said| said.contains(" 503 ")) {
        assert!(begun.elapsed() < DEADLINE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    until_requests_are_answered_by(&services.asks, "/", 3).await;
    services.one.delete("loadbalancers", "web").await;
    services.one.until(|| services.one.proxies().is_empty() && services.two.proxies().is_empty()).await;
    assert!(request(&services.asks, "/").await.is_err());
    services.one.delete("serviceips", "vip").await;
    services.go().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_cannot_listen_is_told_of_its_network_and_load_balancers_and_comes_right() {
    let services = Services::new().await;
    let _servers = [serve_http(&services.near, 3).await, serve_http(&services.far, 4).await];
    // Somebody else has the port, in the network's own namespace.
    let (netns, _) = Namespaces::default().ensure(&services.client.netns).await.unwrap();
    let holder = netns::listen_tcp(&netns, (Ipv4Addr::UNSPECIFIED, 80).into()).await.unwrap();
    let mut spec = balancer(80, 1, None);
    spec["listeners"][0] = json!({"protocol": "HTTP", "port": 80, "targetPort": 8081});
    services.one.apply_balancer("web", spec).await;
    services.one.apply_balancer("other", balancer(81, 1, None)).await;
    let told = |kind: &str, name: &str| {
        let events = services.one.api.objects("events");
        let about =
            |event: &Value| (event["regarding"]["kind"] == json!(kind)) && event["regarding"]["name"] == json!(name);
        events.iter().any(|event| event["reason"] == json!("ProxyFailed") && about(event))
    };
    services.one.until(|| told("TenantNetwork", "net") && told("LoadBalancer", "web")).await;
    assert!(!told("LoadBalancer", "other"), "it has nothing to do with requests");
    until_answered_by(&services.asks, 81, &[3, 4]).await;
    drop(holder);
    until_requests_are_answered_by(&services.asks, "/", 3).await;
    for name in ["web", "other"] {
        services.one.delete("loadbalancers", name).await;
    }
    services.one.delete("serviceips", "vip").await;
    services.go().await;
}
