//! etcd's place on disk and on loopback: directories, lock, certificates, ports.
//!
//! ```text
//!   <data_dir>/lock          held while we supervise: two supervisors would both believe to be sole writers
//!   <data_dir>/member/       etcd's own data directory
//!   <data_dir>/ports.json    chosen once, so that a restarted etcd is found where it was
//!   <data_dir>/process.json  which process it is (process::Record)
//!   <pki_dir>/               an authority for etcd alone
//! ```

use std::fs::{self, DirBuilder, File};
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use pki::{Authority, Subject, Usage};
use process::{Claims, ProcessId, Record};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::{EtcdError, EtcdOptions};
use crate::TlsFiles;

/// Where etcd listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ports {
    pub(super) client: u16,
    pub(super) peer: u16,
}

impl Ports {
    /// That nobody has them, or who does.
    pub(super) async fn are_free(self) -> Result<(), EtcdError> {
        for port in [self.client, self.peer] {
            drop(process::listen((Ipv4Addr::LOCALHOST, port).into()).await.map_err(EtcdError::PortTaken)?);
        }
        Ok(())
    }
}

/// The prepared place.
pub(super) struct Home {
    dir: PathBuf,
    pki: PathBuf,
}

/// Held by whoever supervises; goes with its owner at once, not when some task lets go of the home.
pub(super) struct Lock {
    _file: File,
}

impl Home {
    pub(super) fn open(options: &EtcdOptions) -> Result<(Home, Lock), EtcdError> {
        let dir = absolute(&options.data_dir)?;
        for made in [&dir, &dir.join("member")] {
            let mut builder = DirBuilder::new();
            builder.recursive(true).mode(0o700).create(made).map_err(failed("create", made))?;
        }
        let lock = take_lock(&dir)?;
        let home = Home { dir, pki: absolute(&options.pki_dir)? };
        home.issue_certificates()?;
        Ok((home, lock))
    }

    /// The place as it is, whoever holds it; nothing is made.
    pub(super) fn of(options: &EtcdOptions) -> Result<Home, EtcdError> {
        Ok(Home { dir: absolute(&options.data_dir)?, pki: absolute(&options.pki_dir)? })
    }

    /// The process our record or its environment names, when it still runs.
    pub(super) fn running(&self) -> Option<ProcessId> {
        // An unreadable record is no record.
        let recorded = Record::load(&self.record()).ok().flatten();
        recorded.and_then(|record| record.running()).or_else(|| find_tagged(&self.tag()))
    }

    /// etcd's grpc-gateway dials etcd itself with the server's certificate, hence [`Usage::Both`].
    fn issue_certificates(&self) -> Result<(), EtcdError> {
        let authority = Authority::load_or_create(&self.pki, "clusterctl etcd authority")?;
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let server = Subject { common_name: "etcd".to_owned(), organizations: Vec::new() };
        authority.load_or_issue(&self.pki, "server", &server, &Usage::Both { names })?;
        let client = Subject { common_name: "store".to_owned(), organizations: Vec::new() };
        authority.load_or_issue(&self.pki, "client", &client, &Usage::Client)?;
        Ok(())
    }

    pub(super) fn path(&self) -> &Path {
        &self.dir
    }

    pub(super) fn record(&self) -> PathBuf {
        self.dir.join("process.json")
    }

    pub(super) fn member(&self) -> PathBuf {
        self.dir.join("member")
    }

    /// In the environment of our etcd, so that one whose record was never written can be found.
    pub(super) fn tag(&self) -> String {
        format!("etcd:{}", self.dir.display())
    }

    pub(super) fn client_files(&self) -> TlsFiles {
        self.files("client")
    }

    pub(super) fn server_files(&self) -> TlsFiles {
        self.files("server")
    }

    fn files(&self, name: &str) -> TlsFiles {
        TlsFiles {
            ca: self.pki.join("ca.crt"),
            cert: self.pki.join(format!("{name}.crt")),
            key: self.pki.join(format!("{name}.key")),
        }
    }

    fn ports_file(&self) -> PathBuf {
        self.dir.join("ports.json")
    }

    /// The ports recorded, whoever listens there.
    pub(super) fn ports(&self) -> Option<Ports> {
        serde_json::from_slice(&fs::read(self.ports_file()).ok()?).ok()
    }

    /// Claims the ports recorded anew, when there are any.
    pub(super) fn kept_ports(&self) -> Option<Ports> {
        let ports = self.ports()?;
        Claims::of_machine().renew(&self.ports_file(), &[ports.client, ports.peer]);
        Some(ports)
    }

    /// Other ports than anybody's, recorded from now on.
    pub(super) fn new_ports(&self) -> Result<Ports, EtcdError> {
        let path = self.ports_file();
        let remember = |[client, peer]: [u16; 2]| {
            let text = serde_json::to_vec(&Ports { client, peer })?;
            process::write_atomic(&path, text, 0o600)
        };
        let chosen = Claims::of_machine().choose(&path, remember).map_err(failed("choose ports for", &path))?;
        let [client, peer] = chosen;
        Ok(Ports { client, peer })
    }
}

fn absolute(path: &Path) -> Result<PathBuf, EtcdError> {
    std::path::absolute(path).map_err(failed("resolve", path))
}

pub(super) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> EtcdError {
    let path = path.to_owned();
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => EtcdError::DiskFull { path },
        _ => EtcdError::File { action, path, source },
    }
}

fn take_lock(dir: &Path) -> Result<Lock, EtcdError> {
    let path = dir.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed("write", &path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Lock { _file: file }),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(EtcdError::Locked { path: dir.to_owned() }),
        Err(errno) => Err(failed("lock", &path)(errno.into())),
    }
}

/// A process with our owner's tag: started just before we were killed, and not recorded.
fn find_tagged(tag: &str) -> Option<ProcessId> {
    let wanted = format!("{}={tag}", process::OWNER_VARIABLE);
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let environment = fs::read(entry.path().join("environ")).ok()?;
        let tagged = environment.split(|byte| *byte == 0).any(|pair| pair == wanted.as_bytes());
        if tagged { ProcessId::of(pid) } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn options(dir: &Path) -> EtcdOptions {
        EtcdOptions {
            binary: None,
            data_dir: dir.join("etcd"),
            pki_dir: dir.join("pki"),
            log: dir.join("etcd.log"),
            quota: None,
        }
    }

    #[tokio::test]
    async fn ports_stay_and_who_takes_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (home, _lock) = Home::open(&options(dir.path())).unwrap();
        assert_eq!(home.kept_ports(), None);
        let first = home.new_ports().unwrap();
        first.are_free().await.unwrap();
        for port in [first.client, first.peer] {
            let taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
            assert_eq!(home.kept_ports(), Some(first));
            let said = first.are_free().await.unwrap_err().to_string();
            let us = format!("(process {})", std::process::id());
            assert!(said.contains(&format!("127.0.0.1:{port} is taken by ")) && said.contains(&us), "{said}");
            drop(taken);
        }
        Claims::of_machine().release(dir.path());
    }

    #[test]
    fn one_directory_has_one_supervisor() {
        let dir = tempfile::tempdir().unwrap();
        let first = Home::open(&options(dir.path())).unwrap();
        assert!(matches!(Home::open(&options(dir.path())), Err(EtcdError::Locked { .. })));
        drop(first);
        Home::open(&options(dir.path())).unwrap();
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("etcd"), "in the way").unwrap();
        let error = Home::open(&options(dir.path())).err().unwrap();
        assert!(error.to_string().contains("/etcd"), "{error}");
    }
}
