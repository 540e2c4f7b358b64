//! A network's name server on this host.

use std::net::IpAddr;
use std::path::PathBuf;

use ::dns::part;
use host::link::Change;
use host::nameserver::{self, Place};
use ipnet::IpNet;

use super::error::Error;
use super::hands::HostHands;
use super::plan::Wanted;
use super::terms::named;
use crate::dns::plan::{Network, networks_part};

/// Our own program, whatever lies under its name by now, and whoever may pass through the directories above it (proc(5)).
const OURSELVES: &str = "/proc/self/exe";

/// Whose user the name server of a network runs as: not dnsmasq's, or one could end the other.
pub(super) fn user_of(uid: &str) -> String {
    format!("dns/{uid}")
}

impl HostHands {
    /// The name server with the names of the network; its tenant's zones it is told as they are heard.
    pub(super) async fn serve_names(&self, wanted: &Wanted) -> Result<Vec<Change>, Error> {
        let uid = &wanted.owner.uid;
        let (namespace, _) = self.door(wanted)?;
        let state = self.dns_state(uid);
        let id = self.user_ids.take(&user_of(uid)).map_err(|source| Error::Host {
            step: "find a user for the name server".to_owned(),
            category: source.category(),
            retry: true,
            source: source.into(),
        })?;
        let place = Place {
            owner: uid.clone(),
            namespace,
            addresses: servers(wanted),
            outside: wanted.dns.forward,
            state: state.clone(),
            uid_gid: (id, id),
            program: PathBuf::from(OURSELVES),
            arguments: self.name_server.clone(),
        };
        nameserver::lay_out(&state, place.uid_gid).map_err(failed)?;
        let mut changes = Vec::new();
        if nameserver::write(&state, part::NETWORK, &text_of(wanted)).map_err(failed)? {
            changes.push(Change::new("NamesChanged", "told the name server the network's names"));
        }
        self.tenants.follow(&wanted.owner.namespace, uid, &state);
        changes.extend(nameserver::ensure(&place).await.map_err(failed)?);
        Ok(changes)
    }
}

/// Where names are asked for: at the network's first address of each family.
pub(super) fn servers(wanted: &Wanted) -> Vec<IpAddr> {
    wanted.subnets.gateways().collect()
}

fn text_of(wanted: &Wanted) -> String {
    let four = wanted.subnets.all().map(|subnet| IpNet::V4(subnet.range));
    let ranges: Vec<IpNet> = four.chain(wanted.subnets.six().iter().map(|subnet| IpNet::V6(subnet.range))).collect();
    let network = Network {
        name: &wanted.owner.name,
        ranges: &ranges,
        gateway: wanted.gateway,
        domain: wanted.dns.domain.as_deref(),
        forward: wanted.dns.forward,
    };
    // Such text has no map with other keys than strings, which alone could fail.
    serde_json::to_string(&networks_part(&network, &named(wanted))).unwrap_or_default()
}

fn failed(source: nameserver::Error) -> Error {
    let (category, retry) = (source.category(), source.retry());
    Error::Host { step: "serve names".to_owned(), category, retry, source: source.into() }
}
