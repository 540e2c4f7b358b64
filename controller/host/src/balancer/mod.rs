//! Connections to a service, shared out among backends: layer 4, in the kernel.
//!
//! A service has an address of the network that the bridge itself answers for. What a guest sends there is translated at the entry
//! of the bridge on the guest's own host, and goes on as if it had been sent to the backend: bridged, under the guest's own
//! address. The backend answers to the guest directly; the answer passes the same bridge, where it is translated back.
//!
//! ```text
//!  client ─► bridge, inet prerouting ─────────────────────► bridge ─► backend's tap, or the tunnel
//!             │ services[protocol, address, port]
//!             │   └► its chain: slots[next] ─► dnat                (a connection's first packet only)
//!  client ◄─ bridge, inet postrouting ◄───────────────────── bridge ◄─ backend
//!             │ the kernel remembers: from the service again
//! ```
//!
//! That needs the bridge to show its packets to the `inet` family, as groups do (see [`crate::firewall`]). Which chain a new
//! connection goes to, and which backend it gets, is one lookup each, however many there are. A service nobody answers for has no
//! chain: the kernel itself refuses the connection, since nobody listens at that address.
//!
//! A guest may be its own backend. Then it would hear itself under its own address and drop that; it hears the network's instead, and
//! its bridge port may send back where it received from, except to all.

//!
//! Of what a proxy here says under its clients' addresses ([`crate::proxy`]) the answers are addressed to the clients. So such
//! conversations are marked as they begin; the answers are then given to the bridge itself instead of to the guest, and a route for this
//! mark alone ([`crate::link::Links::ensure_kept`]) says that they are meant for a process here.

mod render;
mod service;

use serde::{Deserialize, Serialize};

use crate::firewall::show_bridged_packets;
use crate::link::{self, Change, Changes, LinkName};
use crate::nft::{self, Done, Family};

/// Mark of what answers a proxy here.
pub const PROXY_MARK: u32 = 0x0400_0000;

pub use crate::nft::{Error, Place, Result};
pub use service::{Backend, Balancer, Protocol, Proxied, Service, ServiceId};

/// How both tables were written last and how they were listed then: to be kept across restarts, and handed in the next time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Stands {
    translation: nft::Stands,
    reflection: nft::Stands,
}

/// Makes the services work in the namespace of `bridge`.
///
/// # Errors
/// nft's; until it succeeds what was there stands.
pub async fn ensure(place: &Place, bridge: &LinkName, wanted: &Balancer, stands: &mut Stands) -> Result<Changes> {
    let mut changes = Changes::default();
    changes.extend(show_bridged_packets(&place.namespace, false).await?);
    changes.extend(let_pass(place, bridge).await?);
    let services = wanted.services.len();
    let both = [
        (Family::Inet, render::translation(wanted), &mut stands.translation),
        (Family::Bridge, render::reflection(wanted), &mut stands.reflection),
    ];
    for (family, table, stands) in both {
        let found = nft::look_in(place, family).await?;
        let name = &place.table;
        match nft::ensure(place, &[family], table, &found, stands).await? {
            Done::Nothing => {}
            Done::Whole => {
                let message = format!("wrote the load balancer {name} of {services} services");
                changes.push(Change::new("BalancerWritten", message));
            }
            Done::Changed(lines) => {
                let message = format!("changed the load balancer {name} with {lines} instructions");
                changes.push(Change::new("BalancerChanged", message));
            }
        }
    }
    Ok(changes)
}

/// Takes both tables away. That there are none is as well.
///
/// # Errors
/// nft's.
pub async fn remove(place: &Place) -> Result<()> {
    nft::remove(place, &[Family::Inet, Family::Bridge]).await
}

/// Lets the bridge pass on what was translated: newer kernels ask for leave to forward, though it never leaves the bridge. Nobody is
/// told of a shorter way, for there is none.
async fn let_pass(place: &Place, bridge: &LinkName) -> Result<Option<Change>> {
    let changed = link::ensure_passing_on(&place.namespace, bridge).await?;
    let changed = changed.map_err(|source| Error::Setting { name: link::SETTINGS, source })?;
    Ok(changed.then(|| Change::new("BalancerWritten", format!("let bridge {bridge} pass on what is translated"))))
}
