//! How many machines and nodes stand where, as metrics: counted from a watch at every scrape, so that what was deleted is
//! gone from the figures, too.

use crds::node::NodePhase;
use crds::virtual_machine::VmPhase;
use crds::{Node, VirtualMachine};
use futures::{Stream, StreamExt};
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, Opts};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use tokio_util::sync::CancellationToken;

const MACHINE_PHASES: [VmPhase; 7] = [
    VmPhase::Pending,
    VmPhase::Starting,
    VmPhase::Running,
    VmPhase::Paused,
    VmPhase::Stopping,
    VmPhase::Stopped,
    VmPhase::Failed,
];
const NODE_PHASES: [NodePhase; 5] =
    [NodePhase::Waiting, NodePhase::Booting, NodePhase::Ready, NodePhase::NotReady, NodePhase::Stopped];

/// Watches machines and nodes for the metrics until `shutdown`.
pub async fn run(client: Client, shutdown: CancellationToken) {
    let (machines, machine_changes) = follow::<VirtualMachine>(client.clone());
    let (nodes, node_changes) = follow::<Node>(client);
    let registry = prometheus::default_registry();
    match States::new(machines, nodes).and_then(|states| registry.register(Box::new(states.clone())).map(|()| states)) {
        Ok(states) => {
            let watches = futures::stream::select(machine_changes, node_changes);
            let watching = watches.for_each(|()| futures::future::ready(()));
            let _ = shutdown.run_until_cancelled(watching).await;
            // A server may lead more than once: its next reign registers states of its own.
            if let Err(error) = registry.unregister(Box::new(states)) {
                tracing::debug!(%error, "the states of machines and nodes stay in the metrics");
            }
        }
        Err(error) => tracing::warn!(%error, "machines and nodes are missing from the metrics"),
    }
}

/// A store of all objects of a kind, and the watch that fills it as it is polled.
fn follow<K>(client: Client) -> (Store<K>, impl Stream<Item = ()> + Send + Unpin)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let watch = watcher(Api::<K>::all(client), watcher::Config::default()).default_backoff().reflect(writer);
    (store, watch.map(|_| ()).boxed())
}

#[derive(Clone)]
struct States {
    machines: Store<VirtualMachine>,
    nodes: Store<Node>,
    machine_gauge: GaugeVec,
    node_gauge: GaugeVec,
}

impl States {
    fn new(machines: Store<VirtualMachine>, nodes: Store<Node>) -> prometheus::Result<Self> {
        let gauge = |name: &str, help: &str| GaugeVec::new(Opts::new(name, help), &["phase"]);
        Ok(Self {
            machines,
            nodes,
            machine_gauge: gauge("clusterctl_virtual_machines", "VirtualMachine objects by phase.")?,
            node_gauge: gauge("clusterctl_nodes", "Node objects by phase.")?,
        })
    }
}

impl Collector for States {
    fn desc(&self) -> Vec<&Desc> {
        self.machine_gauge.desc().into_iter().chain(self.node_gauge.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let machines: Vec<VmPhase> =
            self.machines.state().iter().map(|m| m.status.as_ref().map(|s| s.phase).unwrap_or_default()).collect();
        let nodes: Vec<NodePhase> =
            self.nodes.state().iter().map(|n| n.status.as_ref().map(|s| s.phase).unwrap_or_default()).collect();
        count(&self.machine_gauge, &MACHINE_PHASES, &machines);
        count(&self.node_gauge, &NODE_PHASES, &nodes);
        self.machine_gauge.collect().into_iter().chain(self.node_gauge.collect()).collect()
    }
}

/// Every phase gets a figure, zero where nothing stands, so that an alert on it never lacks its series.
fn count<P: PartialEq + Debug>(gauge: &GaugeVec, phases: &[P], found: &[P]) {
    for phase in phases {
        let number = u32::try_from(found.iter().filter(|f| *f == phase).count()).unwrap_or(u32::MAX);
        gauge.with_label_values(&[format!("{phase:?}").as_str()]).set(f64::from(number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phase_has_a_figure_and_the_deleted_are_not_counted() {
        let (machines, mut writer) = reflector::store::<VirtualMachine>();
        let (nodes, _) = reflector::store::<Node>();
        let states = States::new(machines, nodes).unwrap();
        let machine: VirtualMachine = serde_json::from_value(serde_json::json!({
            "apiVersion": "photoncloud.dev/v1alpha1", "kind": "VirtualMachine", "metadata": {"name": "m", "namespace": "d"},
            "spec": {"image": "i"}, "status": {"phase": "Running"},
        }))
        .unwrap();
        let running = |states: &States| {
            let families = states.collect();
            assert_eq!(families[0].get_metric().len(), MACHINE_PHASES.len());
            let metric =
                families[0].get_metric().iter().find(|m| m.get_label()[0].value() == "Running").unwrap().clone();
            metric.get_gauge().get_value()
        };
        writer.apply_watcher_event(&watcher::Event::Apply(machine.clone()));
        assert!((running(&states) - 1.0).abs() < f64::EPSILON);
        writer.apply_watcher_event(&watcher::Event::Delete(machine));
        assert!(running(&states).abs() < f64::EPSILON);
    }
}
