//! Watches that go on where they were interrupted, at whichever server answers.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use futures::StreamExt;
use kube::api::{Api, DynamicObject, ListParams, WatchEvent, WatchParams};
use testkit::Random;
use testkit::history::{Change, Listed, Revision, Seen, Watched};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::truth::Truth;
use super::world::World;
use super::{SOON, registers};

/// Watches of all keys; each key has one of its own besides.
const OF_ALL: usize = 2;

/// The last revision of each key, once it is known.
type Until = Option<BTreeMap<String, Revision>>;

/// The watches of a round.
pub struct Watchers {
    running: Vec<JoinHandle<Watched>>,
    until: watch::Sender<Until>,
}

/// Lets them watch.
pub async fn start(world: &World, keys: &[String], random: &Random) -> Result<Watchers> {
    let (until, told) = watch::channel(None);
    let of_each = keys.iter().cloned().map(Some);
    let mut running = Vec::new();
    for (number, key) in of_each.chain((0..OF_ALL).map(|_| None)).enumerate() {
        let watcher = Watcher {
            servers: world.clients().await?.into_iter().map(registers::api).collect(),
            keys: keys.to_vec(),
            random: random.fork(100 + number as u64),
            watched: Watched { key, seen: Vec::new() },
            at: None,
        };
        running.push(tokio::spawn(watcher.run(told.clone())));
    }
    Ok(Watchers { running, until })
}

impl Watchers {
    /// All that they saw, once they have come to the end; after a while, what they have seen by then.
    pub async fn finish(self, truth: &Truth) -> Result<Vec<Watched>> {
        self.until.send_replace(Some(truth.last.clone()));
        let mut all = Vec::new();
        for watcher in self.running {
            all.push(watcher.await.context("a watcher panicked")?);
        }
        Ok(all)
    }
}

struct Watcher {
    servers: Vec<Api<DynamicObject>>,
    keys: Vec<String>,
    random: Random,
    watched: Watched,
    /// The revision up to which everything was told; none when it has to list.
    at: Option<Revision>,
}

impl Watcher {
    async fn run(mut self, until: watch::Receiver<Until>) -> Watched {
        let enough = {
            let mut until = until.clone();
            async move {
                // The sender's end is an end too.
                let _ = until.wait_for(Option::is_some).await;
                tokio::time::sleep(SOON).await;
            }
        };
        let follow = async {
            loop {
                let server = self.random.index(self.servers.len());
                match self.at {
                    None => self.list(server).await,
                    Some(at) => self.watch(server, at, &until).await,
                }
                if self.has_all(&until.borrow()) {
                    return;
                }
            }
        };
        tokio::select! { () = follow => {}, () = enough => {} }
        self.watched
    }

    /// Whether it has come to the end of what it watches.
    fn has_all(&self, until: &Until) -> bool {
        let Some(last) = until else { return false };
        let wanted = match &self.watched.key {
            Some(key) => last.get(key),
            None => last.values().max(),
        };
        self.at >= wanted.copied()
    }

    async fn list(&mut self, server: usize) {
        let field_selector = self.watched.key.as_ref().map(|key| format!("metadata.name={key}"));
        let options = ListParams { field_selector, ..ListParams::default() };
        let Ok(list) = self.servers[server].list(&options).await else { return tokio::task::yield_now().await };
        let revision = list.metadata.resource_version.and_then(|revision| revision.parse().ok());
        let named = |object: &DynamicObject| Some((object.metadata.name.clone()?, registers::version(object).ok()?));
        let mut items: Listed = list.items.iter().filter_map(named).collect();
        items.retain(|name, _| self.keys.contains(name));
        if let Some(revision) = revision {
            self.at = Some(revision);
            self.watched.seen.push(Seen::Listed(revision, items));
        }
    }

    async fn watch(&mut self, server: usize, at: Revision, until: &watch::Receiver<Until>) {
        self.watched.seen.push(Seen::Resumed(server, at));
        let mut options = WatchParams::default().timeout(20);
        options.field_selector = self.watched.key.as_ref().map(|key| format!("metadata.name={key}"));
        let Ok(events) = self.servers[server].watch(&options, &at.to_string()).await else { return };
        let mut events = events.boxed();
        while let Some(Ok(event)) = events.next().await {
            if !self.take(event) {
                return;
            }
            if self.has_all(&until.borrow()) {
                return;
            }
        }
    }

    /// Notes an event; `false` ends the watch.
    fn take(&mut self, event: WatchEvent<DynamicObject>) -> bool {
        let (change, object) = match event {
            WatchEvent::Added(object) => (Change::Added, object),
            WatchEvent::Modified(object) => (Change::Modified, object),
            WatchEvent::Deleted(object) => (Change::Deleted, object),
            WatchEvent::Bookmark(bookmark) => {
                let Ok(revision) = bookmark.metadata.resource_version.parse() else { return false };
                self.watched.seen.push(Seen::Bookmark(revision));
                self.at = Some(revision);
                return true;
            }
            WatchEvent::Error(status) => {
                if status.code == 410 {
                    self.at = None;
                }
                return false;
            }
        };
        let Ok((revision, state)) = registers::version(&object) else { return false };
        self.at = Some(revision);
        let name = object.metadata.name.unwrap_or_default();
        if self.keys.contains(&name) {
            self.watched.seen.push(Seen::Event(change, name, revision, state));
        }
        true
    }
}
