//! The names of a network and of its tenant, as a guest asks for them.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use host::netns::{Namespaces, run_in};
use serde_json::{Value, json};

use crate::house::{House, key};

/// What the network's own address says to a question, none when it says nothing.
fn ask(netns: &str, name: &str, kind: RecordType) -> Option<(ResponseCode, Vec<String>)> {
    let mut message = Message::query();
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    let answer = run_in(&Namespaces::default().open(netns).unwrap(), || {
        let socket = UdpSocket::bind("10.77.0.1:0").ok()?;
        socket.set_read_timeout(Some(Duration::from_millis(500))).ok()?;
        socket.connect("10.77.0.1:53").ok()?;
        socket.send(&message.to_vec().unwrap()).ok()?;
        let mut buffer = [0; 1500];
        let length = socket.recv(&mut buffer).ok()?;
        Some(Message::from_vec(&buffer[..length]).unwrap())
    });
    let answer = answer.unwrap()?;
    Some((answer.metadata.response_code, answer.answers.iter().map(|one| one.data.to_string()).collect()))
}

fn says(netns: &str, name: &str, values: &[&str]) -> bool {
    ask(netns, name, RecordType::A).is_some_and(|(_, found)| found == values)
}

async fn create(house: &House, tenant: &str, kind: &str, name: &str, spec: Value) {
    let object =
        json!({"apiVersion": "photoncloud.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec});
    house.request_of(tenant, "POST", &format!("/{}s", kind.to_lowercase()), object).await;
}

fn web(zone: &str, values: &[&str]) -> Value {
    json!({"zone": zone, "name": "web", "type": "A", "values": values})
}

#[tokio::test(flavor = "multi_thread")]
async fn records_follow_their_objects_and_the_name_server_is_adopted_and_comes_back() {
    let mut house = House::new().await;
    create(&house, "t", "DNSZone", "shop", json!({"domain": "shop.internal"})).await;
    create(&house, "other", "DNSZone", "shop", json!({"domain": "shop.internal"})).await;
    create(&house, "other", "DNSRecordSet", "web", web("shop", &["10.77.0.99"])).await;
    house.start().await;
    house.apply_network("net", "10.77.0.0/24").await;
    house.apply_port("a", "net", "10.77.0.2", 2).await;
    let port = house.api.until("ports", &key("a"), "ready", |port| port["status"]["netns"].is_string()).await;
    let netns = port["status"]["netns"].as_str().unwrap().to_owned();

    // The guest's own names: as before alone, and in the network's domain, and back.
    house.until(|| says(&netns, "a.", &["10.77.0.2"]) && says(&netns, "a.net.internal.", &["10.77.0.2"])).await;
    let back = ask(&netns, "2.0.77.10.in-addr.arpa.", RecordType::PTR);
    assert_eq!(back, Some((ResponseCode::NoError, vec!["a.net.internal.".to_owned()])));
    let machine = json!({"metadata": {"annotations": {crds::MACHINE_ANNOTATION: "vm-of-a"}}});
    house.request_of("t", "PATCH", "/ports/a", machine).await;
    house.until(|| says(&netns, "vm-of-a.net.internal.", &["10.77.0.2"])).await;
    // The zone is the tenant's own, and the other tenant's record of that name is not in it.
    house.until(|| ask(&netns, "web.shop.internal.", RecordType::A) == Some((ResponseCode::NXDomain, vec![]))).await;

    create(&house, "t", "DNSRecordSet", "web", web("shop", &["10.77.0.7"])).await;
    house.until(|| says(&netns, "web.shop.internal.", &["10.77.0.7"])).await;
    let start = Instant::now();
    let change = json!({"spec": {"values": ["10.77.0.8"]}});
    house.request_of("t", "PATCH", "/dnsrecordsets/web", change).await;
    house.until(|| says(&netns, "web.shop.internal.", &["10.77.0.8"])).await;
    println!("a changed record was known {:?} after its write began, looked for every 20 ms", start.elapsed());

    let before = house.name_servers();
    assert_eq!(before.len(), 1);
    house.stop().await;
    assert!(says(&netns, "web.shop.internal.", &["10.77.0.8"]), "it serves without an agent");
    house.start().await;
    house.request_of("t", "DELETE", "/dnsrecordsets/web", Value::Null).await;
    house.until(|| ask(&netns, "web.shop.internal.", RecordType::A) == Some((ResponseCode::NXDomain, vec![]))).await;
    assert_eq!(house.name_servers(), before, "it was adopted");

    let id = process::ProcessId::of(before[0]).unwrap();
    id.signal(rustix::process::Signal::KILL).unwrap();
    house.until(|| !house.name_servers().contains(&before[0]) && says(&netns, "a.", &["10.77.0.2"])).await;
    let told = |event: &Value| event["note"].as_str().is_some_and(|note| note.contains("name server"));
    house.until(|| house.api.objects("events").iter().any(told)).await;

    house.delete("ports", "a").await;
    house.api.until("ports", &key("a"), "gone", Value::is_null).await;
    house.until(|| house.leftovers().is_empty()).await;
    house.stop().await;
}
