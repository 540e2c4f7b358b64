//! The process: started as its own user, remembered, adopted, stopped.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use process::{ProcessId, Record, Spawn};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::config::Paths;
use super::{Error, Place, Result, Server};
use crate::link::Link;
use crate::netns;

/// It ends within milliseconds of being asked.
const GRACE: Duration = Duration::from_secs(5);
/// A loaded machine may take its time to start a program.
const START_DEADLINE: Duration = Duration::from_secs(20);
/// What serving DHCP and DNS takes and nothing more: adding to the ARP table, frames to guests without an address, ports 53 and 67.
const CAPABILITIES: &str = "-all,+net_admin,+net_raw,+net_bind_service";
/// Ports on which it serves DHCP, with where the kernel tells of sockets.
const FOUR: (&str, u16) = ("udp", 67);
const SIX: (&str, u16) = ("udp6", 547);
const LOG_TAIL: usize = 600;

/// What a running dnsmasq was started with; with another one it is not the dnsmasq we want.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Fingerprint {
    bridge_index: u32,
    /// Its name service is bound to these.
    bridge_addresses: Vec<IpNet>,
    namespace_inode: u64,
    user: (u32, u32),
    config: String,
}

impl Fingerprint {
    pub(super) fn new(place: &Place, bridge: &Link, config: &str) -> Fingerprint {
        let mut bridge_addresses = bridge.addresses.clone();
        bridge_addresses.sort_unstable();
        Fingerprint {
            bridge_index: bridge.index,
            bridge_addresses,
            namespace_inode: place.namespace.inode(),
            user: place.uid_gid,
            config: digest(config),
        }
    }
}

/// A text's digest, to know it again.
pub(super) fn digest(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A dnsmasq as remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Running {
    /// Its process.
    pub process: Record,
    started_with: Fingerprint,
    /// Digest of the reservations that it was last told of. Written after the telling: when we die in between, it is
    /// told once more.
    pub(super) told: String,
}

impl Running {
    /// The process, while it lives.
    pub fn id(&self) -> Option<ProcessId> {
        self.process.running()
    }

    pub(super) fn save(&self, paths: &Paths) -> Result<()> {
        let failed = || Error::file("write", &paths.running);
        let text = serde_json::to_vec_pretty(self).map_err(|error| failed()(error.into()))?;
        process::replace_file(&paths.running, text, 0o600).map_err(failed())
    }

    /// Why it has to be started anew; none when it is as wanted.
    pub(super) fn why_not(&self, wanted: &Fingerprint) -> Option<&'static str> {
        let had = &self.started_with;
        match () {
            () if self.id().is_none() => Some("it had ended"),
            () if had.namespace_inode != wanted.namespace_inode => Some("the namespace is a new one"),
            () if had.bridge_index != wanted.bridge_index => Some("the bridge is a new one"),
            () if had.bridge_addresses != wanted.bridge_addresses => Some("the bridge's addresses changed"),
            () if had != wanted => Some("its configuration changed"),
            () => None,
        }
    }
}

pub(super) fn load(paths: &Paths) -> Result<Option<Running>> {
    match fs::read(&paths.running) {
        // What cannot be read is as good as not remembered: its process is found by its tag before a new one starts.
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::file("read", &paths.running)(error)),
    }
}

/// Several hosts of one machine may serve one network, so the owner alone does not tell theirs from ours.
fn tag(owner: &str, paths: &Paths) -> String {
    format!("dnsmasq/{owner}@{}", paths.state.display())
}

/// Ends the remembered process and any that was started but not remembered; false when there was none.
pub(super) async fn stop(paths: &Paths, owner: &str) -> Result<bool> {
    let mut ids = process::find_owned(&tag(owner, paths));
    ids.extend(load(paths)?.and_then(|running| running.id()).filter(|id| !ids.contains(id)));
    for id in &ids {
        id.terminate(GRACE).await?;
    }
    match fs::remove_file(&paths.running) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::file("remove", &paths.running)(error)),
        _ => Ok(!ids.is_empty()),
    }
}

pub(super) async fn start(
    place: &Place,
    server: &Server,
    paths: &Paths,
    started_with: Fingerprint,
    told: String,
) -> Result<()> {
    let tag = tag(&server.owner, paths);
    let spawn = Spawn {
        args: arguments(place, paths),
        tag: tag.clone(),
        ..Spawn::new(process::find_program("setpriv", "CLUSTERCTL_SETPRIV")?, &paths.log)
    };
    // What an earlier one said would be taken for this one's.
    truncate(&paths.log)?;
    let id = netns::enter(&place.namespace, move || spawn.start()).await??;
    let process = Record::new(id, place.program.display().to_string(), tag);
    Running { process, started_with, told }.save(paths)?;
    // Where there is IPv4, its socket is the last of the two.
    let socket = if server.ranges.is_empty() { SIX } else { FOUR };
    wait_until_serving(id, paths, socket).await
}

fn arguments(place: &Place, paths: &Paths) -> Vec<String> {
    let (uid, gid) = place.uid_gid;
    vec![
        format!("--reuid={uid}"),
        format!("--regid={gid}"),
        "--clear-groups".to_owned(),
        format!("--inh-caps={CAPABILITIES}"),
        format!("--ambient-caps={CAPABILITIES}"),
        format!("--bounding-set={CAPABILITIES}"),
        "--no-new-privs".to_owned(),
        "--".to_owned(),
        place.program.display().to_string(),
        format!("--conf-file={}", paths.config.display()),
    ]
}

fn truncate(log: &Path) -> Result<()> {
    match fs::OpenOptions::new().write(true).truncate(true).open(log) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::file("empty", log)(error)),
        _ => Ok(()),
    }
}

/// Tells it to read its files again. A process that has just ended is started again by the next look, so is no error.
pub(super) fn reload(id: ProcessId) -> Result<()> {
    match id.signal(rustix::process::Signal::HUP) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(process::Error::Signal { pid: id.pid, source: error }.into())
        }
        _ => Ok(()),
    }
}

/// Returns once its DHCP socket is there: from then on it also survives a SIGHUP, whose handler comes earlier.
async fn wait_until_serving(id: ProcessId, paths: &Paths, socket: (&str, u16)) -> Result<()> {
    let start = Instant::now();
    while !has_dhcp_socket(id, socket) {
        if !id.is_alive() {
            return Err(Error::Died { log: tail(&paths.log) });
        }
        if start.elapsed() > START_DEADLINE {
            return Err(Error::NotServing { seconds: START_DEADLINE.as_secs(), log: tail(&paths.log) });
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// Whether one of the process's own descriptors is a UDP socket on the DHCP port (others in the namespace may have one too).
fn has_dhcp_socket(id: ProcessId, (kind, port): (&str, u16)) -> bool {
    let table = fs::read_to_string(format!("/proc/{}/net/{kind}", id.pid)).unwrap_or_default();
    let suffix = format!(":{port:04X}");
    let on_port = table.lines().skip(1).filter_map(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        words.get(1).filter(|address| address.ends_with(&suffix))?;
        words.get(9).map(|inode| format!("socket:[{inode}]"))
    });
    let sockets: Vec<String> = on_port.collect();
    let descriptors = fs::read_dir(format!("/proc/{}/fd", id.pid)).into_iter().flatten().flatten();
    let mut targets = descriptors.filter_map(|entry| fs::read_link(entry.path()).ok());
    !sockets.is_empty() && targets.any(|target| sockets.iter().any(|socket| target == Path::new(socket)))
}

fn tail(log: &Path) -> String {
    let text = String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).trim().to_owned();
    let from = text.len().saturating_sub(LOG_TAIL);
    let from = (from..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text[from..].to_owned()
}
