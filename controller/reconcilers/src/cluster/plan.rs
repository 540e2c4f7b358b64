//! Which Nodes to delete, create and change. Pure.

use crds::cluster::ClusterNode;
use crds::{CLUSTER_LABEL, Cluster, NODE_LABEL, Node, NodeSpec};
use kube::{Resource, ResourceExt};
use std::collections::{BTreeMap, HashMap, HashSet};

/// One change to the cluster's Nodes.
#[derive(Debug)]
pub enum Step {
    /// The cluster no longer has it.
    Delete(String),
    /// The cluster has it and it is not there.
    Create(Box<Node>),
    /// It is there with another spec.
    Update(Box<Node>),
}

/// The steps from `found` to what the cluster wants: removals first.
pub fn plan(cluster: &Cluster, found: &[Node]) -> Vec<Step> {
    let wanted: Vec<Node> = cluster.spec.nodes.iter().map(|node| wanted_node(cluster, node)).collect();
    let names: HashSet<String> = wanted.iter().map(ResourceExt::name_any).collect();
    let mut steps: Vec<Step> = found
        .iter()
        .filter(|node| !names.contains(&node.name_any()) && node.metadata.deletion_timestamp.is_none())
        .map(|node| Step::Delete(node.name_any()))
        .collect();
    for node in wanted {
        match found.iter().find(|f| f.name_any() == node.name_any()) {
            None => steps.push(Step::Create(Box::new(node))),
            Some(current) if current.spec != node.spec && current.metadata.deletion_timestamp.is_none() => {
                steps.push(Step::Update(Box::new(node)));
            }
            Some(_) => {}
        }
    }
    steps
}

fn wanted_node(cluster: &Cluster, node: &ClusterNode) -> Node {
    let spec = NodeSpec {
        cluster: cluster.name_any(),
        roles: node.roles.clone(),
        role_names: node.roles.join(","),
        image: node.image.clone(),
        cpus: node.cpus,
        memory: node.memory.clone(),
        network: cluster.spec.network.clone(),
        ip: node.ip.clone(),
        depends_on: node.depends_on.clone(),
        volumes: node.volumes.clone(),
        kernel_arguments: node.kernel_arguments.clone(),
        readiness: node.readiness.clone(),
        power_state: cluster.spec.power_state,
    };
    let mut made = Node::new(&node.name, spec);
    made.metadata.namespace = cluster.namespace();
    made.metadata.owner_references = cluster.controller_owner_ref(&()).map(|reference| vec![reference]);
    made.metadata.labels = Some(BTreeMap::from([
        (CLUSTER_LABEL.to_owned(), cluster.name_any()),
        (NODE_LABEL.to_owned(), node.name.clone()),
    ]));
    made
}

/// The nodes that wait for each other in a circle, if there are any.
pub fn cycle(nodes: &[ClusterNode]) -> Option<Vec<String>> {
    let mut waiting: HashMap<&str, HashSet<&str>> =
        nodes.iter().map(|n| (n.name.as_str(), n.depends_on.iter().map(|d| d.node.as_str()).collect())).collect();
    loop {
        let free: Vec<&str> = waiting.iter().filter(|(_, on)| on.is_empty()).map(|(name, _)| *name).collect();
        if free.is_empty() {
            break;
        }
        for name in &free {
            waiting.remove(name);
        }
        for on in waiting.values_mut() {
            on.retain(|name| !free.contains(name));
        }
    }
    let mut names: Vec<String> = waiting.into_keys().map(str::to_owned).collect();
    names.sort();
    (!names.is_empty()).then_some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(nodes: serde_json::Value) -> Cluster {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "photoncloud.dev/v1alpha1", "kind": "Cluster",
            "metadata": {"name": "c", "namespace": "default", "uid": "u-1"},
            "spec": {"network": "mgmt", "nodes": nodes},
        }))
        .unwrap()
    }

    fn names(steps: &[Step]) -> Vec<String> {
        steps
            .iter()
            .map(|step| match step {
                Step::Delete(name) => format!("-{name}"),
                Step::Create(node) => format!("+{}", node.name_any()),
                Step::Update(node) => format!("~{}", node.name_any()),
            })
            .collect()
    }

    #[test]
    fn a_second_plan_is_empty_and_removals_come_first() {
        let two = cluster(serde_json::json!([{"name": "a", "image": "i"}, {"name": "b", "image": "i"}]));
        let made: Vec<Node> = plan(&two, &[])
            .into_iter()
            .filter_map(|step| if let Step::Create(node) = step { Some(*node) } else { None })
            .collect();
        assert_eq!(made.len(), 2);
        assert!(plan(&two, &made).is_empty());
        let other = cluster(serde_json::json!([{"name": "b", "image": "j"}, {"name": "c", "image": "i"}]));
        assert_eq!(names(&plan(&other, &made)), ["-a", "~b", "+c"]);
    }

    #[test]
    fn nodes_that_wait_for_each_other_are_named() {
        let on = |name: &str| serde_json::json!([{"node": name}]);
        let line = cluster(serde_json::json!([
            {"name": "a", "image": "i"}, {"name": "b", "image": "i", "dependsOn": on("a")},
        ]));
        assert_eq!(cycle(&line.spec.nodes), None);
        let ring = cluster(serde_json::json!([
            {"name": "a", "image": "i", "dependsOn": on("b")}, {"name": "b", "image": "i", "dependsOn": on("a")},
            {"name": "c", "image": "i"},
        ]));
        assert_eq!(cycle(&ring.spec.nodes), Some(vec!["a".to_owned(), "b".to_owned()]));
    }
}
