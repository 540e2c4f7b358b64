//! From a machine's name to what runs here.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{Response, StatusCode};
use crds::{Port, VirtualMachine};
use host::link::LinkName;
use kube::ResourceExt;

use super::capture::Captures;
use crate::layout::Layout;
use crate::names;
use crate::refusal::refuse;
use crate::running::Machines;
use crate::running::vitals::Follower;
use control_loop::Cache;

/// What the door can look up.
pub struct Lookup {
    /// This host's machines, as objects.
    pub vms: Cache<VirtualMachine>,
    /// This host's ports.
    pub ports: Cache<Port>,
    /// This host's machines, running.
    pub machines: Arc<Machines>,
    /// Directories.
    pub layout: Layout,
    /// How many captures may begin.
    pub captures: Captures,
}

/// Name of a machine or port in a request's path.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct ObjectPath {
    pub namespace: String,
    pub name: String,
}

/// A refusal, as a response.
pub type Refusal = Box<Response<Body>>;

impl Lookup {
    /// The object.
    pub fn vm(&self, path: &ObjectPath) -> Result<Arc<VirtualMachine>, Refusal> {
        self.vms.get(&path.namespace, &path.name).ok_or_else(|| {
            let message = format!("virtual machine {} is not on this host", path.name);
            Box::new(refuse(StatusCode::NOT_FOUND, "NotFound", message))
        })
    }

    /// Directory of its sockets and logs.
    pub fn run_dir(&self, path: &ObjectPath) -> Result<PathBuf, Refusal> {
        Ok(self.layout.run_dir(&self.vm(path)?.uid().unwrap_or_default()))
    }

    /// Its follower, when it runs.
    pub fn follower(&self, path: &ObjectPath) -> Result<Arc<Follower>, Refusal> {
        let uid = self.vm(path)?.uid().unwrap_or_default();
        self.machines.follower(&uid).ok_or_else(|| {
            let message = format!("virtual machine {} does not run", path.name);
            Box::new(refuse(StatusCode::CONFLICT, "NotRunning", message))
        })
    }

    /// Namespace and device of a port that is realised here.
    pub fn device(&self, path: &ObjectPath) -> Result<(String, LinkName), Refusal> {
        let name = &path.name;
        let port = self.ports.get(&path.namespace, name).ok_or_else(|| {
            let message = format!("port {name} is not on this host any more, or not yet; try again");
            Box::new(refuse(StatusCode::NOT_FOUND, "NotFound", message))
        })?;
        let netns = port.status.as_ref().and_then(|status| status.netns.clone());
        // Whose device it is follows from the UID, whatever the status says.
        let device = names::tap(&port.uid().unwrap_or_default()).parse().ok();
        netns.zip(device).ok_or_else(|| {
            let message =
                format!("port {name} is not realised on this host yet; `clusterctl describe port {name}` tells why");
            Box::new(refuse(StatusCode::CONFLICT, "NotRealised", message))
        })
    }

    /// Namespace and address of its first interface.
    pub fn address(&self, path: &ObjectPath, port: u16) -> Result<(String, SocketAddr), Refusal> {
        let vm = self.vm(path)?;
        let found = vm.spec.interfaces.first().and_then(|interface| self.ports.get(&path.namespace, &interface.port));
        let netns = found.as_ref().and_then(|port| port.status.as_ref()?.netns.clone());
        let ip = found.as_ref().and_then(|port| port.spec.address()?.parse::<IpAddr>().ok());
        netns.zip(ip).map(|(netns, ip)| (netns, SocketAddr::new(ip, port))).ok_or_else(|| {
            let message = format!("virtual machine {} has no address yet", path.name);
            Box::new(refuse(StatusCode::CONFLICT, "NoAddress", message))
        })
    }
}
