//! What this machine can do for groups, found by trying in a namespace that is gone afterwards.

use host::firewall;
use host::link::LinkName;
use host::netns::Namespaces;
use host::nft::Place;

use super::groups::Ability;
use crate::names::Names;
use control_loop::sentence;

/// Whether groups can be enforced here; if not, why.
pub async fn ability(names: &Names) -> Ability {
    let namespaces = Namespaces::default();
    let tried = attempt(&namespaces, &names.trial()).await;
    if let Err(error) = namespaces.delete(&names.trial()).await {
        tracing::warn!(error = sentence(&error), "failed to remove the namespace in which the packet filter was tried");
    }
    match &tried {
        Ok(()) => tracing::info!("security groups can be enforced"),
        Err(why) => tracing::info!(why, "security groups cannot be enforced: ports that have any stay closed"),
    }
    tried
}

async fn attempt(namespaces: &Namespaces, name: &str) -> Ability {
    let (namespace, _) = namespaces.ensure(name).await.map_err(|error| sentence(&error))?;
    let program = process::find_program("nft", "CLUSTERCTL_NFT").map_err(|error| sentence(&error))?;
    let table: LinkName = "trial".parse().map_err(|error: host::link::InvalidLinkName| sentence(&error))?;
    match firewall::probe(&Place { namespace, program, table }).await {
        Ok(None) => Ok(()),
        Ok(Some(why)) => Err(why),
        Err(error) => Err(sentence(&error)),
    }
}
