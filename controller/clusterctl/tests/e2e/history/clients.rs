//! Clients that ask at random, and write down what they were told.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
use testkit::Random;
use testkit::history::{Call, Expected, Listed, Moment, Operation, Outcome, Revision};
use tokio::task::JoinHandle;

use super::world::World;
use super::{SOON, registers};

const CLIENTS: usize = 12;
/// Nobody waits longer for an answer; what comes of the request is then unknown.
const PATIENCE: Duration = Duration::from_secs(5);
/// The load of one client: at most so many requests a second, so that the machine's two cores are not the fault.
const PACE: Duration = Duration::from_millis(40);

/// The clients of a round.
pub struct Clients(Vec<JoinHandle<Result<Vec<Operation>>>>);

/// Lets them work until it is over.
pub async fn start(
    world: &World,
    keys: &[String],
    random: &Random,
    clock: Instant,
    over: &Arc<AtomicBool>,
) -> Result<Clients> {
    let mut all = Vec::new();
    for number in 0..CLIENTS {
        let mut client = Worker {
            number,
            servers: world.clients().await?.into_iter().map(registers::api).collect(),
            keys: keys.to_vec(),
            random: random.fork(number as u64),
            clock,
            known: HashMap::new(),
            tokens: 0,
            told: Vec::new(),
        };
        let over = over.clone();
        all.push(tokio::spawn(async move {
            let mut pace = tokio::time::interval(PACE);
            pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            while !over.load(Ordering::Acquire) {
                pace.tick().await;
                client.step().await?;
            }
            Ok(client.told)
        }));
    }
    Ok(Clients(all))
}

impl Clients {
    /// All that they were told.
    pub async fn finish(self) -> Result<Vec<Operation>> {
        let mut all = Vec::new();
        for client in self.0 {
            all.extend(client.await.context("a client panicked")??);
        }
        Ok(all)
    }
}

/// One client.
struct Worker {
    number: usize,
    servers: Vec<Api<DynamicObject>>,
    keys: Vec<String>,
    random: Random,
    clock: Instant,
    /// What it last saw of each object.
    known: HashMap<String, (Revision, DynamicObject)>,
    tokens: usize,
    told: Vec<Operation>,
}

impl Worker {
    async fn step(&mut self) -> Result<()> {
        let key = self.keys[self.random.index(self.keys.len())].clone();
        let server = self.random.index(self.servers.len());
        let api = self.servers[server].clone();
        let known = self.known.get(&key).cloned();
        let token = format!("{}-{}", self.number, self.tokens);
        self.tokens += 1;
        let condition = self.random.below(2) == 0;
        match (self.random.below(100), known) {
            (0..15, _) => self.create(&api, server, &key, token).await,
            (15..45, Some((revision, object))) => self.replace(&api, server, &key, token, (revision, object)).await,
            (45..58, known) => {
                let expected = known.filter(|_| condition).map(|(revision, _)| revision);
                self.patch_status(&api, server, &key, token, expected).await
            }
            (58..68, _) => self.apply(&api, server, &key, token).await,
            (68..76, known) => {
                let expected = known.filter(|_| condition).map(|(revision, _)| revision);
                self.delete(&api, server, &key, expected).await
            }
            (76..82, _) => self.list(&api, server, condition).await,
            _ => self.get(&api, server, &key).await,
        }
    }

    fn now(&self) -> Moment {
        Moment::try_from(self.clock.elapsed().as_micros()).unwrap_or(Moment::MAX)
    }

    fn note(&mut self, server: usize, key: &str, begun: Moment, call: Call, outcome: Outcome) {
        let (client, key, ended) = (self.number, key.to_owned(), self.now());
        self.told.push(Operation { client, server, key, begun, ended, call, outcome });
    }

    /// Writes down an answer that is an object, and remembers it.
    async fn ask(
        &mut self,
        (server, key, call): (usize, &str, Call),
        request: impl Future<Output = kube::Result<DynamicObject>>,
    ) -> Result<()> {
        let begun = self.now();
        let outcome = match tokio::time::timeout(PATIENCE, request).await {
            Ok(Ok(object)) => {
                let (revision, state) = registers::version(&object)?;
                self.known.insert(key.to_owned(), (revision, object));
                Outcome::Stored(revision, state)
            }
            Ok(Err(error)) => {
                let outcome = refusal(&error);
                if matches!(outcome, Outcome::Absent) {
                    self.known.remove(key);
                }
                outcome
            }
            Err(_) => Outcome::Unknown("no answer".to_owned()),
        };
        self.note(server, key, begun, call, outcome);
        Ok(())
    }

    async fn get(&mut self, api: &Api<DynamicObject>, server: usize, key: &str) -> Result<()> {
        self.ask((server, key, Call::Get), api.get(key)).await
    }

    async fn create(&mut self, api: &Api<DynamicObject>, server: usize, key: &str, token: String) -> Result<()> {
        let object = document(key, json!({"spec": {"token": token}}))?;
        let call = Call::Write { verb: "create", field: "spec", token, expected: Expected::Absent };
        self.ask((server, key, call), api.create(&PostParams::default(), &object)).await
    }

    async fn replace(
        &mut self,
        api: &Api<DynamicObject>,
        server: usize,
        key: &str,
        token: String,
        (revision, mut object): (Revision, DynamicObject),
    ) -> Result<()> {
        object.data["spec"]["token"] = json!(token);
        object.metadata.managed_fields = None;
        let call = Call::Write { verb: "update", field: "spec", token, expected: Expected::Version(revision) };
        self.ask((server, key, call), api.replace(key, &PostParams::default(), &object)).await
    }

    async fn patch_status(
        &mut self,
        api: &Api<DynamicObject>,
        server: usize,
        key: &str,
        token: String,
        revision: Option<Revision>,
    ) -> Result<()> {
        let mut patch = json!({"status": {"token": token}});
        if let Some(revision) = revision {
            patch["metadata"] = json!({"resourceVersion": revision.to_string()});
        }
        let expected = revision.map_or(Expected::Anything, Expected::Version);
        let call = Call::Write { verb: "patch status", field: "status", token, expected };
        self.ask((server, key, call), api.patch_status(key, &PatchParams::default(), &Patch::Merge(&patch))).await
    }

    async fn apply(&mut self, api: &Api<DynamicObject>, server: usize, key: &str, token: String) -> Result<()> {
        let object = document(key, json!({"spec": {"applied": token}}))?;
        let options = PatchParams::apply(&format!("client-{}", self.number)).force();
        let call = Call::Write { verb: "apply", field: "applied", token, expected: Expected::Anything };
        self.ask((server, key, call), api.patch(key, &options, &Patch::Apply(&object))).await
    }

    async fn delete(
        &mut self,
        api: &Api<DynamicObject>,
        server: usize,
        key: &str,
        revision: Option<Revision>,
    ) -> Result<()> {
        let wanted = revision.map(|revision| Preconditions { resource_version: Some(revision.to_string()), uid: None });
        let options = DeleteParams { preconditions: wanted, ..DeleteParams::default() };
        let expected = revision.map_or(Expected::Anything, Expected::Version);
        let begun = self.now();
        let outcome = match tokio::time::timeout(PATIENCE, api.delete(key, &options)).await {
            Ok(Ok(answer)) => {
                let status = answer.right().context("an object without finalizers was only marked")?;
                self.known.remove(key);
                Outcome::Removed(status.details.context("a removal without details")?.uid)
            }
            Ok(Err(error)) => refusal(&error),
            Err(_) => Outcome::Unknown("no answer".to_owned()),
        };
        self.note(server, key, begun, Call::Delete { expected }, outcome);
        Ok(())
    }

    async fn list(&mut self, api: &Api<DynamicObject>, server: usize, paged: bool) -> Result<()> {
        let begun = self.now();
        let fresh = self.random.below(4) > 0;
        let pages = async {
            let mut options = ListParams::default();
            // A cached list comes whole.
            (options.limit, options.resource_version) =
                if fresh { (paged.then_some(2), None) } else { (None, Some("0".to_owned())) };
            let (mut items, mut revision) = (Listed::new(), String::new());
            loop {
                let page = api.list(&options).await?;
                for object in &page.items {
                    let found = registers::version(object).map_err(|error| kube::Error::Service(error.into()))?;
                    items.insert(object.metadata.name.clone().unwrap_or_default(), found);
                }
                revision = page.metadata.resource_version.unwrap_or(revision);
                options.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
                if options.continue_token.is_none() {
                    return Ok((revision, items));
                }
            }
        };
        let outcome = match tokio::time::timeout(PATIENCE, pages).await {
            Ok(Ok((revision, mut items))) => {
                items.retain(|name, _| self.keys.contains(name));
                Outcome::Listed(revision.parse()?, items)
            }
            Ok(Err(error)) => refusal(&error),
            Err(_) => Outcome::Unknown("no answer".to_owned()),
        };
        self.note(server, "", begun, Call::List { fresh }, outcome);
        Ok(())
    }
}

fn document(key: &str, data: Value) -> Result<DynamicObject> {
    let mut document = json!({"apiVersion": "history.test/v1", "kind": "Register", "metadata": {"name": key}});
    document["spec"] = data["spec"].clone();
    Ok(serde_json::from_value(document)?)
}

/// What an error says of the request: whatever is not a plain no is unknown.
fn refusal(error: &kube::Error) -> Outcome {
    match error {
        kube::Error::Api(status) if status.code == 404 && status.reason == "NotFound" => Outcome::Absent,
        kube::Error::Api(status) if (400..500).contains(&status.code) => Outcome::Refused(status.code),
        error => Outcome::Unknown(error.to_string()),
    }
}

/// A last write to each key when all is well, so that everybody has something to come to.
pub async fn last_writes(world: &World, keys: &[String], clock: Instant) -> Result<Vec<Operation>> {
    let servers: Vec<_> = world.clients().await?.into_iter().map(registers::api).collect();
    let mut worker = Worker {
        number: CLIENTS,
        servers: servers.clone(),
        keys: keys.to_vec(),
        random: Random::new(1),
        clock,
        known: HashMap::new(),
        tokens: 0,
        told: Vec::new(),
    };
    let write = async {
        for (number, key) in keys.iter().enumerate() {
            for (server, api) in servers.iter().enumerate() {
                worker.get(api, server, key).await?;
            }
            loop {
                let token = format!("last-{number}-{}", worker.tokens);
                worker.tokens += 1;
                worker.apply(&servers[number % servers.len()], number % servers.len(), key, token).await?;
                if matches!(worker.told.last(), Some(Operation { outcome: Outcome::Stored(..), .. })) {
                    break;
                }
            }
        }
        Ok::<_, anyhow::Error>(())
    };
    tokio::time::timeout(SOON, write).await.context("nothing can be written although all is well")??;
    Ok(worker.told)
}

/// Gives the leader something to do all the time: each network is given an identifier by its reconciler.
pub async fn make_networks(clients: Vec<Client>, round: u64, over: Arc<AtomicBool>) {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("photoncloud.dev", "v1alpha1", "TenantNetwork"));
    let mut pace = tokio::time::interval(Duration::from_millis(250));
    for number in 0.. {
        pace.tick().await;
        if over.load(Ordering::Acquire) {
            return;
        }
        let networks = Api::<DynamicObject>::default_namespaced_with(clients[number % clients.len()].clone(), &kind);
        let network = json!({"apiVersion": "photoncloud.dev/v1alpha1", "kind": "TenantNetwork",
            "metadata": {"name": format!("r{round}-{number}")}, "spec": {"subnet": "10.9.0.0/24"}});
        let Ok(network) = serde_json::from_value::<DynamicObject>(network) else { return };
        // Whether it comes about is the faults' affair.
        let _ = tokio::time::timeout(PATIENCE, networks.create(&PostParams::default(), &network)).await;
    }
}
