//! The agent as a whole: what it is told, and how it begins.
//!
//! [`rooms`] holds one cache and one queue a kind and knows who has to look when another changes; [`house`] wires watches,
//! judges and door; [`clock`] does what no event asks for.

mod clock;
mod house;
mod rooms;

use std::path::PathBuf;
use std::sync::Arc;

use host::qemu::accelerator;
use kube::Client;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::door::{self, Door};
use crate::layout::{FileError, Layout};
use crate::names::Names;
use crate::network::trial;
use crate::node_door;
use crate::registration::Registration;
use crate::underlay::{self, Underlay};
use crate::user_ids;
use house::House;

/// Who this agent is and where it works.
pub struct AgentOptions {
    /// The host's name; also a name in `identity`'s certificate.
    pub host_name: String,
    /// The instance's id: what separates its names on this machine from another instance's.
    pub instance: String,
    /// The API.
    pub client: Client,
    /// The API without an identity: what nodes ask through this host goes this way, and proves itself.
    pub node_client: Client,
    /// Directory of machines, volumes and networks.
    pub data_dir: PathBuf,
    /// Directory that the hosts of the instance on this machine share, to find each other on the underlay.
    pub underlay_dir: PathBuf,
    /// Network namespace in which routers' ways out end, `host` for the agent's own; without one there are none here.
    pub outside: Option<String>,
    /// Directory of built images, which outlives the rest; below `data_dir` when none.
    pub image_cache: Option<PathBuf>,
    /// Arguments by which this program becomes a name server; a directory follows them.
    pub name_server: Vec<String>,
    /// The agent's certificate and key, as its doors show them.
    pub identity: pki::Shown,
    /// Who signed the API server's certificate.
    pub ca_pem: String,
}

/// The agent could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not root.
    #[error("the agent needs root to make networks and machines: run it as root, or start without an agent")]
    NotRoot,
    /// The data directory.
    #[error(transparent)]
    File(#[from] FileError),
    /// User ids.
    #[error(transparent)]
    UserIds(#[from] user_ids::Error),
    /// The way to other hosts.
    #[error(transparent)]
    Underlay(#[from] underlay::Error),
    /// The namespace that is outside.
    #[error("failed to use what --outside names")]
    Outside(#[source] host::netns::Error),
    /// The image cache.
    #[error("failed to open the image cache")]
    Images(#[from] host::image::Error),
    /// The ways of nodes to the API.
    #[error(transparent)]
    NodeDoors(#[from] node_door::Error),
    /// The door.
    #[error(transparent)]
    Door(#[from] door::Error),
}

/// One host's agent.
pub struct Agent;

impl Agent {
    /// Runs until `shutdown`, with its door at `listener`. Machines and networks go on without us.
    pub async fn run(options: AgentOptions, listener: TcpListener, shutdown: CancellationToken) -> Result<(), Error> {
        if !rustix::process::geteuid().is_root() {
            return Err(Error::NotRoot);
        }
        let door = Door::open(listener, &options.identity, &options.ca_pem)?;
        let layout =
            Layout::new(&options.data_dir).map_err(|source| FileError::new("resolve", &options.data_dir, source))?;
        layout.create()?;
        let verdict = accelerator::detect(&layout.accelerator(), None).await;
        tracing::info!(accelerator = %verdict.accelerator, reason = verdict.reason, "accelerator chosen");
        let names = Names::new(&options.instance, &options.host_name);
        let underlay = Arc::new(Underlay::open(&options.underlay_dir, &names, &options.host_name).await?);
        let underlay_address = underlay.address();
        let ability = trial::ability(&names).await;
        let house = House::build(&options, layout, verdict.clone(), underlay, ability.clone()).await?;
        let registration = Registration {
            host: options.host_name.clone(),
            endpoint: door.address.to_string(),
            underlay_address,
            outside: options.outside.is_some(),
            accelerator: verdict.clone(),
            filter: ability,
        };
        house.run(&options, door, registration, shutdown).await;
        Ok(())
    }
}
