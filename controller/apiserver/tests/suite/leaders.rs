//! Several servers over one etcd: one leads, and who was superseded changes nothing.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use apiserver::{ApiServer, Election, Options};
use futures::FutureExt;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use store::Store;

use crate::lab::{Lab, SOON};

fn election(identity: &str) -> Election {
    Election {
        duration: Duration::from_secs(2),
        renew: Duration::from_millis(200),
        retry: Duration::from_millis(50),
        ..Election::new(identity)
    }
}

async fn replica(lab: &Lab) -> Result<ApiServer> {
    let store = Store::connect(lab.etcd_options()).await?;
    Ok(ApiServer::new(store, Options { chores: false, ..Options::default() }).await?)
}

fn maps(api: &ApiServer) -> Api<ConfigMap> {
    Api::default_namespaced(api.client("test", &["system:masters"], "default"))
}

fn leases(api: &ApiServer) -> Api<Lease> {
    Api::namespaced(api.client("test", &["system:masters"], "photon-system"), "photon-system")
}

fn map(name: &str) -> ConfigMap {
    ConfigMap {
        metadata: kube::api::ObjectMeta { name: Some(name.to_owned()), ..Default::default() },
        ..Default::default()
    }
}

#[tokio::test]
async fn one_leads_until_it_says_goodbye_or_falls_silent() -> Result<()> {
    let lab = Lab::new().await?;
    let (one, two) = (replica(&lab).await?, replica(&lab).await?);
    let (mine, theirs) = (election("one"), election("two"));
    let first = one.campaign(&mine).await;
    let held = leases(&two).get("clusterctl-server").await?.spec.context("no spec")?;
    ensure!(held.holder_identity.as_deref() == Some("one"), "{held:?}");
    // A machine too busy to renew in time loses its lead, and knows; anything else would be two leaders.
    let waiting = tokio::time::timeout(Duration::from_secs(4), two.campaign(&theirs)).await;
    ensure!(waiting.is_err() || first.lost().now_or_never().is_some(), "two lead");
    drop(waiting);
    first.resign().await;
    let second = tokio::time::timeout(SOON, two.campaign(&theirs)).await.context("nobody took over")?;
    // Renewing ends with the reign: as if it had been killed.
    drop(second);
    let third = tokio::time::timeout(SOON, one.campaign(&mine)).await.context("nobody took over")?;
    let transitions = leases(&two).get("clusterctl-server").await?.spec.and_then(|spec| spec.lease_transitions);
    ensure!(transitions.is_some_and(|count| count >= 2), "{transitions:?}");
    maps(third.api()).create(&PostParams::default(), &map("written")).await?;
    Ok(())
}

#[tokio::test]
async fn a_leader_that_slept_through_its_end_is_refused() -> Result<()> {
    let lab = Lab::new().await?;
    let (one, two) = (replica(&lab).await?, replica(&lab).await?);
    // So long between renewals that it never learns: what a stopped process knows.
    let asleep = Election { renew: Duration::from_secs(3600), ..election("one") };
    let old = one.campaign(&asleep).await;
    maps(old.api()).create(&PostParams::default(), &map("before")).await?;
    let new = tokio::time::timeout(SOON, two.campaign(&election("two"))).await.context("nobody took over")?;
    ensure!(new.term() > old.term());
    let refused = maps(old.api()).create(&PostParams::default(), &map("stale")).await;
    let error = refused.err().context("a stale leader's write was taken")?;
    ensure!(error.to_string().contains("another server leads"), "{error}");
    let patch = Patch::Merge(json!({"data": {"stale": "yes"}}));
    ensure!(maps(old.api()).patch("before", &PatchParams::default(), &patch).await.is_err());
    ensure!(maps(old.api()).delete("before", &kube::api::DeleteParams::default()).await.is_err());
    // The server itself goes on serving its clients, and the new leader works.
    maps(&one).patch("before", &PatchParams::default(), &Patch::Merge(json!({"data": {"fresh": "yes"}}))).await?;
    let kept = maps(new.api()).get("before").await?;
    ensure!(kept.data == Some([("fresh".to_owned(), "yes".to_owned())].into()), "{kept:?}");
    ensure!(maps(&two).get_opt("stale").await?.is_none());
    Ok(())
}

#[tokio::test]
async fn a_leader_whose_lease_is_taken_learns_it() -> Result<()> {
    let lab = Lab::new().await?;
    let one = replica(&lab).await?;
    let reign = one.campaign(&election("one")).await;
    let taken = Patch::Merge(json!({"spec": {"holderIdentity": "another"}}));
    leases(&one).patch("clusterctl-server", &PatchParams::default(), &taken).await?;
    tokio::time::timeout(SOON, reign.lost()).await.context("it never learns")?;
    Ok(())
}

#[tokio::test]
async fn chores_are_done_by_the_leader_alone() -> Result<()> {
    let lab = Lab::with(Options { chores: false, ..Options::default() }).await?;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "going"}});
    lab.call("POST", "/api/v1/namespaces", &namespace).await?.expect(201)?;
    lab.delete("/api/v1/namespaces/going").await?;
    let phase = lab.get("/api/v1/namespaces/going").await?.expect(200)?;
    ensure!(phase["status"]["phase"] == "Terminating");
    let two = replica(&lab).await?;
    let _reign = two.campaign(&election("two")).await;
    lab.until_code("/api/v1/namespaces/going", 404).await?;
    Ok(())
}
