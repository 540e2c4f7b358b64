//! Where routers' ways out end on this host: a network namespace that whoever runs the host has named, and only then.

use host::link::Links;
use host::netns::{self, Namespace, Namespaces};

/// Stands for the namespace that the agent itself is in.
const OWN: &str = "host";

/// It, held open.
#[derive(Clone, Debug)]
pub struct Outside {
    /// The namespace.
    pub namespace: Namespace,
    /// Its links.
    pub links: Links,
}

impl Outside {
    /// Opens the namespace of that name (as `ip netns` lists them), or for `host` the agent's own.
    ///
    /// # Errors
    /// There is none of that name, or it cannot be used.
    pub async fn open(name: &str) -> netns::Result<Outside> {
        let namespace = match name {
            OWN => Namespace::of_process(rustix::process::getpid().as_raw_nonzero().get())?,
            name => Namespaces::default().open(name)?,
        };
        let links = Links::open(&namespace).await?;
        Ok(Outside { namespace, links })
    }
}
