//! The words: every kind of `photoncloud.dev/v1alpha1`, one a file, with its validation rules and printer columns.
//!
//! Pure data: no I/O, no runtime. What a rule can say about an object on its own stands here as schema or CEL, so that
//! the API refuses a bad object before any reconciler sees it; what needs other objects is judged by the reconcilers.
//! `cargo xtask crdgen` writes `crds/yaml` from these types.
//!
//! # Who writes what
//!
//! | part | writer |
//! |---|---|
//! | `spec` | users, and reconcilers for objects they own |
//! | `spec.host` | the scheduler, once, as Kubernetes does with `Pod.spec.nodeName` |
//! | `spec.ip`, `spec.ipv6`, `spec.mac` of a Port | the address allocator, when the user left them empty |
//! | `status` of Host, Image, VirtualMachine, Volume, Port, Fault | the agent of `spec.host` |
//! | `status` of Cluster, Node, TenantNetwork, Router, ServiceIP, LoadBalancer, DNSZone, DNSRecordSet | their reconcilers |
//! | `status` of TestRun | the test engine |

#![allow(clippy::duplicated_attributes, reason = "kube's printcolumn attributes repeat their keys by design")]

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

pub mod cluster;
pub mod condition;
pub mod dns_record_set;
pub mod dns_zone;
pub mod exec;
pub mod external_network;
pub mod fault;
pub mod host;
pub mod image;
pub mod load_balancer;
pub mod mac;
pub mod network;
pub mod node;
pub mod port;
pub mod quantity;
pub mod reference;
pub mod router;
pub mod security_group;
pub mod service_ip;
pub mod testrun;
pub mod virtual_machine;
pub mod volume;

pub use cluster::{Cluster, ClusterSpec, ClusterStatus};
pub use condition::Condition;
pub use dns_record_set::{DNSRecordSet, DNSRecordSetSpec, DNSRecordSetStatus, DNSRecordType};
pub use dns_zone::{DNSZone, DNSZoneSpec, DNSZoneStatus};
pub use external_network::{ExternalNetwork, ExternalNetworkSpec};
pub use fault::{Fault, FaultSpec, FaultStatus};
pub use host::{Host, HostSpec, HostStatus};
pub use image::{Image, ImageSpec, ImageStatus};
pub use load_balancer::{LoadBalancer, LoadBalancerSpec, LoadBalancerStatus};
pub use network::subnets::{InvalidSubnet, Subnet, Subnet6, Subnets};
pub use network::{TenantNetwork, TenantNetworkSpec, TenantNetworkStatus};
pub use node::{Node, NodeSpec, NodeStatus};
pub use port::{Port, PortSpec, PortStatus};
pub use quantity::Quantity;
pub use router::{Router, RouterSpec, RouterStatus};
pub use security_group::{SecurityGroup, SecurityGroupSpec};
pub use service_ip::{ServiceIP, ServiceIPSpec, ServiceIPStatus};
pub use testrun::{TestRun, TestRunSpec, TestRunStatus};
pub use virtual_machine::{VirtualMachine, VirtualMachineSpec, VirtualMachineStatus};
pub use volume::{Volume, VolumeSpec, VolumeStatus};

/// API group of every kind here.
pub const GROUP: &str = "photoncloud.dev";
/// Version served and stored.
pub const VERSION: &str = "v1alpha1";
/// Finalizer an agent sets before it touches its host for an object.
pub const AGENT_FINALIZER: &str = "photoncloud.dev/agent";
/// Label naming the Cluster that an object was made for.
pub const CLUSTER_LABEL: &str = "photoncloud.dev/cluster";
/// Label naming the Node that an object was made for.
pub const NODE_LABEL: &str = "photoncloud.dev/node";
/// Annotation of a Port naming the VirtualMachine that uses it; kept by the Port's reconciler.
pub const MACHINE_ANNOTATION: &str = "photoncloud.dev/virtual-machine";
/// Label naming the TestRun that an object was made for.
pub const TESTRUN_LABEL: &str = "photoncloud.dev/testrun";
/// Namespace of our own machinery: heartbeat Leases live here.
pub const SYSTEM_NAMESPACE: &str = "photon-system";

/// The CustomResourceDefinitions of every kind, in the order in which they should be installed.
#[must_use]
pub fn all() -> Vec<CustomResourceDefinition> {
    vec![
        Host::crd(),
        Image::crd(),
        TenantNetwork::crd(),
        SecurityGroup::crd(),
        Port::crd(),
        ExternalNetwork::crd(),
        ServiceIP::crd(),
        Router::crd(),
        LoadBalancer::crd(),
        DNSZone::crd(),
        DNSRecordSet::crd(),
        Volume::crd(),
        VirtualMachine::crd(),
        Cluster::crd(),
        Node::crd(),
        Fault::crd(),
        TestRun::crd(),
    ]
}
