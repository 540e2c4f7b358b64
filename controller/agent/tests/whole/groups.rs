//! Groups as the agent realises them: a port is closed until its groups are there, rules and members follow the objects, and what
//! another hand does to them does not last.

use std::time::Instant;

use serde_json::{Value, json};

use crate::house::{House, key};

fn ready(port: &Value, reason: &str) -> bool {
    port["status"]["conditions"].as_array().into_iter().flatten().any(|one| one["reason"] == json!(reason))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_is_closed_until_its_groups_are_there_and_follows_them() {
    let mut one = House::new().await;
    let mut two = one.beside("host1");
    one.start().await;
    two.start().await;
    let host = one.api.objects("hosts").remove(0);
    assert_eq!(host["status"]["capabilities"]["statefulFilter"], json!(true), "{host:#}");

    one.apply_network("net", "10.77.0.0/24").await;
    one.number_network("net", 10_040).await;
    one.apply_port_in("web", "net", 2, &["web"]).await;
    let told = one.api.until("ports", &key("web"), "closed", |port| ready(port, "SecurityGroupNotFound")).await;
    let netns = one.names().cell(one.api.objects("tenantnetworks")[0]["metadata"]["uid"].as_str().unwrap());
    let listed = || one.nft(&netns, &["list", "ruleset"]);
    assert!(listed().contains("goto to_closed"), "{told:#}\n{}", listed());

    one.apply_group(
        "web",
        json!([{"direction": "Ingress", "protocol": "TCP", "port": 80, "securityGroup": "clients"}]),
    )
    .await;
    one.api.until("ports", &key("web"), "open", |port| ready(port, "Realised")).await;
    one.apply_group("clients", json!([])).await;
    // A member on the other host, one here, and one that leaves.
    two.apply_port_in("far", "net", 3, &["clients"]).await;
    one.apply_port_in("near", "net", 4, &["clients"]).await;
    one.until(|| {
        listed().contains("elements = { 10.77.0.3, 10.77.0.4 }") || listed().contains("elements = { 10.77.0.4,\n")
    })
    .await;
    assert!(!listed().contains("to_closed"));
    two.delete("ports", "far").await;
    one.until(|| !listed().contains("10.77.0.3")).await;
    one.change_group("web", json!([{"direction": "Ingress", "protocol": "UDP", "port": 53}])).await;
    one.until(|| listed().contains("udp dport 53") && !listed().contains("tcp dport 80")).await;

    let before = one.settled_writes().await;
    one.touch_port("web", "look").await;
    let mut after = one.settled_writes().await;
    after.insert("ports".into(), before["ports"]);
    assert_eq!(before, after, "a converged look wrote something");
    let begun = Instant::now();
    one.nft(&netns, &["delete", "table", "bridge", &format!("fw{}", &netns[netns.len() - 12..])]);
    one.until(|| listed().contains("udp dport 53")).await;
    println!("healed after {} ms", begun.elapsed().as_millis());
    let repaired = || one.api.objects("events").iter().any(|event| event["action"] == json!("FirewallWritten"));
    one.until(repaired).await;

    // Without a port that has groups there is nothing to enforce.
    one.delete("ports", "web").await;
    one.delete("ports", "near").await;
    one.until(|| one.leftovers().iter().all(|left| !left.contains(&netns))).await;
    one.stop().await;
    two.stop().await;
}
