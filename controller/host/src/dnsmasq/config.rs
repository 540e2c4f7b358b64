//! dnsmasq's configuration as text, from values that cannot hold a second line.

use std::fmt::{self, Write as _};
use std::fs::{self, Permissions};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::{Ipv4Net, Ipv6Net};

use super::{DomainName, Error, Reservation, Result};
use crate::access;
use crate::link::LinkName;

/// dnsmasq's own limit of a thousand leases would silently refuse the next guest.
const LEASE_LIMIT: u32 = 1 << 20;
/// dnsmasq raises a shorter one to this by itself.
const SHORTEST_LEASE: Duration = Duration::from_secs(120);

/// One network as it shall be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Owner's UID.
    pub owner: String,
    /// Bridge to serve on.
    pub bridge: LinkName,
    /// The network's ranges of IPv4; one at least of these and the next.
    pub ranges: Vec<Range>,
    /// Its ranges of IPv6, for which it also advertises the network as router.
    pub ranges6: Vec<Range6>,
    /// Name servers told to guests; empty: this dnsmasq. Those of IPv6 are told by router's advertisements (RFC 8106), too.
    pub dns_servers: Vec<IpAddr>,
    /// Whether it answers questions for names, too, and not DHCP alone.
    pub names: bool,
    /// Domain of the guests' names.
    pub domain: Option<DomainName>,
    /// What else guests are told.
    pub told: Told,
    /// Name servers asked for all other names; empty: there are no others.
    pub upstream: Vec<IpAddr>,
    /// Largest packet, told to guests.
    pub mtu: u32,
    /// How long an address is given for.
    pub lease_time: Duration,
}

/// What guests may make use of, and do without.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Domains in which they look for short names (RFC 3397; by router's advertisements, RFC 8106).
    pub search: Vec<DomainName>,
    /// Who knows the time (RFC 2132).
    pub time_servers: Vec<Ipv4Addr>,
    /// Ways besides the one by the gateway (RFC 3442). They are told to guests of the range that the way begins in.
    pub routes: Vec<(Ipv4Net, Ipv4Addr)>,
}

/// One of a network's ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// The range; the bridge must have an address in it.
    pub subnet: Ipv4Net,
    /// Addresses given to guests without a reservation, first and last; none: such guests are not answered.
    pub pool: Option<(Ipv4Addr, Ipv4Addr)>,
    /// Default gateway told to guests; none: they are told that there is none.
    pub router: Option<Ipv4Addr>,
}

/// One of a network's ranges of IPv6. Addresses are given to reservations alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range6 {
    /// The range, of /64 or longer; the bridge must have an address in it.
    pub subnet: Ipv6Net,
    /// Whether guests are told to make their address themselves, too: only in one of /64.
    pub autonomous: bool,
}

impl Server {
    /// Refuses what dnsmasq would refuse, or worse, take.
    pub(super) fn check(&self, reservations: &[Reservation]) -> Result<()> {
        let contradiction = |reason: String| Err(Error::Contradiction { reason });
        for Range { subnet, pool, .. } in &self.ranges {
            if let Some((first, last)) = pool
                && !(first <= last && subnet.contains(first) && subnet.contains(last))
            {
                return contradiction(format!("the pool {first} to {last} is no part of {subnet}"));
            }
        }
        for Range6 { subnet, autonomous } in &self.ranges6 {
            if subnet.prefix_len() < 64 || *autonomous && subnet.prefix_len() != 64 {
                return contradiction(format!("{subnet} is no range that guests can be advertised"));
            }
        }
        let subnets: Vec<String> = self.ranges.iter().map(|range| range.subnet.to_string()).collect();
        let subnets = subnets.join(", ");
        let mut sixes = std::collections::HashSet::new();
        let mut addresses = std::collections::HashSet::new();
        let mut macs = std::collections::HashSet::new();
        let mut owners = std::collections::HashSet::new();
        for Reservation { owner, mac, address, six, .. } in reservations {
            if let Some(six) = six
                && (!sixes.insert(six) || !self.ranges6.iter().any(|range| range.subnet.contains(six)))
            {
                return contradiction(format!("the address {six} is in no range, or reserved twice"));
            }
            if let Some(address) = address
                && !self.ranges.iter().any(|range| range.subnet.contains(address))
            {
                return contradiction(format!("the address {address} is not in {subnets}"));
            }
            let is_taken = address.is_some_and(|address| !addresses.insert(address));
            if is_taken || mac.is_some_and(|mac| !macs.insert(mac)) || !owners.insert(owner) {
                return contradiction(format!("the reservation of {owner} is not the only one of its kind"));
            }
        }
        Ok(())
    }
}

/// Files of one dnsmasq.
#[derive(Clone, Debug)]
pub(super) struct Paths {
    pub(super) state: PathBuf,
    pub(super) config: PathBuf,
    /// One file a reservation: hardware address to address.
    pub(super) hosts: PathBuf,
    /// One file a reservation: address to names.
    pub(super) names: PathBuf,
    /// The only directory its user may write.
    pub(super) own: PathBuf,
    pub(super) leases: PathBuf,
    pub(super) log: PathBuf,
    pub(super) running: PathBuf,
}

impl Paths {
    pub(super) fn new(state: &Path) -> Result<Paths> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.');
        let fits = state.to_str().is_some_and(|text| state.is_absolute() && text.chars().all(plain));
        if !fits {
            return Err(Error::UnfitPath { path: state.to_owned() });
        }
        let own = state.join("own");
        Ok(Paths {
            state: state.to_owned(),
            config: state.join("dnsmasq.conf"),
            hosts: state.join("hosts"),
            names: state.join("names"),
            leases: own.join("leases"),
            log: state.join("log"),
            running: state.join("running.json"),
            own,
        })
    }

    /// Makes the directories: readable by its user, writable by us, but for the one of the leases.
    pub(super) fn lay_out(&self, (uid, gid): (u32, u32)) -> Result<()> {
        for (path, owner, mode) in
            [(&self.state, 0, 0o750), (&self.hosts, 0, 0o750), (&self.names, 0, 0o750), (&self.own, uid, 0o700)]
        {
            let failed = || Error::file("set up", path);
            make_directory(path).map_err(failed())?;
            access::ensure(path, owner, gid, mode).map_err(failed())?;
        }
        Ok(())
    }
}

/// Makes a directory and its missing parents, which its user can pass through whatever our umask is.
fn make_directory(path: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|ancestor| !ancestor.exists()).collect();
    for directory in missing.into_iter().rev() {
        fs::create_dir(directory)?;
        fs::set_permissions(directory, Permissions::from_mode(0o711))?;
    }
    Ok(())
}

pub(super) fn render(server: &Server, paths: &Paths) -> String {
    let mut text = String::from("# Rendered from the network's object; edits are overwritten.\n");
    let mut line = |key: &str, value: &dyn fmt::Display| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{key}={value}");
    };
    line("interface", &server.bridge);
    if !server.names {
        line("port", &0);
    }
    line("except-interface", &"lo");
    // Neither is ever switched to: it starts as the user it runs as. They are named because they exist everywhere.
    line("user", &"root");
    line("group", &"root");
    line("log-facility", &"-");
    line("dhcp-leasefile", &paths.leases.display());
    line("dhcp-lease-max", &LEASE_LIMIT);
    line("dhcp-hostsdir", &paths.hosts.display());
    line("hostsdir", &paths.names.display());
    let seconds = server.lease_time.max(SHORTEST_LEASE).as_secs();
    for (number, range) in server.ranges.iter().enumerate() {
        // What is told with an address of one range is told with no other's.
        let (set, tag) = match server.ranges.len() {
            1 => (String::new(), String::new()),
            _ => (format!("set:range{number},"), format!("tag:range{number},")),
        };
        let mask = range.subnet.netmask();
        match range.pool {
            Some((first, last)) => line("dhcp-range", &format_args!("{set}{first},{last},{mask},{seconds}s")),
            None => line("dhcp-range", &format_args!("{set}{},static,{mask},{seconds}s", range.subnet.network())),
        }
        match range.router {
            Some(router) => line("dhcp-option", &format_args!("{tag}option:router,{router}")),
            // An option without a value is not sent; left out, dnsmasq would send itself.
            None => line("dhcp-option", &format_args!("{tag}option:router")),
        }
        let routes = server.told.routes.iter().filter(|(_, via)| range.subnet.contains(via));
        let routes: Vec<String> = routes.map(|(to, via)| format!("{to},{via}")).collect();
        if !routes.is_empty() {
            // Whoever understands these looks at no other, not even at the gateway.
            let gateway = range.router.map(|router| format!("0.0.0.0/0,{router}"));
            let all: Vec<String> = gateway.into_iter().chain(routes).collect();
            line("dhcp-option", &format_args!("{tag}option:classless-static-route,{}", all.join(",")));
        }
    }
    line("dhcp-option", &format_args!("option:mtu,{}", server.mtu));
    for Range6 { subnet, autonomous } in &server.ranges6 {
        let made = if *autonomous { "slaac," } else { "" };
        let (first, length) = (subnet.network(), subnet.prefix_len());
        line("dhcp-range", &format_args!("{first},static,{made}{length},{seconds}s"));
    }
    let (four, six): (Vec<&IpAddr>, Vec<&IpAddr>) = server.dns_servers.iter().partition(|address| address.is_ipv4());
    if !four.is_empty() {
        let servers: Vec<String> = four.iter().map(ToString::to_string).collect();
        line("dhcp-option", &format_args!("option:dns-server,{}", servers.join(",")));
    }
    if !six.is_empty() {
        let servers: Vec<String> = six.iter().map(|address| format!("[{address}]")).collect();
        line("dhcp-option", &format_args!("option6:dns-server,{}", servers.join(",")));
    }
    let list = |all: &mut dyn Iterator<Item = String>| all.collect::<Vec<_>>().join(",");
    if !server.told.search.is_empty() {
        let search = list(&mut server.told.search.iter().map(ToString::to_string));
        line("dhcp-option", &format_args!("option:domain-search,{search}"));
        if !server.ranges6.is_empty() {
            line("dhcp-option", &format_args!("option6:domain-search,{search}"));
        }
    }
    if !server.told.time_servers.is_empty() {
        let servers = list(&mut server.told.time_servers.iter().map(ToString::to_string));
        line("dhcp-option", &format_args!("option:ntp-server,{servers}"));
    }
    if let Some(domain) = &server.domain {
        line("domain", domain);
        line("local", &format_args!("/{domain}/"));
    }
    server.upstream.iter().for_each(|upstream| line("server", upstream));
    text.push_str(SWITCHES);
    if !server.ranges6.is_empty() {
        text.push_str("enable-ra\n");
    }
    text
}

const SWITCHES: &str = "\
keep-in-foreground
bind-interfaces
dhcp-authoritative
dhcp-ignore-names
quiet-dhcp
no-hosts
no-resolv
no-poll
domain-needed
bogus-priv
";

#[cfg(test)]
mod tests {
    use super::super::HostName;
    use super::*;
    use proptest::prelude::*;

    fn range() -> Range {
        let subnet = "10.1.0.0/24".parse().unwrap();
        Range { subnet, pool: None, router: Some(Ipv4Addr::new(10, 1, 0, 1)) }
    }

    fn server() -> Server {
        Server {
            owner: "network-1".into(),
            bridge: "br-1".parse().unwrap(),
            ranges: vec![range()],
            ranges6: Vec::new(),
            dns_servers: Vec::new(),
            names: true,
            domain: Some("cluster.internal".parse().unwrap()),
            told: Told::default(),
            upstream: Vec::new(),
            mtu: 1450,
            lease_time: Duration::from_secs(3600),
        }
    }

    fn paths() -> Paths {
        Paths::new(Path::new("/run/x/net-1")).unwrap()
    }

    #[test]
    fn a_routed_network_of_reservations_only() {
        insta::assert_snapshot!(render(&server(), &paths()));
    }

    #[test]
    fn an_isolated_network_with_a_pool_and_upstream() {
        let pool = Some((Ipv4Addr::new(10, 1, 0, 100), Ipv4Addr::new(10, 1, 0, 199)));
        let server = Server {
            ranges: vec![Range { pool, router: None, ..range() }],
            dns_servers: vec![[10, 1, 0, 2].into(), [10, 1, 0, 3].into(), "fd00::2".parse().unwrap()],
            domain: None,
            upstream: vec!["10.1.0.9".parse().unwrap(), "fd00::9".parse().unwrap()],
            lease_time: Duration::from_secs(1),
            ..server()
        };
        insta::assert_snapshot!(render(&server, &paths()));
    }

    #[test]
    fn each_of_several_ranges_has_a_gateway_of_its_own() {
        let second =
            Range { subnet: "10.2.0.0/25".parse().unwrap(), pool: None, router: Some(Ipv4Addr::new(10, 2, 0, 126)) };
        let text = render(&Server { ranges: vec![range(), second], ..server() }, &paths());
        let about: Vec<&str> = text.lines().filter(|line| line.contains("range")).collect();
        assert_eq!(
            about,
            [
                "dhcp-range=set:range0,10.1.0.0,static,255.255.255.0,3600s",
                "dhcp-option=tag:range0,option:router,10.1.0.1",
                "dhcp-range=set:range1,10.2.0.0,static,255.255.255.128,3600s",
                "dhcp-option=tag:range1,option:router,10.2.0.126",
            ]
        );
    }

    #[test]
    fn ranges_of_ipv6_are_advertised_and_without_any_nothing_is() {
        let range = |text: &str, autonomous| Range6 { subnet: text.parse().unwrap(), autonomous };
        let with = |ranges6| Server { ranges6, ..server() };
        let text = render(&with(vec![range("fd00:1::/64", true), range("fd00:2::/80", false)]), &paths());
        let more: Vec<&str> = text.lines().filter(|line| !render(&server(), &paths()).contains(line)).collect();
        assert_eq!(
            more,
            ["dhcp-range=fd00:1::,static,slaac,64,3600s", "dhcp-range=fd00:2::,static,80,3600s", "enable-ra"]
        );
        assert!(with(vec![range("fd00::/80", true)]).check(&[]).is_err());
        assert!(with(vec![range("fd00::/56", false)]).check(&[]).is_err());
    }

    #[test]
    fn a_way_is_told_in_the_range_it_begins_in_beside_the_gateway() {
        let second = Range { subnet: "10.2.0.0/24".parse().unwrap(), pool: None, router: None };
        let via = |to: &str, via: [u8; 4]| (to.parse().unwrap(), via.into());
        let routes = vec![via("192.168.0.0/16", [10, 1, 0, 7]), via("172.16.0.0/12", [10, 2, 0, 7])];
        let told = Told { routes, ..Told::default() };
        let text = render(&Server { ranges: vec![range(), second], told, ..server() }, &paths());
        let about: Vec<&str> = text.lines().filter(|line| line.contains("static-route")).collect();
        assert_eq!(
            about,
            [
                "dhcp-option=tag:range0,option:classless-static-route,0.0.0.0/0,10.1.0.1,192.168.0.0/16,10.1.0.7",
                "dhcp-option=tag:range1,option:classless-static-route,172.16.0.0/12,10.2.0.7",
            ]
        );
    }

    #[test]
    fn names_are_left_to_others_where_that_is_wanted() {
        let text = |names| render(&Server { names, ..server() }, &paths());
        assert!(text(false).contains("\nport=0\n") && !text(true).contains("port=0"));
    }

    #[test]
    fn a_path_that_would_break_the_file_is_refused() {
        for path in ["relative", "/with space", "/new\nline", "/hash#", "/quote\""] {
            assert!(Paths::new(Path::new(path)).is_err(), "{path:?}");
        }
    }

    #[test]
    fn a_pool_outside_the_range_is_refused() {
        let pool = Some((Ipv4Addr::new(10, 1, 0, 5), Ipv4Addr::new(10, 2, 0, 5)));
        let with = |pool| Server { ranges: vec![Range { pool, ..range() }], ..server() };
        assert!(with(pool).check(&[]).is_err());
        let reversed = Some((Ipv4Addr::new(10, 1, 0, 9), Ipv4Addr::new(10, 1, 0, 5)));
        assert!(with(reversed).check(&[]).is_err());
    }

    proptest! {
        #[test]
        fn no_name_injects_a_line(host in "\\PC{0,80}|[a-z\n,#=.-]{0,40}", domain in "\\PC{0,80}|[a-z\n,#=.-]{0,40}") {
            if let Ok(host) = host.parse::<HostName>() {
                prop_assert!(!host.to_string().contains(|c: char| !c.is_ascii_alphanumeric() && c != '-'));
            }
            if let Ok(domain) = domain.parse::<DomainName>() {
                let before = render(&server(), &paths());
                let after = render(&Server { domain: Some(domain.clone()), ..server() }, &paths());
                prop_assert_eq!(before.lines().count(), after.lines().count());
                let needle = format!("domain={domain}\n");
                prop_assert!(after.contains(&needle));
                let told = Told { search: vec![domain.clone(), domain.clone()], ..Told::default() };
                let after = render(&Server { told, ..server() }, &paths());
                prop_assert_eq!(before.lines().count() + 1, after.lines().count());
                let needle = format!("option:domain-search,{domain},{domain}\n");
                prop_assert!(after.contains(&needle));
            }
        }
    }
}
