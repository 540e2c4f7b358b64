//! FlashDNS on this host: each network here answers for its own names and for all zones of its tenant.
//!
//! The network's own names come with a pass over it. A tenant's zones come by a watch for each namespace that has a network
//! here, begun with the first and ended with the last, and go from there straight into the files of its name servers: so a
//! record is known within moments, and no pass over a network is made for it.

pub mod plan;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crds::{DNSRecordSet, DNSZone};
use dns::part;
use host::nameserver;
use kube::{Api, Client};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use control_loop::{Cache, sentence, watch};

/// What is applied in one go is written in one go.
const GATHER: Duration = Duration::from_millis(5);

/// The tenants that have networks here.
pub struct Tenants {
    client: Client,
    /// By namespace.
    followed: Mutex<HashMap<String, Followed>>,
}

struct Followed {
    tenant: Arc<Tenant>,
    _watch: AbortOnDropHandle<()>,
}

struct Tenant {
    zones: Cache<DNSZone>,
    sets: Cache<DNSRecordSet>,
    /// Directories of its networks' name servers, by the network's UID.
    networks: Mutex<BTreeMap<String, PathBuf>>,
}

impl Tenants {
    /// Nobody yet.
    pub fn new(client: Client) -> Tenants {
        Tenants { client, followed: Mutex::default() }
    }

    /// From now on the network's name server, whose directory is there, is told of its tenant's zones. Before they have been
    /// heard its file stays as it is.
    pub fn follow(&self, namespace: &str, network: &str, state: &Path) {
        let mut followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        let one = followed.entry(namespace.to_owned()).or_insert_with(|| self.begin(namespace));
        one.tenant.networks().insert(network.to_owned(), state.to_owned());
        one.tenant.write();
    }

    /// The network is here no more.
    pub fn forget(&self, network: &str) {
        let mut followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        followed.retain(|_, one| {
            let mut networks = one.tenant.networks();
            networks.remove(network);
            !networks.is_empty()
        });
    }

    fn begin(&self, namespace: &str) -> Followed {
        let ((zones, zone_writer), (sets, set_writer)) = (Cache::new(), Cache::new());
        let tenant = Arc::new(Tenant { zones, sets, networks: Mutex::default() });
        let changed = Arc::new(Notify::new());
        let (zone_api, set_api) =
            (Api::namespaced(self.client.clone(), namespace), Api::namespaced(self.client.clone(), namespace));
        let followed = tenant.clone();
        let task = tokio::spawn(async move {
            let (by_zone, by_set) = (changed.clone(), changed.clone());
            // Neither is ever cancelled but with this task.
            let zones = watch(zone_api, None, zone_writer, None, move |_: &DNSZone| by_zone.notify_one(), forever());
            let sets = watch(set_api, None, set_writer, None, move |_: &DNSRecordSet| by_set.notify_one(), forever());
            let heard = async {
                tenant.zones.ready().await;
                tenant.sets.ready().await;
                // Of nothing there is no event.
                changed.notify_one();
            };
            let written = async {
                loop {
                    changed.notified().await;
                    tokio::time::sleep(GATHER).await;
                    tenant.write();
                }
            };
            futures::join!(zones, sets, heard, written);
        });
        Followed { tenant: followed, _watch: AbortOnDropHandle::new(task) }
    }
}

fn forever() -> CancellationToken {
    CancellationToken::new()
}

impl Tenant {
    fn networks(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, PathBuf>> {
        self.networks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what has been heard to all its networks. Under their lock, so that of two writers the later one has read the
    /// newer state, and none writes to a network that was given up.
    fn write(&self) {
        let networks = self.networks();
        let heard = self.zones.is_ready() && self.sets.is_ready();
        if !heard || networks.is_empty() {
            return;
        }
        let part = plan::tenants_part(&self.zones.all(), &self.sets.all());
        // Such text has no map with other keys than strings, which alone could fail.
        let Ok(text) = serde_json::to_string(&part) else { return };
        for state in networks.values() {
            if let Err(error) = nameserver::write(state, part::ZONES, &text) {
                tracing::warn!(error = sentence(&error), "failed to tell a name server of its tenant's zones");
            }
        }
    }
}
