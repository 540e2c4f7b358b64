//! Seeing every version of objects as it is written.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::StreamExt;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::runtime::watcher::{self, watcher};
use kube::{Client, ResourceExt};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

/// One version of one object.
#[derive(Debug)]
pub struct Seen {
    /// When we heard of it.
    pub at: Instant,
    /// Its kind.
    pub kind: String,
    /// The object was deleted.
    pub gone: bool,
    /// The object.
    pub object: DynamicObject,
}

impl Seen {
    /// Whether it is this object.
    pub fn is(&self, kind: &str, name: &str) -> bool {
        self.kind == kind && self.object.name_any() == name
    }

    /// Whether its condition of this type is true.
    pub fn has(&self, condition: &str) -> bool {
        has(&self.object.data, condition)
    }
}

/// Whether the object's condition of this type is true.
pub fn has(object: &Value, condition: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    conditions.iter().any(|found| found["type"] == condition && found["status"] == "True")
}

/// Watches over several kinds in all namespaces.
pub struct Watch {
    news: mpsc::UnboundedReceiver<Option<Seen>>,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

impl Watch {
    /// Opens the watches; what exists now has been told when this returns, and is not told again.
    pub async fn open(client: &Client, resources: &[ApiResource]) -> Result<Watch> {
        let (told, news) = mpsc::unbounded_channel();
        let follow = |resource: &ApiResource| {
            let api = Api::<DynamicObject>::all_with(client.clone(), resource);
            AbortOnDropHandle::new(tokio::spawn(follow(api, resource.kind.clone(), told.clone())))
        };
        let mut watch = Watch { news, _tasks: resources.iter().map(follow).collect() };
        let listed = async {
            for _ in resources {
                while watch.news.recv().await.context("a watch ended")?.is_some() {}
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(Duration::from_secs(30), listed).await.context("the watches do not open")??;
        Ok(watch)
    }

    /// Takes news until some answer `wanted`, which sees all; returns those.
    pub async fn until(&mut self, limit: Duration, what: &str, mut wanted: impl FnMut(&Seen) -> bool) -> Result<Seen> {
        let search = async {
            loop {
                match self.news.recv().await {
                    Some(Some(seen)) if wanted(&seen) => return Ok(seen),
                    Some(_) => {}
                    None => bail!("the watch ended while waiting for {what}"),
                }
            }
        };
        tokio::time::timeout(limit, search).await.with_context(|| format!("no {what} within {} s", limit.as_secs()))?
    }
}

async fn follow(api: Api<DynamicObject>, kind: String, told: mpsc::UnboundedSender<Option<Seen>>) {
    let mut events = std::pin::pin!(watcher(api, watcher::Config::default()));
    while let Some(event) = events.next().await {
        let seen = |object, gone| Some(Seen { at: Instant::now(), kind: kind.clone(), gone, object });
        let news = match event {
            Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => seen(object, false),
            Ok(watcher::Event::Delete(object)) => seen(object, true),
            Ok(watcher::Event::InitDone) => None,
            // It is opened again; until then something may be missed, which the waiting one's limit shows.
            Ok(watcher::Event::Init) | Err(_) => continue,
        };
        if told.send(news).is_err() {
            return;
        }
    }
}
