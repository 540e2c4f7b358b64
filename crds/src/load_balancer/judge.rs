//! Which Ports a LoadBalancer's connections go to, and which of two LoadBalancers has a listener: pure.
//!
//! Agents balance by this and the reconciler tells by it, so what is told is what is done.

use kube::ResourceExt;

use super::{BackendGroup, CheckType, HealthCheck, Listener};
use crate::{Host, LoadBalancer, Port, ServiceIP, condition};

/// What a Port is to a LoadBalancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Its share.
    pub weight: u32,
    /// Whether it gets new connections.
    pub healthy: bool,
}

impl LoadBalancer {
    /// What the Port, one of the ServiceIP's network, is to this; none when it is not selected, or is on no host, or goes.
    #[must_use]
    pub fn backend(&self, port: &Port) -> Option<Backend> {
        let mut all = self.groups().filter_map(|(groups, _)| self.backend_of(groups, port));
        let first = all.next()?;
        // Whoever answers some requests is one that gets new ones.
        Some(all.fold(first, |one, other| if one.weight > 0 { one } else { other }))
    }

    /// What it is to these groups, the LoadBalancer's own or those of one of its routes.
    #[must_use]
    pub fn backend_of(&self, groups: &[BackendGroup], port: &Port) -> Option<Backend> {
        let group = groups.iter().find(|group| group.selects(port))?;
        let is_here = port.spec.ip.is_some() && port.spec.mac.is_some() && port.spec.host.is_some();
        if !is_here || port.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let answers = self.spec.health_check.is_none() || self.is_told_healthy(port);
        Some(Backend { weight: group.weight, healthy: answers && group.weight > 0 })
    }

    /// All its groups, with the port that a route says its have.
    fn groups(&self) -> impl Iterator<Item = (&[BackendGroup], Option<u16>)> {
        let routes = self.spec.routes.iter().map(|route| (route.backends.as_slice(), route.target_port));
        std::iter::once((self.spec.backends.as_slice(), None)).chain(routes)
    }

    /// Whether the Port's host says that it answers this LoadBalancer's checks. Who has not answered yet does not.
    fn is_told_healthy(&self, port: &Port) -> bool {
        let told = port.status.iter().flat_map(|status| &status.backend_health);
        let name = self.name_any();
        told.filter(|told| told.load_balancer == name).any(|told| told.healthy)
    }

    /// Those of its listeners that no older LoadBalancer of the same ServiceIP has. `all`: those of the namespace.
    pub fn own_listeners<'a, L: AsRef<LoadBalancer>>(&'a self, all: &'a [L]) -> impl Iterator<Item = &'a Listener> {
        self.spec.listeners.iter().filter(move |listener| self.holder_of(listener, all).is_none())
    }

    /// The older LoadBalancer of the same ServiceIP that has the listener's protocol and port.
    pub fn holder_of<'a, L: AsRef<LoadBalancer>>(&self, listener: &Listener, all: &'a [L]) -> Option<&'a LoadBalancer> {
        let older = all.iter().map(AsRef::as_ref).filter(|other| {
            other.spec.service_ip == self.spec.service_ip
                && other.metadata.deletion_timestamp.is_none()
                && age(other) < age(self)
                && other.spec.listeners.iter().any(|one| one.excludes(listener))
        });
        older.min_by_key(|other| age(other))
    }

    /// All Secrets that its listeners name, each once.
    #[must_use]
    pub fn secrets(&self) -> std::collections::BTreeSet<&str> {
        self.spec.listeners.iter().flat_map(Listener::secrets).collect()
    }

    /// Those of them that it shows, with their versions.
    pub fn shown(&self) -> impl Iterator<Item = (&str, &str)> {
        let (named, told) = (self.secrets(), self.status.iter().flat_map(|status| &status.certificates));
        let told = told.map(|one| (one.secret.as_str(), one.resource_version.as_str()));
        told.filter(move |(secret, _)| named.contains(secret))
    }

    /// The port at which its health check asks that Port; none without a check.
    #[must_use]
    pub fn checked_port(&self, port: &Port) -> Option<u16> {
        let check = self.spec.health_check.as_ref()?;
        let of_route = || self.groups().find(|(groups, _)| groups.iter().any(|group| group.selects(port)))?.1;
        let first = || self.spec.listeners.iter().find(|listener| !listener.protocol.is_udp()).map(Listener::target);
        check.port.or_else(of_route).or_else(first)
    }
}

impl BackendGroup {
    fn selects(&self, port: &Port) -> bool {
        let labels = port.labels();
        self.selector.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}

impl Listener {
    /// Whether only one of the two can be had at one address.
    fn excludes(&self, other: &Listener) -> bool {
        (self.protocol.is_udp(), self.port) == (other.protocol.is_udp(), other.port)
    }
}

fn age(one: &LoadBalancer) -> (Option<jiff::Timestamp>, String) {
    (one.metadata.creation_timestamp.as_ref().map(|time| time.0), one.name_any())
}

/// Whether nobody has heard of the host for so long that nothing on it counts as a backend.
#[must_use]
pub fn is_lost(host: &Host) -> bool {
    let ready = host.status.iter().flat_map(|status| &status.conditions).find(|one| one.type_ == condition::READY);
    ready.is_some_and(|ready| ready.status != "True")
}

impl HealthCheck {
    /// What is asked for by HTTP, and the status of a good answer; none for TCP.
    #[must_use]
    pub fn http(&self) -> Option<(&str, u16)> {
        let path = self.path.as_deref().unwrap_or("/");
        (self.type_ == CheckType::Http).then_some((path, self.expected_status.unwrap_or(200)))
    }
}

impl ServiceIP {
    /// Its address in the network, once it has one. A floating one has none there.
    #[must_use]
    pub fn address(&self) -> Option<std::net::Ipv4Addr> {
        self.given().filter(|_| self.spec.external_network.is_none())
    }

    /// Its address outside, once it has one.
    #[must_use]
    pub fn floating(&self) -> Option<std::net::Ipv4Addr> {
        self.given().filter(|_| self.spec.external_network.is_some())
    }

    fn given(&self) -> Option<std::net::Ipv4Addr> {
        self.status.as_ref()?.ip.as_ref()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::super::ListenerProtocol;
    use super::*;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn balancer(name: &str, second: u8, spec: Value) -> Arc<LoadBalancer> {
        let mut whole = json!({"serviceIP": "vip", "listeners": [{"protocol": "TCP", "port": 80}], "backends": [
            {"selector": {"matchLabels": {"app": "web", "tier": "hot"}}, "weight": 3},
            {"selector": {"matchLabels": {"app": "web"}}},
            {"selector": {"matchLabels": {"app": "old"}}, "weight": 0},
        ]});
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let metadata =
            json!({"name": name, "namespace": "t", "creationTimestamp": format!("2026-01-01T00:00:0{second}Z")});
        let object = json!({"apiVersion": "photoncloud.dev/v1alpha1", "kind": "LoadBalancer", "metadata": metadata,
            "spec": whole});
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn port(labels: Value, status: Value) -> Port {
        serde_json::from_value(json!({"apiVersion": "photoncloud.dev/v1alpha1", "kind": "Port",
            "metadata": {"name": "p", "namespace": "t", "labels": labels}, "status": status,
            "spec": {"network": "n", "ip": "10.0.0.2", "mac": "52:54:00:00:00:02", "host": "h"}}))
        .unwrap()
    }

    #[test]
    fn the_first_group_that_selects_a_port_says_its_share() {
        let lb = balancer("lb", 1, json!({}));
        let share = |labels: Value| lb.backend(&port(labels, json!({}))).map(|one| (one.weight, one.healthy));
        assert_eq!(share(json!({"app": "web", "tier": "hot", "more": "x"})), Some((3, true)));
        assert_eq!(share(json!({"app": "web"})), Some((1, true)));
        assert_eq!(share(json!({"app": "old"})), Some((0, false)), "it gets nothing new");
        assert_eq!(share(json!({"tier": "hot"})), None);
        let mut nowhere = port(json!({"app": "web"}), json!({}));
        nowhere.spec.host = None;
        assert_eq!(lb.backend(&nowhere), None);
    }

    #[test]
    fn with_a_check_only_who_answered_it_is_healthy() {
        let lb = balancer("lb", 1, json!({"healthCheck": {"type": "TCP"}}));
        let healthy =
            |told: Value| lb.backend(&port(json!({"app": "web"}), json!({"backendHealth": told}))).unwrap().healthy;
        assert!(!healthy(json!([])));
        assert!(!healthy(
            json!([{"loadBalancer": "other", "healthy": true}, {"loadBalancer": "lb", "healthy": false}])
        ));
        assert!(healthy(json!([{"loadBalancer": "lb", "healthy": true}])));
        assert_eq!(lb.checked_port(&port(json!({"app": "web"}), json!({}))), Some(80));
    }

    #[test]
    fn whom_a_route_selects_is_a_backend_and_is_asked_at_its_port() {
        let routes = json!({
            "listeners": [{"protocol": "UDP", "port": 53}, {"protocol": "HTTP", "port": 80, "targetPort": 8080}],
            "routes": [{"backends": [{"selector": {"matchLabels": {"app": "api"}}, "weight": 2}], "targetPort": 9000},
                {"backends": [{"selector": {"matchLabels": {"app": "old"}}}]}],
            "healthCheck": {"type": "TCP"}});
        let lb = balancer("lb", 1, routes);
        let of = |app: &str| {
            let port = port(json!({"app": app}), json!({"backendHealth": [{"loadBalancer": "lb", "healthy": true}]}));
            (lb.backend(&port).map(|one| (one.weight, one.healthy)), lb.checked_port(&port))
        };
        assert_eq!(of("api"), (Some((2, true)), Some(9000)));
        assert_eq!(of("old"), (Some((1, true)), Some(8080)), "with 0 elsewhere, it answers by its route");
        assert_eq!(of("none").0, None);
        let api = port(json!({"app": "api"}), json!({}));
        assert_eq!(lb.backend_of(&lb.spec.backends, &api), None);
    }

    #[test]
    fn http_has_a_port_that_tcp_would_have_too() {
        let all = [
            balancer("old", 1, json!({"listeners": [{"protocol": "HTTP", "port": 80}]})),
            balancer(
                "young",
                2,
                json!({"listeners": [{"protocol": "TCP", "port": 80}, {"protocol": "UDP", "port": 80}]}),
            ),
        ];
        assert_eq!(all[1].own_listeners(&all).map(|one| one.protocol).collect::<Vec<_>>(), [ListenerProtocol::Udp]);
    }

    #[test]
    fn of_two_with_one_listener_the_older_has_it_and_the_younger_keeps_the_rest() {
        let listeners = json!({"listeners": [{"protocol": "TCP", "port": 80}, {"protocol": "UDP", "port": 80}]});
        let all = [
            balancer("young", 2, listeners),
            balancer("old", 1, json!({})),
            balancer("elsewhere", 0, json!({"serviceIP": "other"})),
        ];
        assert_eq!(all[0].own_listeners(&all).map(|one| one.protocol).collect::<Vec<_>>(), [ListenerProtocol::Udp]);
        assert_eq!(all[1].own_listeners(&all).count(), 1);
        assert_eq!(all[0].holder_of(&all[0].spec.listeners[0], &all).unwrap().name_any(), "old");
    }
}
