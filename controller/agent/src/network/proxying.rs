//! A network's HTTP proxy on this host.

use std::path::PathBuf;

use host::link::Change;
use host::proxy::{self, Place};

use super::error::Error;
use super::hands::{HostHands, link_failed};
use super::plan::Wanted;

/// Whose user the proxy of a network runs as.
pub(super) fn user_of(uid: &str) -> String {
    format!("proxy/{uid}")
}

impl HostHands {
    pub(super) fn proxy_state(&self, uid: &str) -> PathBuf {
        self.layout.network(uid).join("proxy")
    }

    /// HAProxy with what load balancers say of requests, or none of it. Before all ports have been heard and all certificates read, what is
    /// there stays.
    ///
    /// A host without HAProxy serves the rest of the network: what is missing is told by the Host and by the load balancers.
    pub(super) async fn proxy(&self, wanted: &Wanted) -> Result<Vec<Change>, Error> {
        let uid = &wanted.owner.uid;
        let (state, services) = (self.proxy_state(uid), &wanted.services);
        if !services.complete || services.is_awaiting {
            return Ok(Vec::new());
        }
        let (namespace, links) = self.door(wanted)?;
        let kept = |source| link_failed("give the proxy its answers", source);
        let Some(what) = &services.proxy else {
            if !state.exists() {
                return Ok(Vec::new());
            }
            let mut changes: Vec<Change> = proxy::remove(&state, uid).await.map_err(failed)?.into_iter().collect();
            changes.extend(links.ensure_kept(false).await.map_err(kept)?);
            self.user_ids.give_back(&user_of(uid)).map_err(no_user)?;
            return Ok(changes);
        };
        let program = match process::find_program(proxy::PROGRAM, proxy::PROGRAM_VARIABLE) {
            Ok(program) => program,
            Err(error) => {
                tracing::warn!(network = wanted.owner.name, %error, "HTTP is not balanced here");
                return Ok(Vec::new());
            }
        };
        let id = self.user_ids.take(&user_of(uid)).map_err(no_user)?;
        let place = Place { owner: uid.clone(), namespace, state, uid_gid: (id, id), program };
        let mut changes: Vec<Change> = links.ensure_kept(true).await.map_err(kept)?.into_iter().collect();
        changes.extend(proxy::ensure(&place, what).await.map_err(failed)?);
        Ok(changes)
    }
}

fn no_user(source: crate::user_ids::Error) -> Error {
    let (step, category) = ("find a user for the HTTP proxy".to_owned(), source.category());
    Error::Host { step, category, retry: true, source: source.into() }
}

fn failed(source: proxy::Error) -> Error {
    let (category, retry) = (source.category(), source.retry());
    Error::Host { step: "balance HTTP requests".to_owned(), category, retry, source: source.into() }
}
