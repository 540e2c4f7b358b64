//! What passes through a network's services, groups and filters, with one of each and with a thousand.
//!
//! Two hosts are there at once, one small and one with a thousand of something, and are measured in turn, so that what else the machine
//! does meanwhile meets both.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use crds::Port;
use host::netns::{Namespace, enter};
use serde_json::json;
use testkit::FakeApi;

use super::guest::{Guest, Served, some};
use super::host::NetHost;
use super::{load, objects};
use crate::figure::{Bound, Report, Sample};

/// How often each is measured.
const ROUNDS: usize = 7;
/// Ports that stand-ins are on: client, server, proxy.
const STANDING: usize = 3;
/// Where services' addresses begin.
const SERVICES: usize = 20_000;
const GROUP: &str = "all";
/// What the service and its backend listen at, and where datagrams go.
const PORTS: (u16, u16, u16) = (80, 8080, 9);

/// How many there are of what.
#[derive(Clone, Copy)]
struct Many {
    services: usize,
    members: usize,
    ports: usize,
}

const ONE: Many = Many { services: 1, members: STANDING, ports: STANDING };

/// A host with a client and a server.
struct World {
    host: NetHost,
    client: Guest,
    server: Guest,
    tcp: Served,
    udp: Served,
}

/// What one round found, a second: connections, bytes, datagrams.
type Found = [f64; 3];

impl World {
    async fn new(many: Many) -> Result<World> {
        let api = FakeApi::new();
        let client = api.client();
        let rules = json!({"rules": [
            {"direction": "Ingress", "protocol": "TCP", "port": PORTS.0, "securityGroup": GROUP},
            {"direction": "Ingress", "protocol": "TCP", "port": PORTS.1, "securityGroup": GROUP},
            {"direction": "Ingress", "protocol": "UDP", "port": PORTS.2, "securityGroup": GROUP}]});
        objects::create(&client, &crds::SecurityGroup::new(GROUP, serde_json::from_value(rules)?)).await?;
        let groups = [GROUP.to_owned()];
        let place = |number: usize| if number < many.ports { objects::HERE } else { objects::THERE };
        let port = |number: usize| {
            let mut port = objects::port(number, place(number), &groups)?;
            if number == 1 {
                port.metadata.labels = Some([("app".to_owned(), "web".to_owned())].into());
            }
            Ok(port)
        };
        let ports = (0..many.ports.max(many.members)).map(port).collect::<Result<Vec<Port>>>()?;
        objects::create_all(&client, ports).await?;
        for number in 0..many.services {
            let listeners = json!([{"protocol": "TCP", "port": PORTS.0, "targetPort": PORTS.1}]);
            objects::serve(&client, number, &objects::address(SERVICES + number), listeners, None).await?;
        }
        let mut host = NetHost::new(api).await?;
        objects::lay_ground(&client, host.underlay).await?;
        host.heard(many.ports).await?;
        host.begin();
        host.all_ready().await?;
        host.quiet().await?;
        let (client, server) = (Guest::new(&host, "p0").await?, Guest::new(&host, "p1").await?);
        let (tcp, udp) = (server.serve_tcp(PORTS.1).await?, server.serve_udp(PORTS.2).await?);
        Ok(World { host, client, server, tcp, udp })
    }

    fn service() -> Result<SocketAddr> {
        let address: Ipv4Addr = objects::address(SERVICES).parse().context("a service's address")?;
        Ok((address, PORTS.0).into())
    }

    async fn round(&self) -> Result<Found> {
        let (from, service) = (&self.client.namespace, World::service()?);
        let connections = load::connections(from, service).await?;
        let before = self.tcp.count();
        let took = load::bytes(from, service).await?;
        let bytes = (self.tcp.count() - before) as f64 / took.as_secs_f64();
        let before = self.udp.count();
        let took = load::datagrams(from, (self.server.address, PORTS.2).into()).await?;
        let datagrams = (self.udp.count() - before) as f64 / took.as_secs_f64();
        Ok([some(connections, "connections")?, some(bytes, "bytes")?, some(datagrams, "datagrams")?])
    }

    async fn end(self) -> Result<()> {
        let World { host, client, server, .. } = self;
        drop((client, server));
        host.end().await
    }
}

/// Measures.
pub async fn measure(count: usize, report: &mut Report) -> Result<()> {
    let small = World::new(ONE).await.context("one of each")?;
    let done = beside(&small, count, report).await;
    small.end().await.and(done)
}

async fn beside(small: &World, count: usize, report: &mut Report) -> Result<()> {
    haproxy(small, report).await.context("HAProxy")?;
    let count = count.max(STANDING);
    for (what, many) in [
        ("services", Many { services: count, ..ONE }),
        ("members", Many { members: count, ..ONE }),
        ("ports", Many { ports: count, members: count, ..ONE }),
    ] {
        let large = World::new(many).await.context(what)?;
        let done = both(small, &large, &format!("{count} {what}"), report).await;
        large.end().await.and(done)?;
    }
    Ok(())
}

async fn both(small: &World, large: &World, what: &str, report: &mut Report) -> Result<()> {
    let (mut of_small, mut of_large) = (Vec::new(), Vec::new());
    // The first finds out everybody's hardware address.
    small.round().await?;
    large.round().await?;
    for _ in 0..ROUNDS {
        of_small.push(small.round().await?);
        of_large.push(large.round().await?);
    }
    for (place, (name, unit, scale)) in
        [("new connections", "1/s", 1.0), ("throughput", "Mbit/s", 8e-6), ("datagrams", "1/s", 1.0)].iter().enumerate()
    {
        let sample = |all: &[Found]| all.iter().map(|one| one[place] * scale).collect::<Sample>();
        report.add(format!("{name}, {what}"), unit, &sample(&of_large), Some(&sample(&of_small)), "0.95 ×");
        report.bound(Bound::AtLeast(0.95));
        report.note("beside one of each, measured in turn");
    }
    Ok(())
}

/// The same connections through HAProxy, in a guest's place of its own.
async fn haproxy(world: &World, report: &mut Report) -> Result<()> {
    let guest = Guest::new(&world.host, "p2").await?;
    let config = format!(
        "global\n  maxconn 4000\ndefaults\n  mode tcp\n  option nolinger\n  timeout connect 5s\n  timeout client 30s\n  \
         timeout server 30s\nlisten all\n  bind {}:{}\n  server one {}:{}\n",
        guest.address, PORTS.0, world.server.address, PORTS.1
    );
    let file = tempfile::Builder::new().prefix("clusterctl-bench-haproxy-").tempfile()?;
    std::fs::write(file.path(), config).context("failed to write HAProxy's configuration")?;
    let _running = run(&guest.namespace, file.path().display().to_string()).await?;
    let proxy = SocketAddr::from((guest.address, PORTS.0));
    until_open(&guest.namespace, proxy).await?;
    let (mut ours, mut theirs) = (Sample::default(), Sample::default());
    let from = &world.client.namespace;
    for round in 0..=ROUNDS {
        let (own, other) = (load::connections(from, World::service()?).await?, load::connections(from, proxy).await?);
        if round > 0 {
            ours.add(own);
            theirs.add(other);
        }
    }
    report.add("new connections beside HAProxy", "1/s", &ours, Some(&theirs), "1 ×");
    report.bound(Bound::AtLeast(1.0));
    report.note("beside HAProxy in TCP mode, as many threads as cores, on the same network");
    Ok(())
}

async fn run(namespace: &Namespace, config: String) -> Result<tokio::process::Child> {
    let program = process::find_program("haproxy", "CLUSTERCTL_HAPROXY")?;
    let spawn = move || {
        let mut command = tokio::process::Command::new(program);
        let quiet = std::process::Stdio::null;
        command.args(["-db", "-f", &config]).stdout(quiet()).stderr(quiet()).kill_on_drop(true).spawn()
    };
    enter(namespace, spawn).await?.context("failed to start HAProxy")
}

/// Returns when somebody listens there.
async fn until_open(namespace: &Namespace, at: SocketAddr) -> Result<()> {
    for _ in 0..1000 {
        let tried =
            tokio::time::timeout(std::time::Duration::from_secs(1), host::netns::connect_tcp(namespace, at)).await;
        if tried.is_ok_and(|connected| connected.is_ok()) {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    anyhow::bail!("nobody listens at {at}")
}
