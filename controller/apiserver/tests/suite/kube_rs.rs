//! kube-rs over the in-process mount: typed access, watcher, controller.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::watcher;
use serde_json::json;

use crate::lab::{Lab, SOON};

fn widgets(client: kube::Client) -> Api<DynamicObject> {
    Api::default_namespaced_with(client, &resource())
}

fn resource() -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("example.dev", "v1", "Widget"), "widgets")
}

fn object(name: &str, size: u32) -> DynamicObject {
    DynamicObject::new(name, &resource()).data(json!({"spec": {"size": size}}))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_works_as_kube_rs_expects() -> Result<()> {
    let lab = Lab::new().await?;
    let client = lab.api.client("system:tester", &["system:masters"], "default");
    let api = widgets(client.clone());
    let mut made = api.create(&PostParams::default(), &object("a", 3)).await?;
    made.data["spec"]["size"] = json!(4);
    let put = api.replace("a", &PostParams::default(), &made).await?;
    assert_eq!(put.metadata.generation, Some(2));
    let stale = api.replace("a", &PostParams::default(), &made).await.unwrap_err();
    assert!(matches!(&stale, kube::Error::Api(status) if status.is_conflict()), "{stale}");
    let patch = Patch::Merge(json!({"status": {"phase": "Ready"}}));
    let status = api.patch_status("a", &PatchParams::default(), &patch).await?;
    assert_eq!(status.data["status"]["phase"], "Ready");
    assert_eq!(api.list(&ListParams::default()).await?.items.len(), 1);
    assert!(api.get_opt("zz").await?.is_none());
    assert!(api.delete("a", &DeleteParams::default()).await?.is_right());

    let config: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let patch = Patch::Strategic(json!({"data": {"k": "v"}}));
    let made: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "c"}}))?;
    config.create(&PostParams::default(), &made).await?;
    let patched = config.patch("c", &PatchParams::default(), &patch).await?;
    assert_eq!(patched.data.unwrap_or_default()["k"], "v");
    let namespaces: Api<Namespace> = Api::all(client);
    assert!(namespaces.get("default").await?.metadata.uid.is_some());
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn both_watcher_strategies_see_everything() -> Result<()> {
    let lab = Lab::new().await?;
    let api = widgets(lab.api.client("system:tester", &["system:masters"], "default"));
    api.create(&PostParams::default(), &object("a", 1)).await?;
    for config in [watcher::Config::default(), watcher::Config::default().streaming_lists()] {
        let mut seen = std::pin::pin!(watcher::watcher(api.clone(), config));
        let mut words = Vec::new();
        while !words.iter().any(|w| w == "applied extra") {
            let event = tokio::time::timeout(SOON, seen.next()).await?.context("ended")??;
            words.push(match event {
                watcher::Event::Init => "init".to_owned(),
                watcher::Event::InitApply(o) => format!("listed {}", o.metadata.name.unwrap_or_default()),
                watcher::Event::InitDone => {
                    api.create(&PostParams::default(), &object("extra", 1)).await?;
                    "done".to_owned()
                }
                watcher::Event::Apply(o) => format!("applied {}", o.metadata.name.unwrap_or_default()),
                watcher::Event::Delete(o) => format!("deleted {}", o.metadata.name.unwrap_or_default()),
            });
        }
        assert_eq!(words, ["init", "listed a", "done", "applied extra"]);
        api.delete("extra", &DeleteParams::default()).await?;
    }
    lab.end().await
}

#[derive(Debug, thiserror::Error)]
#[error("reconcile failed")]
struct Failed(#[from] kube::Error);

async fn observe(widget: Arc<DynamicObject>, api: Arc<Api<DynamicObject>>) -> Result<Action, Failed> {
    let phase = json!({"status": {"phase": "Ready", "observedGeneration": widget.metadata.generation}});
    let name = widget.metadata.name.clone().unwrap_or_default();
    api.patch_status(&name, &PatchParams::default(), &Patch::Merge(phase)).await?;
    Ok(Action::await_change())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_converges() -> Result<()> {
    let lab = Lab::new().await?;
    let api = widgets(lab.api.client("system:controller", &["system:masters"], "default"));
    let controller = Controller::new_with(api.clone(), watcher::Config::default(), resource())
        .run(observe, |_, _: &Failed, _| Action::requeue(Duration::from_secs(1)), Arc::new(api.clone()))
        .for_each(|_| async {});
    let controller = tokio::spawn(controller);
    for n in 0..10 {
        api.create(&PostParams::default(), &object(&format!("w{n}"), 1)).await?;
    }
    let settled = async {
        loop {
            let list = api.list(&ListParams::default()).await?;
            if list.items.iter().filter(|w| w.data["status"]["phase"] == "Ready").count() == 10 {
                return Ok::<_, kube::Error>(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, settled).await??;
    controller.abort();
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn discovery_is_understood() -> Result<()> {
    let lab = Lab::new().await?;
    let client = lab.api.client("system:tester", &["system:masters"], "default");
    let discovery = kube::Discovery::new(client).run().await?;
    let gvk = GroupVersionKind::gvk("example.dev", "v1", "Widget");
    let (found, capabilities) = discovery.resolve_gvk(&gvk).context("not discovered")?;
    assert_eq!(found.plural, "widgets");
    assert!(capabilities.supports_operation("watch"));
    lab.end().await
}
