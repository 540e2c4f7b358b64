//! Services as the agents realise them: connections are shared out over two hosts, a backend that does not answer is out until it does,
//! and what another hand does does not last.

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

const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 50);
const DEADLINE: Duration = Duration::from_secs(30);

async fn namespace(guest: &Guest) -> Namespace {
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

/// A new connection and who answers it.
async fn connect(client: &Namespace) -> io::Result<(TcpStream, u8)> {
    let connected = tokio::time::timeout(DEADLINE, netns::connect_tcp(client, (SERVICE, 80).into())).await?;
    let mut stream = connected.map_err(|_| io::ErrorKind::ConnectionRefused)?;
    let number = hear(&mut stream).await?;
    Ok((stream, number))
}

async fn hear(stream: &mut TcpStream) -> io::Result<u8> {
    let mut word = [0];
    tokio::time::timeout(DEADLINE, stream.read_exact(&mut word)).await??;
    Ok(word[0])
}

/// Waits until exactly these answer: as many connections in a row as twice as many go round.
async fn until_answered_by(client: &Namespace, numbers: &[u8]) {
    let (wanted, begun) = (BTreeSet::from_iter(numbers.iter().copied()), Instant::now());
    loop {
        let mut heard = BTreeSet::new();
        for _ in 0..numbers.len() * 2 {
            heard.extend(connect(client).await.map(|(_, number)| number));
        }
        if heard == wanted {
            return;
        }
        assert!(begun.elapsed() < DEADLINE, "{heard:?} answer, not {wanted:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn balancer() -> Value {
    json!({
        "serviceIP": "vip", "listeners": [{"protocol": "TCP", "port": 80, "targetPort": 8080}],
        "backends": [{"selector": {"matchLabels": {"app": "web"}}, "weight": 1}], "drainSeconds": 1,
        "healthCheck": {"type": "TCP", "intervalSeconds": 1, "timeoutSeconds": 1, "healthyThreshold": 1, "unhealthyThreshold": 2},
    })
}

fn healthy(port: &Value, is: bool) -> bool {
    port["status"]["backendHealth"] == json!([{"loadBalancer": "web", "healthy": is}])
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_go_to_who_answers_on_either_host_and_nothing_stays_behind() {
    let mut one = House::new().await;
    let mut two = one.beside("host1");
    one.start().await;
    two.start().await;
    one.apply_network("net", "10.77.0.0/24").await;
    one.number_network("net", 10_060).await;
    let client = Guest::new(&one, "client", 2).await;
    let (near, far) = (Guest::new(&one, "near", 3).await, Guest::new(&two, "far", 4).await);
    let (_near, served) = (serve(&near, 3).await, serve(&far, 4).await);
    one.apply_service("vip", "net", &SERVICE.to_string()).await;
    one.label_port("near", json!({"app": "web"})).await;
    one.label_port("far", json!({"app": "web"})).await;
    one.apply_balancer("web", balancer()).await;
    let asks = namespace(&client).await;
    until_answered_by(&asks, &[3, 4]).await;
    one.until(|| client.resolves("vip") && client.resolves("web.net.internal")).await;

    let begun = Instant::now();
    drop(served);
    one.api.until("ports", &key("far"), "out", |port| healthy(port, false)).await;
    until_answered_by(&asks, &[3]).await;
    println!("a dead backend was out after {} ms, at an interval of 1000 ms", begun.elapsed().as_millis());
    let served = serve(&far, 4).await;
    until_answered_by(&asks, &[3, 4]).await;

    let before = one.settled_writes().await;
    one.touch_port("client", "look").await;
    let mut after = one.settled_writes().await;
    after.insert("ports".into(), before["ports"]);
    assert_eq!(before, after, "a converged look wrote something");
    let table = format!("lb{}", &client.netns[client.netns.len() - 12..]);
    one.nft(&client.netns, &["delete", "table", "inet", &table]);
    until_answered_by(&asks, &[3, 4]).await;
    let repaired = || one.api.objects("events").iter().any(|event| event["action"] == json!("BalancerWritten"));
    one.until(repaired).await;

    // One that is taken out is left its connections for a second.
    let mut old = loop {
        let (stream, number) = connect(&asks).await.unwrap();
        if number == 3 {
            break stream;
        }
    };
    one.label_port("near", json!({"app": null})).await;
    until_answered_by(&asks, &[4]).await;
    let ended = tokio::time::timeout(DEADLINE, async {
        while old.write_all(b"x").await.is_ok() && old.read_exact(&mut [0]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    ended.await.expect("a connection outlives its time");

    one.delete("loadbalancers", "web").await;
    one.until(|| !one.nft(&client.netns, &["list", "tables"]).contains(&table)).await;
    assert!(connect(&asks).await.is_err());
    one.delete("serviceips", "vip").await;
    let bridge = one.bridge(&client.netns);
    one.until(|| !one.ip(&client.netns, &["address", "show", "dev", &bridge]).contains("10.77.0.50")).await;
    drop((served, near, far, client));
    for (house, port) in [(&one, "client"), (&one, "near"), (&two, "far")] {
        house.delete("ports", port).await;
    }
    one.until(|| one.leftovers().is_empty() && two.leftovers().is_empty()).await;
    one.stop().await;
    two.stop().await;
}
