//! Our own etcd: a real one, as a child that outlives us.
//!
//! ```text
//!   start ─┬─ recorded and alive ─► ready? ── yes ─► adopted ─┐
//!          │                          └── no ─► end it ─┐     ▼
//!          └─ none ─────────────────────────► launch ◄──┴── supervised ── it died ─► back off ─► launch
//!   drop: etcd goes on, for the next start to adopt          stop: etcd ends
//! ```

mod error;
mod home;
mod launch;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use process::ProcessId;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

pub use error::EtcdError;
use home::{Home, Lock, Ports};
use launch::{Launch, client_url};

use crate::metrics::Metrics;
use crate::{StoreOptions, TlsFiles};

/// How long a process found running may take to answer before it is replaced.
const ADOPT: Duration = Duration::from_secs(20);
/// How long etcd may take to end by itself.
const GRACE: Duration = Duration::from_secs(10);
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A life this long was a good one: the next restart is quick again.
const GOOD_LIFE: Duration = Duration::from_secs(30);

/// Where our etcd lives.
#[derive(Clone, Debug)]
pub struct EtcdOptions {
    /// The program; `None` looks in `CLUSTERCTL_ETCD`, then on `PATH`, then in the tools directory.
    pub binary: Option<PathBuf>,
    /// Its data, ports and process record.
    pub data_dir: PathBuf,
    /// Its certificates: an authority of its own, that nothing else trusts.
    pub pki_dir: PathBuf,
    /// The file its output is appended to.
    pub log: PathBuf,
    /// Bytes its data may take; `None` is [`EtcdOptions::QUOTA`].
    pub quota: Option<u64>,
}

impl EtcdOptions {
    /// The usual quota, which is also the largest that etcd advises: 8 GiB.
    pub const QUOTA: u64 = 8 << 30;
}

/// A running etcd, started again whenever it dies. Dropping this leaves it running.
pub struct Etcd {
    launch: Arc<Launch>,
    ports: Ports,
    adopted: bool,
    supervisor: Mutex<Option<JoinHandle<()>>>,
    _lock: Lock,
}

impl Etcd {
    /// Adopts the etcd of this directory, or starts one; returns once it answers.
    pub async fn start(options: EtcdOptions) -> Result<Etcd, EtcdError> {
        let binary = program(&options)?;
        let (home, lock) = Home::open(&options)?;
        let log = std::path::absolute(&options.log).map_err(home::failed("resolve", &options.log))?;
        let quota = options.quota.unwrap_or(EtcdOptions::QUOTA);
        let launch = Arc::new(Launch { binary, log, home, quota });
        let metrics = Metrics::shared().map_err(crate::Error::from)?;
        let (id, ports, adopted) = match adopt(&launch).await? {
            Some((id, ports)) => (id, ports, true),
            None => {
                let (id, ports) = start_new(&launch).await?;
                (id, ports, false)
            }
        };
        tracing::info!(pid = id.pid, adopted, endpoint = client_url(ports), "etcd runs");
        let supervisor = tokio::spawn(supervise(launch.clone(), ports, id, metrics));
        let supervisor = Mutex::new(Some(supervisor));
        Ok(Etcd { launch, ports, adopted, supervisor, _lock: lock })
    }

    /// How to reach the etcd of this directory when another process runs it; `None` when none runs.
    pub fn running(options: &EtcdOptions) -> Result<Option<StoreOptions>, EtcdError> {
        let home = Home::of(options)?;
        Ok(home.running().zip(home.ports()).map(|(_, ports)| {
            let files = home.client_files();
            StoreOptions::new(vec![client_url(ports)], Some(files))
        }))
    }

    /// The client URLs.
    pub fn endpoints(&self) -> Vec<String> {
        vec![client_url(self.ports)]
    }

    /// Certificates for clients.
    pub fn tls(&self) -> TlsFiles {
        self.launch.home.client_files()
    }

    /// Options for the one [`crate::Store`] of this etcd: our lock on its directory makes it the sole writer.
    pub fn store_options(&self) -> StoreOptions {
        StoreOptions { sole_writer: true, ..StoreOptions::new(self.endpoints(), Some(self.tls())) }
    }

    /// Whether it was found running.
    pub fn was_adopted(&self) -> bool {
        self.adopted
    }

    /// The process, unless it is being started again just now.
    pub fn process(&self) -> Option<ProcessId> {
        self.launch.running()
    }

    /// Ends etcd and its supervision.
    pub async fn stop(&self) -> Result<(), EtcdError> {
        if let Some(supervisor) = self.take_supervisor() {
            supervisor.abort();
            // Cancelled, as it was asked to be.
            let _ = supervisor.await;
        }
        match self.launch.running() {
            Some(id) => end(id).await,
            None => Ok(()),
        }
    }

    fn take_supervisor(&self) -> Option<JoinHandle<()>> {
        self.supervisor.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        if let Some(supervisor) = self.take_supervisor() {
            supervisor.abort();
        }
    }
}

fn program(options: &EtcdOptions) -> Result<PathBuf, EtcdError> {
    let found = match &options.binary {
        Some(path) if path.is_file() => Ok(path.clone()),
        Some(path) => {
            Err(process::Error::OverrideNotExecutable { variable: "--etcd-binary".to_owned(), path: path.clone() })
        }
        None => process::find_program("etcd", "CLUSTERCTL_ETCD"),
    };
    found.map_err(|source| EtcdError::Missing { source })
}

async fn end(id: ProcessId) -> Result<(), EtcdError> {
    id.terminate(GRACE).await.map_err(|source| EtcdError::Process { action: "end", source })
}

/// A process that runs and answers where it was recorded; one that does not answer is ended.
async fn adopt(launch: &Launch) -> Result<Option<(ProcessId, Ports)>, EtcdError> {
    let Some(id) = launch.running() else {
        return Ok(None);
    };
    if let Some(ports) = launch.home.ports() {
        let ready = tokio::select! {
            ready = tokio::time::timeout(ADOPT, launch.ready(ports)) => matches!(ready, Ok(Ok(()))),
            () = id.exited() => false,
        };
        if ready {
            return Ok(Some((id, ports)));
        }
    }
    tracing::warn!(pid = id.pid, "the etcd found running does not answer, replacing it");
    end(id).await?;
    Ok(None)
}

/// On the ports of last time. The first start may choose others when somebody is quicker than us.
async fn start_new(launch: &Launch) -> Result<(ProcessId, Ports), EtcdError> {
    const TRIES: usize = 3;
    if let Some(ports) = launch.home.kept_ports() {
        return Ok((launch.run(ports).await?, ports));
    }
    let mut tried = 1;
    loop {
        let ports = launch.home.new_ports()?;
        match launch.run(ports).await {
            Ok(id) => return Ok((id, ports)),
            Err(EtcdError::PortTaken(_)) if tried < TRIES => tried += 1,
            Err(error) => return Err(error),
        }
    }
}

/// Restarts keep their ports: the store's connection finds etcd again by itself.
async fn supervise(launch: Arc<Launch>, ports: Ports, first: ProcessId, metrics: Arc<Metrics>) {
    let mut current = first;
    let mut pause = SHORTEST_PAUSE;
    loop {
        let born = Instant::now();
        current.exited().await;
        tracing::warn!(pid = current.pid, log = %launch.log.display(), "etcd died, starting it again");
        if born.elapsed() > GOOD_LIFE {
            pause = SHORTEST_PAUSE;
        }
        current = loop {
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            metrics.etcd_restarts.inc();
            match launch.run(ports).await {
                Ok(id) => break id,
                Err(error) => {
                    tracing::error!(%error, category = error.category(), "etcd does not start")
                }
            }
            // It may run and not answer: two on one directory would wait for each other.
            if let Some(id) = launch.running()
                && let Err(error) = end(id).await
            {
                tracing::error!(%error, "etcd does not end");
            }
        };
    }
}
