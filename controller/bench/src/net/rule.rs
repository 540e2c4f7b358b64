//! One change among very many elements: a member more of a group, and a rule that is another.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use crds::{Port, SecurityGroup};
use host::link::{Watch, watch_namespace};
use host::netns::Namespace;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use testkit::FakeApi;

use super::host::NetHost;
use super::objects::{self, HERE, TENANT, THERE};
use super::ports::milliseconds;
use super::raw::run;
use crate::figure::{Bound, Report, Sample};
use agent::names;

const GROUP: &str = "members";
/// Ports of the host itself.
const LOCAL: usize = 10;
/// How often each is measured.
const TRIES: usize = 10;
/// How long a change may take to come to the kernel.
const DEADLINE: Duration = Duration::from_secs(20);

/// Measures.
pub async fn measure(members: usize, report: &mut Report) -> Result<()> {
    let api = FakeApi::new();
    let client = api.client();
    objects::create(&client, &objects::group(GROUP, 80)?).await?;
    let groups = [GROUP.to_owned()];
    let all = (0..members).map(|number| objects::port(number, if number < LOCAL { HERE } else { THERE }, &groups));
    objects::create_all(&client, all.collect::<Result<Vec<Port>>>()?).await?;
    let mut host = NetHost::new(api).await?;
    objects::lay_ground(&client, host.underlay).await?;
    let done = changes(&mut host, members, report).await;
    host.end().await.and(done)
}

async fn changes(host: &mut NetHost, members: usize, report: &mut Report) -> Result<()> {
    let client = host.api.client();
    host.heard(LOCAL).await?;
    host.begin();
    host.all_ready().await?;
    let (mut member, mut rule, mut raw) = (Sample::default(), Sample::default(), Sample::default());
    let cell = host.cell()?;
    let groups: Api<SecurityGroup> = Api::namespaced(client.clone(), TENANT);
    for number in 0..TRIES {
        let mut watch = settled(host, &cell).await?;
        let port = objects::port(members + number, THERE, &[GROUP.to_owned()])?;
        let begun = Instant::now();
        objects::create(&client, &port).await?;
        member.add(milliseconds(written(&mut watch, begun).await?));
        let address = port.spec.ip.clone().unwrap_or_default();
        anyhow::ensure!(has(host, &cell, &address).await?, "something else was written before the member {address}");

        let mut watch = settled(host, &cell).await?;
        let changed = json!({"spec": objects::group(GROUP, 1000 + u16::try_from(number)?)?.spec});
        let begun = Instant::now();
        groups
            .patch(GROUP, &PatchParams::default(), &Patch::Merge(changed))
            .await
            .context("failed to change a rule")?;
        rule.add(milliseconds(written(&mut watch, begun).await?));

        settled(host, &cell).await?;
        raw.add(milliseconds(by_hand(host, &cell).await?));
    }
    report.add(format!("a member more of {members}, to the kernel"), "ms", &member, Some(&raw), "50 ms");
    report.bound(Bound::Median(50.0));
    report.note("beside one `nft -f` with that element");
    report.add(format!("a rule about {members} members, to the kernel"), "ms", &rule, Some(&raw), "50 ms");
    report.bound(Bound::Median(50.0));
    Ok(())
}

/// A watch that has nothing to tell.
async fn settled(host: &NetHost, cell: &Namespace) -> Result<Watch> {
    host.quiet().await?;
    Ok(watch_namespace(cell).await?)
}

/// How long after `begun` something was written in the namespace.
async fn written(watch: &mut Watch, begun: Instant) -> Result<Duration> {
    let woken = tokio::time::timeout(DEADLINE, watch.changed()).await;
    woken.map_err(|_| anyhow!("nothing was written"))?;
    Ok(begun.elapsed())
}

fn set(host: &NetHost) -> Result<String> {
    let all = host.api.objects("securitygroups");
    let uid = all.first().and_then(|one| one["metadata"]["uid"].as_str()).context("there is no group")?;
    let id = host::firewall::GroupId::of_owner(uid);
    Ok(format!("bridge {} members_{id}", names::firewall(&host.network()?)))
}

async fn has(host: &NetHost, cell: &Namespace, address: &str) -> Result<bool> {
    let element = format!("get element {} {{ {address} }}", set(host)?);
    Ok(run(cell, "nft", &[&element], String::new()).await.is_ok())
}

/// One element more and away again, by the raw tool.
async fn by_hand(host: &NetHost, cell: &Namespace) -> Result<Duration> {
    let element = format!("element {} {{ 10.9.9.9 }}\n", set(host)?);
    let begun = Instant::now();
    run(cell, "nft", &["-f", "-"], format!("add {element}")).await?;
    let took = begun.elapsed();
    run(cell, "nft", &["-f", "-"], format!("delete {element}")).await?;
    Ok(took)
}
