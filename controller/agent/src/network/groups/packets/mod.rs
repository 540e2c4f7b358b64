//! What the objects are derived to allow, against what packets really do: TCP, UDP and ICMP between guests on two hosts, with
//! random groups, both what must come through and what must not. Needs root, and fails without.
//!
//! `SEED=…` repeats the groups and rules that were printed. What must come through has a long deadline, what must not is given
//! a short while: so a slow machine can hide a hole, but never make one up.

mod lab;

use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use crds::{Port, SecurityGroup};
use futures::future::join_all;
use host::netns::{self, Namespace};
use kube::ResourceExt;
use reachability::{Conversation, Endpoint, Objects, World};
use serde_json::{Value, json};

use super::super::plan::samples;
use lab::{Lab, Random};

/// How long anything that must come through may take.
const DEADLINE: Duration = Duration::from_secs(30);
/// How long is waited for what must not.
const NEVER: Duration = Duration::from_millis(400);
/// Sets of groups that are tried.
const ROUNDS: usize = 6;
/// Guests by the last number of their address, and the host of each.
const GUESTS: [(u8, &str); 5] = [(2, "host0"), (3, "host0"), (4, "host0"), (5, "host1"), (6, "host1")];
/// TCP ports that are tried; nobody listens on the last one, which its guest says.
const TCP: [u16; 3] = [80, 81, 82];
/// UDP ports that are tried.
const UDP: [u16; 2] = [53, 54];

/// One try and what was derived of it.
struct Expected {
    from: u8,
    to: u8,
    what: Conversation,
    open: bool,
    why: String,
}

fn address(number: u8) -> Ipv4Addr {
    [10, 9, 0, number].into()
}

fn group(name: &str, rules: &Value) -> SecurityGroup {
    let spec = serde_json::from_value(json!({ "rules": rules })).unwrap();
    let mut group = SecurityGroup::new(name, spec);
    group.metadata.uid = Some(format!("uid-of-{name}"));
    group.metadata.namespace = Some("t".into());
    group
}

fn port(number: u8, host: &str, groups: &[String], further: Option<u8>) -> Port {
    let mut port = (*samples::port(number)).clone();
    port.spec.host = Some(host.to_owned());
    port.spec.security_groups = groups.to_vec();
    port.spec.allowed_addresses = further.map(|last| address(last).to_string()).into_iter().collect();
    port
}

fn random_rule(random: &mut Random) -> Value {
    let mut rule = json!({"direction": *random.of(&["Ingress", "Ingress", "Egress"])});
    let protocol = *random.of(&["Any", "TCP", "TCP", "TCP", "UDP", "UDP", "ICMP", "1", "6", "17", "47"]);
    rule["protocol"] = json!(protocol);
    match (protocol, random.below(3)) {
        ("TCP", 0) => rule["port"] = json!(*random.of(&TCP)),
        ("UDP", 0) => rule["port"] = json!(*random.of(&UDP)),
        ("TCP", 1) => (rule["port"], rule["endPort"]) = (json!(70), json!(80 + random.below(3))),
        ("UDP", 1) => (rule["port"], rule["endPort"]) = (json!(54), json!(60)),
        ("ICMP", 0) => rule["icmpType"] = json!(8),
        ("ICMP", 1) => (rule["icmpType"], rule["icmpCode"]) = (json!(8), json!(random.below(2))),
        _ => {}
    }
    match random.below(4) {
        0 => {
            rule["cidr"] = json!(*random.of(&["10.9.0.2/31", "10.9.0.4/30", "10.9.0.6/32", "0.0.0.0/0", "10.8.0.0/16"]))
        }
        1 | 2 => rule["securityGroup"] = json!(*random.of(&["a", "b", "c", "nobody"])),
        _ => {}
    }
    rule
}

/// The first round has what every later one may lack: an open port, a closed one, a rule that decides and one that does not.
fn known() -> (Vec<SecurityGroup>, Vec<Port>) {
    let web = json!([
        {"direction": "Ingress", "protocol": "TCP", "port": 80, "securityGroup": "b"},
        {"direction": "Ingress", "protocol": "UDP", "port": 53, "cidr": "10.9.0.2/31"},
        {"direction": "Ingress", "protocol": "ICMP", "icmpType": 8, "securityGroup": "b"},
    ]);
    let jail = json!([{"direction": "Egress", "protocol": "TCP", "cidr": "10.9.0.4/32"}]);
    let named: [&[&str]; 5] = [&[], &["b"], &["a"], &["b", "c"], &["missing"]];
    let ports = GUESTS.iter().zip(named).map(|((number, host), groups)| {
        port(*number, host, &groups.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>(), None)
    });
    (vec![group("a", &web), group("b", &json!([])), group("c", &jail)], ports.collect())
}

fn random_objects(random: &mut Random) -> (Vec<SecurityGroup>, Vec<Port>) {
    let mut groups = Vec::new();
    for name in ["a", "b", "c"] {
        let rules: Vec<Value> = (0..random.below(5)).map(|_| random_rule(random)).collect();
        groups.push(group(name, &json!(rules)));
    }
    let ports = GUESTS.iter().map(|(number, host)| {
        let mut named: Vec<String> =
            ["a", "b", "c"].iter().filter(|_| random.below(5) < 2).map(|n| (*n).to_owned()).collect();
        if random.below(12) == 0 {
            named.push("missing".to_owned());
        }
        // One of its own, one that others name, too, or another guest's: that one makes nobody a member.
        let further = *random.of(&[None, None, Some(number + 100), Some(100), Some(2), Some(6)]);
        port(*number, host, &named, further)
    });
    let ports = ports.collect();
    (groups, ports)
}

/// Everything that is tried, with what is derived of it.
fn derive(groups: &[SecurityGroup], ports: &[Port]) -> Vec<Expected> {
    let objects = Objects {
        networks: vec![lab::network()],
        ports: ports.to_vec(),
        groups: groups.to_vec(),
        ..Objects::default()
    };
    let world = World::of(objects);
    let end = |number: u8| -> &Endpoint { world.find("t", &format!("p{number}")).unwrap() };
    let conversations =
        || TCP.map(Conversation::Tcp).into_iter().chain(UDP.map(Conversation::Udp)).chain([Conversation::PING]);
    let mut all = Vec::new();
    for (from, to) in GUESTS.iter().flat_map(|from| GUESTS.iter().map(move |to| (from.0, to.0))).filter(|(a, b)| a != b)
    {
        for what in conversations() {
            let verdict = world.verdict(end(from), end(to), what);
            all.push(Expected { from, to, what, open: verdict.is_open(), why: verdict.to_string() });
        }
    }
    all
}

/// Whether the other side answers; one that refuses has answered.
async fn tcp_answers(namespace: &Namespace, to: u8, port: u16, time: Duration) -> bool {
    let at = (address(to), port).into();
    let attempt = netns::enter(namespace, move || TcpStream::connect_timeout(&at, time)).await.unwrap();
    attempt.map_or_else(|error| error.kind() == std::io::ErrorKind::ConnectionRefused, |_| true)
}

async fn ping_answers(namespace: &Namespace, to: u8, time: Duration) -> bool {
    let words =
        ["-q", "-c", "1", "-W", &time.as_secs().max(1).to_string(), &address(to).to_string()].map(str::to_owned);
    let ping = move || std::process::Command::new("ping").args(words).output().unwrap().status.success();
    netns::enter(namespace, ping).await.unwrap()
}

/// Tries of UDP that are still to be heard, and what was heard that had to be kept away.
async fn udp(lab: &Lab, round: u8, expected: &[Expected]) -> Vec<String> {
    let tries: Vec<(&Expected, u16)> = expected
        .iter()
        .filter_map(|one| if let Conversation::Udp(port) = one.what { Some((one, port)) } else { None })
        .collect();
    let senders: Vec<UdpSocket> = join_all(tries.iter().map(|(one, _)| lab.socket(one.from, 0))).await;
    let say = |wanted: &dyn Fn(&Expected) -> bool| {
        for ((one, port), socket) in tries.iter().zip(&senders).filter(|((one, _), _)| wanted(one)) {
            socket.send_to(&[round, one.from], (address(one.to), *port)).unwrap();
        }
    };
    let mut heard = std::collections::BTreeSet::new();
    let mut listen = || {
        for ((to, port), socket) in &lab.listeners {
            let mut word = [0; 2];
            while let Ok((2, _)) = socket.recv_from(&mut word) {
                if word[0] == round {
                    heard.insert((word[1], *to, *port));
                }
            }
        }
        let missing = tries.iter().filter(|(one, port)| one.open && !heard.contains(&(one.from, one.to, *port)));
        (missing.map(|(one, _)| (one.from, one.to, one.what)).collect::<Vec<_>>(), heard.clone())
    };
    say(&|one| !one.open);
    let begun = Instant::now();
    let mut said = None::<Instant>;
    let mut complete = None::<Instant>;
    let heard = loop {
        let (missing, heard) = listen();
        complete = complete.or_else(|| missing.is_empty().then(Instant::now));
        // What must not come has its while also after the last that had to.
        if complete.is_some_and(|at| at.elapsed() > NEVER) || begun.elapsed() > DEADLINE {
            break heard;
        }
        if said.is_none_or(|at| at.elapsed() > Duration::from_secs(1)) {
            say(&|one| missing.contains(&(one.from, one.to, one.what)));
            said = Some(Instant::now());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let wrong = tries.iter().filter(|(one, port)| heard.contains(&(one.from, one.to, *port)) != one.open);
    wrong.map(|(one, _)| told(one)).collect()
}

fn told(one: &Expected) -> String {
    let what = if one.open { "did not come through, but is open by" } else { "came through, but is closed by" };
    format!("p{} → p{} {} {what} {}", one.from, one.to, one.what, one.why)
}

/// What did not end as derived.
async fn mismatches(lab: &Lab, round: u8, expected: &[Expected]) -> Vec<String> {
    let one_try = async |one: &Expected| -> Option<String> {
        let namespace = &lab.guest(one.from).namespace;
        let time = if one.open { DEADLINE } else { NEVER };
        let answered = match one.what {
            Conversation::Tcp(port) => tcp_answers(namespace, one.to, port, time).await,
            Conversation::PING => ping_answers(namespace, one.to, time).await,
            _ => return None,
        };
        (answered != one.open).then(|| told(one))
    };
    let tries = join_all(expected.iter().map(one_try));
    let (udp, tries) = tokio::join!(udp(lab, round, expected), tries);
    tries.into_iter().flatten().chain(udp).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn packets_do_what_is_derived() {
    let seed = std::env::var("SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(lab::now);
    println!("SEED={seed}");
    let mut random = Random(seed);
    let mut lab = Lab::new().await;
    let (mut open, mut closed) = (0, 0);
    for round in 0..ROUNDS {
        let (groups, ports) = if round == 0 { known() } else { random_objects(&mut random) };
        lab.ensure(&groups, &ports).await;
        let expected = derive(&groups, &ports);
        let wrong = mismatches(&lab, u8::try_from(round).unwrap(), &expected).await;
        let shown = || {
            let groups = groups.iter().map(|group| format!("{}: {:?}\n", group.name_any(), group.spec.rules));
            let ports = ports.iter().map(|port| format!("{}: {:?}\n", port.name_any(), port.spec.security_groups));
            groups.chain(ports).collect::<String>()
        };
        assert!(wrong.is_empty(), "SEED={seed} round {round}:\n{}\n{}", wrong.join("\n"), shown());
        open += expected.iter().filter(|one| one.open).count();
        closed += expected.iter().filter(|one| !one.open).count();
    }
    println!("{open} conversations were open and {closed} closed, as derived");
    assert!(open > 20 && closed > 20, "the first round alone has more of both");
}

/// The comparison itself: where the derivation is wrong it says so, in both directions.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_derivation_is_found_out() {
    let mut lab = Lab::new().await;
    let (groups, ports) = known();
    lab.ensure(&groups, &ports).await;
    let mut expected = derive(&groups, &ports);
    // What comes through shall be held to be closed; the reverse would wait for the whole deadline.
    expected.retain(|one| one.open && (one.from, one.to) == (3, 4));
    assert!(expected.len() == 3, "tcp/80, udp/53 and icmp");
    expected.iter_mut().for_each(|one| one.open = false);
    let found = mismatches(&lab, 1, &expected).await;
    assert_eq!(found.len(), 3, "{found:?}");
}
