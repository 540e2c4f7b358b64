//! What is told of a LoadBalancer. Pure.

use super::certificates::Shown;
use crds::host::Capabilities;
use crds::load_balancer::BackendStatus;
use crds::load_balancer::judge::is_lost;
use crds::{Host, LoadBalancer, LoadBalancerStatus, Port, ServiceIP, condition};
use kube::ResourceExt;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Backends that are told one by one.
const TOLD: usize = 256;

/// What counts for it.
#[derive(Clone, Copy, Debug)]
pub struct Around<'a> {
    /// Its ServiceIP.
    pub service: Option<&'a ServiceIP>,
    /// All Ports of the ServiceIP's network.
    pub ports: &'a [Port],
    /// All hosts.
    pub hosts: &'a [Host],
    /// All LoadBalancers of the same ServiceIP.
    pub rivals: &'a [Arc<LoadBalancer>],
    /// The Secrets that it names.
    pub shown: Shown<'a>,
}

/// The LoadBalancer's status.
pub fn status(balancer: &LoadBalancer, around: &Around<'_>) -> LoadBalancerStatus {
    let generation = balancer.metadata.generation;
    let mut status = balancer.status.clone().unwrap_or_default();
    status.observed_generation = generation;
    status.ip = around.service.and_then(ServiceIP::address).map(|ip| ip.to_string());
    let lost: BTreeSet<String> = around.hosts.iter().filter(|host| is_lost(host)).map(|host| host.name_any()).collect();
    let backend = |port: &Port| {
        let healthy =
            balancer.backend(port)?.healthy && port.spec.host.as_ref().is_none_or(|host| !lost.contains(host));
        Some(BackendStatus { port: port.name_any(), host: port.spec.host.clone(), healthy })
    };
    let mut backends: Vec<BackendStatus> = around.ports.iter().filter_map(backend).collect();
    backends.sort_by(|a, b| a.port.cmp(&b.port));
    let count = |all: usize| u32::try_from(all).unwrap_or(u32::MAX);
    status.total_backends = count(backends.len());
    status.healthy_backends = count(backends.iter().filter(|one| one.healthy).count());
    status.certificates = around.shown.status();
    let (ready, reason, message) = judge(balancer, around, &status);
    backends.truncate(TOLD);
    status.backends = backends;
    condition::set(&mut status.conditions, condition::READY, ready, reason, message, generation);
    status
}

fn judge(balancer: &LoadBalancer, around: &Around<'_>, status: &LoadBalancerStatus) -> (bool, &'static str, String) {
    let name = &balancer.spec.service_ip;
    if around.service.is_none() {
        return (false, "ServiceIPNotFound", format!("spec.serviceIP: ServiceIP {name} does not exist; create it"));
    }
    if let Some(external) = around.service.and_then(|service| service.spec.external_network.as_ref()) {
        let message = format!(
            "spec.serviceIP: ServiceIP {name} is a floating one of ExternalNetwork {external}, which leads to a Port"
        );
        return (false, "ServiceIPNotFound", message);
    }
    if status.ip.is_none() {
        return (
            false,
            "ServiceIPNotReady",
            format!("spec.serviceIP: ServiceIP {name} has no address; see its status"),
        );
    }
    let listeners = balancer.spec.listeners.iter().enumerate();
    let taken = listeners.filter_map(|(index, listener)| Some((index, balancer.holder_of(listener, around.rivals)?)));
    if let Some((index, holder)) = taken.into_iter().next() {
        let (listener, holder) = (&balancer.spec.listeners[index], holder.name_any());
        let spoken = format!("{} port {}", listener.protocol.word(), listener.port);
        let message = format!("spec.listeners[{index}]: LoadBalancer {holder}, which is older, has {spoken} of it");
        return (false, "ListenerTaken", message);
    }
    if let Some(host) = lacking(around, |can| can.stateful_filter) {
        let message = format!(
            "Host {host} cannot translate what its guests send, so they do not reach it; see its \
             status.capabilities.statefulFilterReason"
        );
        return (false, "StatefulFilterUnavailable", message);
    }
    let http = balancer.spec.listeners.iter().position(|listener| listener.protocol.is_http());
    if let (Some(index), Some(host)) = (http, lacking(around, |can| !can.haproxy.is_empty())) {
        let message = format!(
            "spec.listeners[{index}]: Host {host} has no HAProxy, so its guests' requests are refused; install it there and \
             start the agent again"
        );
        return (false, "ProxyUnavailable", message);
    }
    if let Some((reason, message)) = around.shown.complaint(balancer) {
        return (false, reason, message);
    }
    match (status.healthy_backends, status.total_backends) {
        (0, 0) => (false, "NoBackends", "spec.backends: no Port on a host is selected; connections are refused".into()),
        (0, _) => (false, "NoHealthyBackend", "no backend answers; connections are refused".into()),
        _ => (true, "Serving", String::new()),
    }
}

/// A host with a Port of the network that told what it can do, and cannot do that.
fn lacking(around: &Around<'_>, can: impl Fn(&Capabilities) -> bool) -> Option<String> {
    let carriers: BTreeSet<&str> = around.ports.iter().filter_map(|port| port.spec.host.as_deref()).collect();
    let cannot = |host: &&Host| {
        let told = host.status.as_ref();
        carriers.contains(host.name_any().as_str()) && told.is_some_and(|status| !can(&status.capabilities))
    };
    around.hosts.iter().find(cannot).map(|host| host.name_any())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crds::load_balancer::ListenerProtocol;
    use serde_json::{Value, json};
    use std::collections::BTreeMap;

    /// No Secrets.
    const NONE: Shown<'static> = Shown { secrets: &BTreeMap::new(), now: 0 };

    fn object(kind: &str, name: &str, spec: Value, status: Value) -> Value {
        json!({"apiVersion": "photoncloud.dev/v1alpha1", "kind": kind, "spec": spec, "status": status, "metadata": {
            "name": name, "namespace": "t", "labels": {"app": "web"}, "creationTimestamp": "2026-01-01T00:00:01Z"}})
    }

    fn balancer(name: &str) -> LoadBalancer {
        let spec = json!({"serviceIP": "vip", "listeners": [{"protocol": "TCP", "port": 80}],
            "backends": [{"selector": {"matchLabels": {"app": "web"}}}], "healthCheck": {"type": "TCP"}});
        serde_json::from_value(object("LoadBalancer", name, spec, json!({}))).unwrap()
    }

    fn port(name: &str, healthy: bool) -> Port {
        let spec = json!({"network": "n", "ip": "10.0.0.2", "mac": "52:54:00:00:00:02", "host": "h"});
        let status = json!({"backendHealth": [{"loadBalancer": "lb", "healthy": healthy}]});
        serde_json::from_value(object("Port", name, spec, status)).unwrap()
    }

    fn service(ip: Option<&str>) -> ServiceIP {
        serde_json::from_value(object("ServiceIP", "vip", json!({"network": "n"}), json!({"ip": ip}))).unwrap()
    }

    fn ready(status: &LoadBalancerStatus) -> (&str, &str) {
        (status.conditions[0].status.as_str(), status.conditions[0].reason.as_str())
    }

    #[test]
    fn it_serves_while_one_backend_answers_and_says_nothing_new_twice() {
        let (service, ports) = (service(Some("10.0.0.9")), [port("b", true), port("a", false)]);
        let around = Around { service: Some(&service), ports: &ports, hosts: &[], rivals: &[], shown: NONE };
        let mut lb = balancer("lb");
        let told = status(&lb, &around);
        assert_eq!((ready(&told), told.healthy_backends, told.total_backends), (("True", "Serving"), 1, 2));
        let backends: Vec<_> = told.backends.iter().map(|one| (one.port.as_str(), one.healthy)).collect();
        assert_eq!(backends, [("a", false), ("b", true)]);
        lb.status = Some(told.clone());
        assert_eq!(status(&lb, &around), told);
        assert_eq!(ready(&status(&lb, &Around { ports: &ports[1..], ..around })), ("False", "NoHealthyBackend"));
        assert_eq!(ready(&status(&lb, &Around { ports: &[], ..around })), ("False", "NoBackends"));
    }

    #[test]
    fn what_is_missing_taken_or_impossible_is_named() {
        let (with, without, ports) = (service(Some("10.0.0.9")), service(None), [port("a", true)]);
        let around = Around { service: Some(&with), ports: &ports, hosts: &[], rivals: &[], shown: NONE };
        let lb = balancer("lb");
        assert_eq!(ready(&status(&lb, &Around { service: None, ..around })), ("False", "ServiceIPNotFound"));
        assert_eq!(ready(&status(&lb, &Around { service: Some(&without), ..around })), ("False", "ServiceIPNotReady"));
        let older = [Arc::new(balancer("a-first"))];
        let told = status(&lb, &Around { rivals: &older, ..around });
        assert_eq!(ready(&told), ("False", "ListenerTaken"));
        assert!(told.conditions[0].message.contains("spec.listeners[0]: LoadBalancer a-first"));
        let host = object(
            "Host",
            "h",
            json!({}),
            json!({"capabilities": {"accelerator": "tcg", "acceleratorReason": "",
            "kernel": "", "qemu": "", "statefulFilter": false, "statefulFilterReason": "x"}}),
        );
        let mut hosts = [serde_json::from_value::<Host>(host).unwrap()];
        assert_eq!(ready(&status(&lb, &Around { hosts: &hosts, ..around })), ("False", "StatefulFilterUnavailable"));
        let capable = hosts[0].status.as_mut().unwrap();
        capable.capabilities.stateful_filter = true;
        let around = Around { hosts: &hosts, ..around };
        assert_eq!(ready(&status(&lb, &around)), ("True", "Serving"));
        let mut http = lb.clone();
        http.spec.listeners[0].protocol = ListenerProtocol::Http;
        assert_eq!(ready(&status(&http, &around)), ("False", "ProxyUnavailable"));
        let mut hosts = hosts.clone();
        hosts[0].status.as_mut().unwrap().capabilities.haproxy = "2.6".into();
        let around = Around { hosts: &hosts, ..around };
        assert_eq!(ready(&status(&http, &around)), ("True", "Serving"));
        let mut https = lb.clone();
        https.spec.listeners =
            serde_json::from_value(json!([{"protocol": "HTTPS", "port": 443, "tls": {"secrets": ["gone"]}}])).unwrap();
        assert_eq!(ready(&status(&https, &around)), ("False", "SecretNotFound"));
        let mut lost = hosts.clone();
        condition::set(
            &mut lost[0].status.as_mut().unwrap().conditions,
            condition::READY,
            false,
            "AgentLost",
            "",
            None,
        );
        assert_eq!(ready(&status(&lb, &Around { hosts: &lost, ..around })), ("False", "NoHealthyBackend"));
    }
}
