//! Whether a router can be as it says, and which host has it. Pure.

use crate::subnet::Problem;
use crds::load_balancer::judge::is_lost;
use crds::router::RouterExternal;
use crds::{Host, Router, Subnets, TenantNetwork, condition};
use ipnet::Ipv4Net;
use kube::ResourceExt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::Ipv4Addr;

/// Longest name of an object.
const LONGEST: usize = 253;

/// A network that the router joins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Its name.
    pub network: String,
    /// Its ranges.
    pub subnets: Subnets,
}

/// What of a router can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// The networks that it joins.
    pub joined: Vec<Joined>,
    /// Its way out.
    pub external: Option<RouterExternal>,
}

/// Name of the Port that holds the router's address in the network. With a dot no guest's name is like it.
pub fn leg(router: &Router, network: &str) -> String {
    format!("{}.{network}", router.name_any())
}

/// The networks that the router joins, in their order.
///
/// # Errors
/// [`Problem`]: what in the spec cannot be, beside the namespace's networks and the routers that are older.
pub fn judge(router: &Router, networks: &[TenantNetwork], routers: &[Router]) -> Result<Vec<Joined>, Problem> {
    let joined = join(router, networks)?;
    check_routes(router, &joined)?;
    let older: Vec<&Router> = routers.iter().filter(|other| age(other) < age(router)).collect();
    for other in &older {
        check_beside(router, &joined, other)?;
    }
    for (index, route) in fixed(router).enumerate() {
        if let Some(through) = comes_back(router, &older, route) {
            let message = format!("{} leads back to this router, by {}", route.0, through.join(", "));
            return Err(problem("RouteLoop", &format!("spec.staticRoutes[{index}].nextHop"), &message));
        }
    }
    Ok(joined)
}

fn age(router: &Router) -> (Option<jiff::Timestamp>, String) {
    (router.metadata.creation_timestamp.as_ref().map(|time| time.0), router.name_any())
}

fn problem(reason: &'static str, field: &str, message: &str) -> Problem {
    Problem { reason, message: format!("{field}: {message}") }
}

fn join(router: &Router, networks: &[TenantNetwork]) -> Result<Vec<Joined>, Problem> {
    let mut joined: Vec<Joined> = Vec::new();
    for (index, name) in router.spec.networks.iter().enumerate() {
        let field = format!("spec.networks[{index}]");
        if leg(router, name).len() > LONGEST {
            return Err(problem("NameTooLong", &field, "its name and the router's together are too long"));
        }
        let there =
            |network: &&TenantNetwork| network.name_any() == *name && network.metadata.deletion_timestamp.is_none();
        let Some(network) = networks.iter().find(there) else {
            let message = format!("TenantNetwork {name} does not exist; create it");
            return Err(problem("NetworkNotFound", &field, &message));
        };
        let subnets = Subnets::of(&network.spec)
            .map_err(|why| problem("NetworkNotReady", &field, &format!("TenantNetwork {name}: {why}")))?;
        if !subnets.have_four() {
            let message = format!("TenantNetwork {name} has no IPv4 subnet, and routers are of IPv4");
            return Err(problem("NoIPv4Subnet", &field, &message));
        }
        for other in &joined {
            if let Some((mine, its)) = pairs(&subnets, &other.subnets).find(|(mine, its)| overlap(*mine, *its)) {
                let message =
                    format!("{mine} of TenantNetwork {name} overlaps {its} of TenantNetwork {}", other.network);
                return Err(problem("SubnetsOverlap", &field, &message));
            }
        }
        joined.push(Joined { network: name.clone(), subnets });
    }
    Ok(joined)
}

fn pairs<'a>(one: &'a Subnets, other: &'a Subnets) -> impl Iterator<Item = (Ipv4Net, Ipv4Net)> + 'a {
    one.all().flat_map(|mine| other.all().map(|its| (mine.range, its.range)))
}

fn overlap(one: Ipv4Net, other: Ipv4Net) -> bool {
    one.contains(&other) || other.contains(&one)
}

/// What the router's static routes say; the schema has seen that it can be read.
fn fixed(router: &Router) -> impl Iterator<Item = (Ipv4Net, Ipv4Addr)> {
    let read = |one: &crds::router::StaticRoute| Some((one.destination.parse().ok()?, one.next_hop.parse().ok()?));
    router.spec.static_routes.iter().filter_map(read)
}

fn check_routes(router: &Router, joined: &[Joined]) -> Result<(), Problem> {
    for (index, (destination, hop)) in fixed(router).enumerate() {
        let field = |name: &str| format!("spec.staticRoutes[{index}].{name}");
        let within = |one: &&Joined| one.subnets.all().any(|subnet| subnet.range.contains(&destination));
        if let Some(network) = joined.iter().find(within) {
            let message = format!("{destination} is TenantNetwork {}'s, which the router is on", network.network);
            return Err(problem("RouteCollides", &field("destination"), &message));
        }
        match joined.iter().find(|one| one.subnets.around(hop).is_some()) {
            None => {
                let message = format!("{hop} is in none of the router's networks");
                return Err(problem("NextHopOutside", &field("nextHop"), &message));
            }
            Some(network) if !network.subnets.is_usable(hop) => {
                let message = format!("{hop} is no address that somebody on TenantNetwork {} has", network.network);
                return Err(problem("NextHopOutside", &field("nextHop"), &message));
            }
            Some(_) if addresses(router).any(|own| own == hop) => {
                let message = format!("{hop} is the router's own address");
                return Err(problem("RouteLoop", &field("nextHop"), &message));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// The addresses that a router has in its networks.
fn addresses(router: &Router) -> impl Iterator<Item = Ipv4Addr> {
    let all = router.status.iter().flat_map(|status| &status.interfaces);
    all.filter_map(|interface| interface.address.parse().ok())
}

/// On a network that both are on, a range must not lead to both.
fn check_beside(router: &Router, joined: &[Joined], other: &Router) -> Result<(), Problem> {
    let theirs: Vec<_> = other.status.iter().flat_map(|status| &status.interfaces).collect();
    for interface in &theirs {
        let Some(shared) = joined.iter().find(|one| one.network == interface.network) else { continue };
        let beyond = theirs.iter().filter(|one| one.network != shared.network);
        let beyond: Vec<Ipv4Net> = beyond.flat_map(|one| one.parsed_ranges()).collect();
        for (index, one) in router.spec.networks.iter().enumerate() {
            let Some(mine) = joined.iter().find(|mine| mine.network == *one && *one != shared.network) else {
                continue;
            };
            let mut ranges = mine.subnets.all().map(|subnet| subnet.range);
            if let Some(range) = ranges.find(|range| beyond.iter().any(|other| overlap(*range, *other))) {
                let message = format!(
                    "{range} is reached from TenantNetwork {} by Router {}, which is older, already",
                    shared.network,
                    other.name_any()
                );
                return Err(problem("RangesCollide", &format!("spec.networks[{index}]"), &message));
            }
        }
    }
    Ok(())
}

/// The routers that a packet for the route's range passes before it is back here; none when it is not.
fn comes_back(router: &Router, older: &[&Router], route: (Ipv4Net, Ipv4Addr)) -> Option<Vec<String>> {
    let (destination, mut hop) = route;
    let mut passed: Vec<String> = Vec::new();
    // Each router once: who would be passed twice is in a loop without us, and has been told so.
    for _ in older {
        let at = older.iter().find(|other| addresses(other).any(|own| own == hop))?;
        passed.push(format!("Router {}", at.name_any()));
        let behind = fixed(at).filter(|(range, _)| range.contains(&destination));
        let (_, next) = behind.max_by_key(|(range, _)| range.prefix_len())?;
        if addresses(router).any(|own| own == next) {
            return Some(passed);
        }
        hop = next;
    }
    None
}

/// Who has the router: whoever has it already as long as that host is not lost, or else a ready one, by a draw that spreads routers
/// and that each controller makes alike. Only a host that knows where outside is has one with a way out. None when no host can.
pub fn elect(router: &Router, hosts: &[Host]) -> Option<String> {
    let had = router.status.as_ref().and_then(|status| status.host.as_deref());
    let can = |host: &Host| {
        router.spec.external.is_none() || host.status.as_ref().is_some_and(|status| status.capabilities.outside)
    };
    if let Some(host) = hosts.iter().find(|host| Some(host.name_any().as_str()) == had)
        && !is_lost(host)
        && can(host)
    {
        return Some(host.name_any());
    }
    let ready = |host: &&Host| {
        let conditions = host.status.iter().flat_map(|status| &status.conditions);
        conditions.filter(|one| one.type_ == condition::READY).any(|one| one.status == "True")
            && host.metadata.deletion_timestamp.is_none()
            && can(host)
    };
    let draw = |host: &&Host| {
        let mut hasher = DefaultHasher::new();
        (router.uid(), host.name_any()).hash(&mut hasher);
        (hasher.finish(), host.name_any())
    };
    hosts.iter().filter(ready).max_by_key(draw).map(|host| host.name_any())
}

#[cfg(test)]
mod tests;
