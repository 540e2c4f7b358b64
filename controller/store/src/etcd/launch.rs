//! One life of etcd: start it, wait until it answers, or say why it does not.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use process::{ProcessId, Record, Spawn};
use tokio::time::{Instant, sleep};

use super::EtcdError;
use super::home::{Home, Ports};
use crate::StoreOptions;
use crate::keys::Keys;
use crate::link::Link;

/// Replaying a long log under emulation takes its time.
const READY: Duration = Duration::from_secs(60);
const ASK_AGAIN: Duration = Duration::from_millis(50);
const LARGEST_LOG: u64 = 64 << 20;
const TAIL: u64 = 4096;

/// How to start etcd in its home.
pub(super) struct Launch {
    pub(super) binary: PathBuf,
    pub(super) log: PathBuf,
    pub(super) home: Home,
    pub(super) quota: u64,
}

impl Launch {
    /// Starts etcd; returns once it answers.
    pub(super) async fn run(&self, ports: Ports) -> Result<ProcessId, EtcdError> {
        ports.are_free().await?;
        self.turn_log();
        let logged = fs::metadata(&self.log).map_or(0, |log| log.len());
        let id = self.spawn(ports)?;
        tokio::select! {
            ready = self.ready(ports) => ready?,
            () = id.exited() => {
                // Somebody may have been quicker than etcd; it knows not who.
                ports.are_free().await?;
                return Err(self.diagnose(logged));
            }
        }
        Ok(id)
    }

    /// No await between start and record: whoever aborts us leaves a recorded process.
    fn spawn(&self, ports: Ports) -> Result<ProcessId, EtcdError> {
        let tag = self.home.tag();
        let mut spawn = Spawn::new(&self.binary, &self.log);
        spawn.args = arguments(&self.home, ports, self.quota);
        spawn.tag.clone_from(&tag);
        let failed = |action| move |source| EtcdError::Process { action, source };
        let id = spawn.start().map_err(failed("start"))?;
        Record::new(id, self.binary.display().to_string(), tag).save(&self.home.record()).map_err(failed("record"))?;
        Ok(id)
    }

    /// Waits for a linearizable read.
    pub(super) async fn ready(&self, ports: Ports) -> Result<(), EtcdError> {
        let options = StoreOptions::new(vec![client_url(ports)], Some(self.home.client_files()));
        let link = Link::connect(&options, Keys::new(&options.prefix)).await?;
        let deadline = Instant::now() + READY;
        while Instant::now() < deadline {
            let attempt = Instant::now() + Duration::from_secs(1);
            if link.revision(attempt).await.is_ok() {
                return Ok(());
            }
            sleep(ASK_AGAIN).await;
        }
        Err(EtcdError::Unready { log: self.log.clone(), waited: READY })
    }

    /// The process our record or its environment names, when it still runs.
    pub(super) fn running(&self) -> Option<ProcessId> {
        self.home.running()
    }

    fn turn_log(&self) {
        if fs::metadata(&self.log).is_ok_and(|log| log.len() > LARGEST_LOG) {
            // The old log stays where it is if this fails.
            let _ = fs::rename(&self.log, self.log.with_extension("log.1"));
        }
    }

    fn diagnose(&self, logged: u64) -> EtcdError {
        let tail = tail(&self.log, logged).unwrap_or_default();
        diagnose(&tail, self.home.path(), &self.log)
    }
}

/// What etcd's last words mean; they are Go's errno texts.
fn diagnose(tail: &str, data: &Path, log: &Path) -> EtcdError {
    let path = data.to_owned();
    if tail.contains("no space left on device") {
        return EtcdError::DiskFull { path };
    }
    if tail.contains("permission denied") || tail.contains("read-only file system") {
        let (action, source) = ("write", std::io::ErrorKind::PermissionDenied.into());
        return EtcdError::File { action, path, source };
    }
    let last = tail.lines().rev().find(|line| !line.trim().is_empty());
    let (log, tail) = (log.to_owned(), last.unwrap_or("nothing").to_owned());
    EtcdError::Died { log, tail }
}

/// What was written to the log after `from`, or the end of that.
fn tail(log: &Path, from: u64) -> std::io::Result<String> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(from.max(length.saturating_sub(TAIL))))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

pub(super) fn client_url(ports: Ports) -> String {
    format!("https://127.0.0.1:{}", ports.client)
}

/// The command line. Compaction is ours (`upkeep`), so etcd's own stays off.
fn arguments(home: &Home, ports: Ports, quota: u64) -> Vec<String> {
    const NAME: &str = "clusterctl";
    let (client, peer) = (client_url(ports), format!("https://127.0.0.1:{}", ports.peer));
    let files = home.server_files();
    let mut arguments = vec![
        format!("--name={NAME}"),
        format!("--data-dir={}", home.member().display()),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster={NAME}={peer}"),
        "--client-cert-auth=true".to_owned(),
        "--peer-client-cert-auth=true".to_owned(),
        "--auto-compaction-retention=0".to_owned(),
        format!("--quota-backend-bytes={quota}"),
        // The default of 100,000 keeps that many raft entries in memory.
        "--snapshot-count=10000".to_owned(),
        "--logger=zap".to_owned(),
        "--log-outputs=stderr".to_owned(),
    ];
    for (prefix, ca) in [("", "trusted-ca-file"), ("peer-", "peer-trusted-ca-file")] {
        arguments.push(format!("--{prefix}cert-file={}", files.cert.display()));
        arguments.push(format!("--{prefix}key-file={}", files.key.display()));
        arguments.push(format!("--{ca}={}", files.ca.display()));
    }
    arguments
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::EtcdOptions;

    fn diagnosed(tail: &str) -> EtcdError {
        diagnose(tail, Path::new("/data"), Path::new("/log"))
    }

    #[test]
    fn last_words_are_understood() {
        let full = diagnosed("write /data/member/wal/0.tmp: no space left on device\n");
        assert!(matches!(full, EtcdError::DiskFull { .. }), "{full:?}");
        let denied = diagnosed("open /data/member/snap/db: permission denied");
        assert!(matches!(denied, EtcdError::File { action: "write", .. }), "{denied:?}");
        let unknown = diagnosed("first\npanic: something else\n\n");
        assert!(unknown.to_string().contains("panic: something else"), "{unknown}");
    }

    #[tokio::test]
    async fn a_taken_port_is_named_and_etcd_starts_once_it_is_free() {
        let scratch = testkit::Scratch::new().unwrap();
        let options = EtcdOptions {
            binary: None,
            data_dir: scratch.join("etcd"),
            pki_dir: scratch.join("pki"),
            log: scratch.join("etcd.log"),
            quota: None,
        };
        let (home, _lock) = Home::open(&options).unwrap();
        let ports = home.new_ports().unwrap();
        let binary = process::find_program("etcd", "CLUSTERCTL_ETCD").unwrap();
        let launch = Launch { binary, log: options.log, home, quota: EtcdOptions::QUOTA };
        let taken = TcpListener::bind(("127.0.0.1", ports.client)).unwrap();
        let error = launch.run(ports).await.unwrap_err();
        assert!(matches!(error, EtcdError::PortTaken(_)) && error.to_string().contains("(process "), "{error:?}");
        assert!(launch.running().is_none(), "etcd was started where it cannot serve");
        drop(taken);
        let id = launch.run(ports).await.unwrap();
        assert_eq!(launch.running(), Some(id));
    }
}
