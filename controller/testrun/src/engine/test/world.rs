//! A world of machines, faults and objects that outlives the engine, on a clock that stands still unless all wait.
//!
//! Commands are words the world knows: `run SECONDS CODE TEXT`, and `third` which succeeds in its third attempt.
//! A `Kill` gives its target a new boot, forgets what ran there, and makes it ready again ten seconds later.

use crate::effects::{Effects, ReachError, SaveError, States, StoreError};
use crds::exec::{ExecRequest, ExecResult, ExecState};
use crds::reference::ObjectReference;
use crds::{Fault, TestRun};
use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

#[derive(Clone)]
pub struct World {
    inner: Arc<Mutex<Inner>>,
    changed: watch::Sender<u64>,
    pub crashed: Arc<Notify>,
    start: Instant,
}

pub struct Inner {
    pub stored: TestRun,
    pub writes: usize,
    /// Every start of a command: its name, and how often.
    pub started: BTreeMap<String, usize>,
    /// Every Fault that did harm: its name, and how often.
    pub harmed: BTreeMap<String, usize>,
    pub artifacts: HashMap<String, String>,
    objects: HashMap<String, Value>,
    boots: HashMap<String, u32>,
    running: HashMap<(String, String), (Instant, i32, String)>,
    /// Faults fail when set.
    pub faults_fail: bool,
    /// Effects so far, counted twice: when they are about to be done and when they are done.
    pub moments: usize,
    crash_at: Option<usize>,
}

impl World {
    pub fn new(run: TestRun) -> Self {
        let world = Self {
            inner: Arc::new(Mutex::new(Inner {
                stored: run,
                writes: 0,
                started: BTreeMap::new(),
                harmed: BTreeMap::new(),
                artifacts: HashMap::new(),
                objects: HashMap::new(),
                boots: HashMap::new(),
                running: HashMap::new(),
                faults_fail: false,
                moments: 0,
                crash_at: None,
            })),
            changed: watch::channel(0).0,
            crashed: Arc::new(Notify::new()),
            start: Instant::now(),
        };
        world.put("Cluster/c", json!({"spec": {"nodes": [{"name": "n1"}, {"name": "n2"}]}}));
        world.put("Node/n2", json!({"status": {"ip": "10.0.0.2"}}));
        world.put("VirtualMachine/n2", world.machine(0, true));
        world.later(5, |world| {
            let mut node = json!({"status": {"ip": "10.0.0.1"}});
            node["status"]["conditions"] = world.ready(true);
            world.put("Node/n1", node);
        });
        world
    }

    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    pub fn put(&self, name: &str, object: Value) {
        self.lock().objects.insert(name.to_owned(), object);
        self.changed.send_modify(|version| *version += 1);
    }

    /// The engine is to stop at this moment, counted from now.
    pub fn crash_in(&self, moments: Option<usize>) {
        let mut inner = self.lock();
        inner.crash_at = moments.map(|n| inner.moments + n);
    }

    fn later(&self, seconds: u64, act: impl FnOnce(&Self) + Send + 'static) {
        let world = self.clone();
        let at = Instant::now() + Duration::from_secs(seconds);
        tokio::spawn(async move {
            sleep_until(at).await;
            act(&world);
        });
    }

    fn ready(&self, ready: bool) -> Value {
        let status = if ready { "True" } else { "False" };
        json!([{"type": "Ready", "status": status, "reason": "World", "message": "",
                "lastTransitionTime": self.now().to_string()}])
    }

    fn machine(&self, restarts: u32, ready: bool) -> Value {
        json!({"status": {"restarts": restarts, "conditions": self.ready(ready)}})
    }

    /// Names of the commands that a guest still knows.
    pub fn remembered(&self) -> Vec<String> {
        self.lock().running.keys().map(|(_, name)| name.clone()).collect()
    }

    /// A moment at which a crash may happen: the engine goes no further than here.
    async fn moment(&self) {
        let crash = {
            let mut inner = self.lock();
            inner.moments += 1;
            inner.crash_at == Some(inner.moments)
        };
        if crash {
            self.crashed.notify_one();
            std::future::pending::<()>().await;
        }
    }

    fn start(&self, machine: &str, request: &ExecRequest) {
        let mut inner = self.lock();
        let words: Vec<&str> = request.command.iter().map(String::as_str).collect();
        let (seconds, code, text) = match words[..] {
            ["run", seconds, code, text] => (seconds.parse().unwrap(), code.parse().unwrap(), text.to_owned()),
            ["third"] => (1, i32::from(!request.name.ends_with("-3")), "counted".to_owned()),
            // A probe: every address answers.
            ["/bin/busybox", "sh", "-c", _, "probe", _, _, ref to @ ..] => {
                (1, 0, to.iter().map(|address| format!("{address} 0 \n")).collect())
            }
            // Tries of a `reachability` step: only TCP port 80 is ever answered.
            ["/bin/busybox", "sh", "-c", _, "reach", _, ref tries @ ..] => {
                let code = |one: &str| if one.starts_with("tcp/") && one.ends_with("/80") { 0 } else { 1 };
                (1, 0, tries.iter().map(|one| format!("{one} {} timed out\n", code(one))).collect())
            }
            _ => (1, 0, String::new()),
        };
        *inner.started.entry(request.name.clone()).or_default() += 1;
        let end = Instant::now() + Duration::from_secs(seconds);
        inner.running.insert((machine.to_owned(), request.name.clone()), (end, code, text));
    }

    fn harm(&self, fault: &Fault) {
        let target = fault.spec.target.name.clone();
        let mut inner = self.lock();
        *inner.harmed.entry(fault.name_any()).or_default() += 1;
        *inner.boots.entry(target.clone()).or_default() += 1;
        inner.running.retain(|(machine, _), _| *machine != target);
        drop(inner);
        self.put(&format!("VirtualMachine/{target}"), self.machine(1, false));
        self.later(10, move |world| {
            world.put(&format!("VirtualMachine/{target}"), world.machine(1, true));
        });
    }
}

impl Effects for World {
    fn now(&self) -> Timestamp {
        let base: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let passed = SignedDuration::try_from(self.start.elapsed()).unwrap();
        base.checked_add(passed).unwrap()
    }

    async fn store(&self, run: &TestRun) -> Result<TestRun, StoreError> {
        self.moment().await;
        let stored = {
            let mut inner = self.lock();
            if inner.stored.metadata.resource_version != run.metadata.resource_version {
                return Err(StoreError::Superseded);
            }
            let phase = |run: &TestRun| run.status.as_ref().map(|status| status.phase);
            assert!(!phase(&inner.stored).is_some_and(|phase| phase.is_final()), "a finished run changes");
            inner.stored = run.clone();
            inner.writes += 1;
            inner.stored.metadata.resource_version = Some((inner.writes + 1).to_string());
            inner.stored.clone()
        };
        self.moment().await;
        Ok(stored)
    }

    async fn exec(&self, machine: &str, request: &ExecRequest) -> Result<ExecResult, ReachError> {
        self.moment().await;
        let key = (machine.to_owned(), request.name.clone());
        let known = self.lock().running.contains_key(&key);
        if !known && !request.command.is_empty() {
            self.start(machine, request);
            self.moment().await;
        }
        let deadline = Instant::now() + Duration::from_secs(request.wait_seconds.into());
        let end = self.lock().running.get(&key).map(|execution| execution.0);
        if let Some(end) = end {
            sleep_until(end.min(deadline)).await;
        }
        let result = {
            let inner = self.lock();
            let boot = inner.boots.get(machine).copied().unwrap_or_default();
            let (state, code, text) = match inner.running.get(&key) {
                None => (ExecState::Lost, None, String::new()),
                Some((end, ..)) if *end > Instant::now() => (ExecState::Running, None, String::new()),
                Some((_, code, text)) => (ExecState::Exited, Some(*code), text.clone()),
            };
            ExecResult {
                state,
                exit_code: code,
                stdout_bytes: text.len() as u64,
                stdout: text,
                stderr: String::new(),
                stderr_bytes: 0,
                boot_id: Some(format!("boot-{boot}")),
            }
        };
        if request.forget && result.state == ExecState::Exited {
            self.lock().running.remove(&key);
        }
        self.moment().await;
        Ok(result)
    }

    async fn inject(&self, fault: &Fault) -> Result<(), ReachError> {
        self.moment().await;
        let name = format!("Fault/{}", fault.name_any());
        let known = self.lock().objects.contains_key(&name);
        if !known {
            let fails = self.lock().faults_fail;
            self.put(&name, json!({}));
            let fault = fault.clone();
            self.later(1, move |world| {
                let phase = if fails { "Failed" } else { "Injected" };
                if !fails {
                    world.harm(&fault);
                }
                world.put(&name, json!({"status": {"phase": phase}}));
            });
        }
        self.moment().await;
        Ok(())
    }

    fn watch(&self, object: &ObjectReference) -> States {
        let name = format!("{}/{}", object.kind, object.name);
        let mut versions = self.changed.subscribe();
        versions.mark_changed();
        let state = (self.clone(), versions, name);
        futures::stream::unfold(state, |(world, mut versions, name)| async move {
            versions.changed().await.ok()?;
            world.moment().await;
            let found = world.lock().objects.get(&name).cloned();
            Some((Ok(found), (world, versions, name)))
        })
        .boxed()
    }

    async fn list(&self, kind: &str) -> Result<Vec<Value>, ReachError> {
        self.moment().await;
        let of_it = format!("{kind}/");
        let inner = self.lock();
        let named = inner.objects.iter().filter(|(name, _)| name.starts_with(&of_it));
        // Names of machines and nodes that only their status matters of have no spec.
        Ok(named.map(|(_, object)| object.clone()).filter(|object| object["spec"].is_object()).collect())
    }

    async fn save(&self, path: &str, content: &str) -> Result<(), SaveError> {
        self.moment().await;
        self.lock().artifacts.insert(path.to_owned(), content.to_owned());
        self.moment().await;
        Ok(())
    }
}
