//! Ways out: guests of two tenants with one range reach what is outside, each seen under the address that is its own; what floats leads
//! in and nothing else does; what is broken heals; when the elected host dies, the way out is another host's; and nothing stays behind.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use serde_json::{Value, json};

use crate::house::House;
use crate::routers::{Guest, elect, network, run};

/// What is outside: a namespace in which somebody tells whoever asks under which address he is seen.
struct Outside {
    name: String,
    server: Child,
}

/// Where he is.
const FAR: &str = "198.51.100.1";

const TELLS: &str = "import socket
server = socket.create_server((\"198.51.100.1\", 7))
print(\"listens\", flush=True)
while True:
    connection, peer = server.accept()
    connection.sendall(peer[0].encode())
    connection.close()";

const ASKS: &str = "import socket
connection = socket.create_connection((\"198.51.100.1\", 7), 3)
print(connection.recv(64).decode())";

/// What a guest says to each line that it is sent.
const REPEATS: &str = "import socket
server = socket.create_server((\"0.0.0.0\", 9))
print(\"listens\", flush=True)
while True:
    connection, peer = server.accept()
    while data := connection.recv(64):
        connection.sendall(data)";

/// Says a line of its input there, over one connection for all, and tells whether it was repeated.
const CONVERSES: &str = "import socket, sys
connection = socket.create_connection((\"203.0.113.20\", 9), 3)
connection.settimeout(1)
for line in sys.stdin:
    try:
        connection.sendall(line.encode())
        print(\"answered\" if connection.recv(64) else \"ended\", flush=True)
    except OSError:
        print(\"silent\", flush=True)";

/// A program in a namespace, spoken to by lines.
struct Program(Child, BufReader<std::process::ChildStdout>);

impl Program {
    fn new(netns: &str, script: &str) -> Program {
        let python = ["netns", "exec", netns, "python3", "-c", script];
        let mut child = Command::new("ip").args(python).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let told = BufReader::new(child.stdout.take().unwrap());
        Program(child, told)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.1.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    fn asked(&mut self) -> String {
        self.0.stdin.as_mut().unwrap().write_all(b"hear\n").unwrap();
        self.line()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Outside {
    fn new() -> Outside {
        let name = format!("outside-{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
        run(&["netns", "add", &name]);
        run(&["-n", &name, "link", "set", "lo", "up"]);
        run(&["-n", &name, "address", "add", &format!("{FAR}/32"), "dev", "lo"]);
        let python = ["netns", "exec", &name, "python3", "-c", TELLS];
        let mut server = Command::new("ip").args(python).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "listens\n");
        Outside { name, server }
    }

    fn reaches(&self, to: &str) -> bool {
        let words = ["netns", "exec", &self.name, "ping", "-n", "-c", "1", "-W", "1", to];
        Command::new("ip").args(words).output().unwrap().status.success()
    }

    fn ip(&self, words: &[&str]) -> String {
        let output = Command::new("ip").args(["-n", &self.name]).args(words).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).output();
    }
}

/// Under which address the guest is seen outside; empty when it reaches nobody.
fn seen(guest: &Guest) -> String {
    let words = ["netns", "exec", &guest.name, "python3", "-c", ASKS];
    let output = Command::new("ip").args(words).output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// What the reconciler would write of a way out.
async fn lead_out(house: &House, tenant: &str, external: Value) {
    let status = json!({"status": {"external": external}});
    house.request_of(tenant, "PATCH", "/routers/r/status", status).await;
}

const LEGS: [(&str, u8); 1] = [("a", 77)];

#[tokio::test(flavor = "multi_thread")]
async fn guests_go_out_under_their_addresses_and_what_floats_leads_in() {
    let outside = Outside::new();
    let mut one = House::new().await;
    let (mut two, mut three) = (one.beside("host1"), one.beside("host2"));
    for house in [&mut one, &mut two, &mut three] {
        // It is one machine: they have one outside.
        house.outside = Some(outside.name.clone());
        house.start().await;
    }
    network(&one, "t", "a", 77, 10_090).await;
    network(&one, "u", "a", 77, 10_091).await;
    let (a, b, ua) = tokio::join!(
        Guest::new(&two, "host1", "t", ("a", 77, 2), &[]),
        Guest::new(&three, "host2", "t", ("a", 77, 3), &[]),
        Guest::new(&two, "host1", "u", ("a", 77, 2), &[]),
    );
    for tenant in ["t", "u"] {
        elect(&one, tenant, "r", &LEGS, 9, json!([]), "host0").await;
    }
    assert!(!a.reaches(FAR), "the router has no way out yet");

    let floating = json!([{"address": "203.0.113.20", "serviceIP": "s", "target": "10.77.0.3"}]);
    let of_t = json!({"network": "x", "address": "203.0.113.1", "floating": floating});
    lead_out(&one, "t", of_t).await;
    lead_out(&one, "u", json!({"network": "x", "address": "203.0.113.2"})).await;
    one.until(|| a.reaches(FAR) && b.reaches(FAR) && ua.reaches(FAR)).await;
    let all = || [seen(&a), seen(&b), seen(&ua)];
    assert_eq!(all(), ["203.0.113.1", "203.0.113.20", "203.0.113.2"]);
    assert!(outside.reaches("203.0.113.20"), "the floating address leads to b");
    assert!(a.reaches("203.0.113.20"), "for whoever is inside, too");
    assert!(ua.reaches("203.0.113.20"), "and for another tenant, by way of outside");
    nobody_else_enters(&outside);

    what_is_broken_heals(&one, &a, &outside).await;
    the_elected_host_dies(&mut one, &three, &outside, &a).await;
    three.until(|| all() == ["203.0.113.1", "203.0.113.20", "203.0.113.2"]).await;

    // A floating address that is taken away leads nowhere, not even what is under way, and its guest is one among the others. What another
    // one leads to is not concerned.
    let mut server = Program::new(&b.name, REPEATS);
    assert_eq!(server.line(), "listens");
    let talk = Mutex::new(Program::new(&outside.name, CONVERSES));
    let say = || talk.lock().unwrap().asked();
    assert_eq!(say(), "answered");
    let of =
        |last: u8, target: &str| json!({"address": format!("203.0.113.{last}"), "serviceIP": "s", "target": target});
    lead_out(&three, "t", json!({"floating": [of(20, "10.77.0.3"), of(21, "10.77.0.2")]})).await;
    three.until(|| outside.reaches("203.0.113.21") && seen(&a) == "203.0.113.21").await;
    assert_eq!(say(), "answered");
    lead_out(&three, "t", json!({"floating": [of(20, "10.77.0.2")]})).await;
    three.until(|| say() == "silent").await;
    assert!(outside.reaches("203.0.113.20"), "it leads to another now");
    lead_out(&three, "t", json!({"floating": []})).await;
    three.until(|| !outside.reaches("203.0.113.20") && seen(&b) == "203.0.113.1").await;
    lead_out(&three, "t", Value::Null).await;
    three.until(|| !a.reaches(FAR) && outside.ip(&["route"]).lines().count() == 1).await;

    drop((a, b, ua));
    for tenant in ["t", "u"] {
        one.request_of(tenant, "DELETE", "/routers/r", Value::Null).await;
    }
    for port in one.api.objects("ports") {
        let [tenant, name] = ["namespace", "name"].map(|field| port["metadata"][field].as_str().unwrap().to_owned());
        one.request_of(&tenant, "DELETE", &format!("/ports/{name}"), Value::Null).await;
    }
    one.until(|| [&one, &two, &three].iter().all(|house| house.leftovers().is_empty())).await;
    one.until(|| outside.ip(&["-o", "link", "show", "type", "veth"]).is_empty()).await;
    for house in [&mut one, &mut two, &mut three] {
        house.stop().await;
    }
}

/// Whoever is outside and knows the way does not come in by it.
fn nobody_else_enters(outside: &Outside) {
    run(&["-n", &outside.name, "route", "add", "10.77.0.0/24", "via", "203.0.113.1"]);
    assert!(outside.reaches("203.0.113.1"), "the router itself answers");
    for guest in ["10.77.0.2", "10.77.0.3"] {
        assert!(!outside.reaches(guest), "{guest} is inside");
    }
    run(&["-n", &outside.name, "route", "delete", "10.77.0.0/24"]);
}

async fn what_is_broken_heals(one: &House, a: &Guest, outside: &Outside) {
    // Of the guest's tenant: the one whose router has that address.
    let shown = |netns: &str| one.ip_quiet(netns, &["-o", "-4", "address", "show", "to", "203.0.113.1"]);
    let netns = one.namespaces().into_iter().find(|netns| !shown(netns).is_empty()).unwrap();
    let (before, link) = (shown(&netns), shown(&netns).split_whitespace().nth(1).unwrap().to_owned());
    assert!(!before.contains("forever"), "nobody is here to end what only one host may do: {before}");
    let begun = std::time::Instant::now();
    one.ip(&netns, &["link", "delete", &link]);
    one.until(|| a.reaches(FAR)).await;
    println!("a deleted way out is back after {} ms", begun.elapsed().as_millis());
    let table = format!("nt{}", link.trim_start_matches("ux"));
    one.nft(&netns, &["flush", "table", "inet", &table]);
    one.until(|| one.nft(&netns, &["list", "table", "inet", &table]).contains("snat ip to 203.0.113.1")).await;
    one.until(|| a.reaches(FAR)).await;
    // Three times in a row: a look that comes every ten seconds would not do.
    let begun = std::time::Instant::now();
    for _ in 0..3 {
        run(&["-n", &outside.name, "route", "delete", "203.0.113.20"]);
        one.until(|| outside.ip(&["route"]).contains("203.0.113.20 via 203.0.113.1")).await;
    }
    println!("three routes outside were back after {} ms", begun.elapsed().as_millis());
}

async fn the_elected_host_dies(one: &mut House, three: &House, outside: &Outside, a: &Guest) {
    let underlay = one.names().underlay();
    one.kill().await;
    run(&["-n", &underlay, "link", "set", "uplink", "down"]);
    let begun = std::time::Instant::now();
    for tenant in ["t", "u"] {
        elect(three, tenant, "r", &LEGS, 9, json!([]), "host2").await;
    }
    three.until(|| a.reaches(FAR) && outside.reaches("203.0.113.20")).await;
    println!("the way out is another host's after {} ms", begun.elapsed().as_millis());
    // When it comes back it has no part in it any more.
    one.start().await;
    three.until(|| one.namespaces().is_empty() && one.networks().is_empty()).await;
    assert!(a.reaches(FAR) && outside.reaches("203.0.113.20"));
}
