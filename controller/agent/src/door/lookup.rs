//! From a machine's name to what runs here.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{Response, StatusCode};
use crds::{Port, VirtualMachine};
use kube::ResourceExt;

use crate::layout::Layout;
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
}

/// Name of a machine in a request's path.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct MachinePath {
    pub namespace: String,
    pub name: String,
}

/// A refusal, as a response.
pub type Refusal = Box<Response<Body>>;

impl Lookup {
    /// The object.
    pub fn vm(&self, path: &MachinePath) -> Result<Arc<VirtualMachine>, Refusal> {
        self.vms.get(&path.namespace, &path.name).ok_or_else(|| {
            let message = format!("virtual machine {} is not on this host", path.name);
            Box::new(refuse(StatusCode::NOT_FOUND, "NotFound", message))
        })
    }

    /// Directory of its sockets and logs.
    pub fn run_dir(&self, path: &MachinePath) -> Result<PathBuf, Refusal> {
        Ok(self.layout.run_dir(&self.vm(path)?.uid().unwrap_or_default()))
    }

    /// Its follower, when it runs.
    pub fn follower(&self, path: &MachinePath) -> Result<Arc<Follower>, Refusal> {
        let uid = self.vm(path)?.uid().unwrap_or_default();
        self.machines.follower(&uid).ok_or_else(|| {
            let message = format!("virtual machine {} does not run", path.name);
            Box::new(refuse(StatusCode::CONFLICT, "NotRunning", message))
        })
    }

    /// Namespace and address of its first interface.
    pub fn address(&self, path: &MachinePath, port: u16) -> Result<(String, SocketAddr), Refusal> {
        let vm = self.vm(path)?;
        let found = vm.spec.interfaces.first().and_then(|interface| self.ports.get(&path.namespace, &interface.port));
        let netns = found.as_ref().and_then(|port| port.status.as_ref()?.netns.clone());
        let ip = found.as_ref().and_then(|port| port.spec.ip.as_ref()?.parse::<IpAddr>().ok());
        netns.zip(ip).map(|(netns, ip)| (netns, SocketAddr::new(ip, port))).ok_or_else(|| {
            let message = format!("virtual machine {} has no address yet", path.name);
            Box::new(refuse(StatusCode::CONFLICT, "NoAddress", message))
        })
    }
}
