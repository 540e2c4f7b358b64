//! A network's services on this host: their tables, checks and drains.

use std::collections::BTreeSet;

use host::balancer::{self, Balancer, Stands};
use host::link::Change;
use host::netns::Namespace;

use super::drains;
use super::error::Error;
use super::hands::{HostHands, link_failed, nft_failed};
use super::plan::Wanted;
use super::services::ranges;
use super::terms::link;
use crate::layout;

/// How the network's balancer stood when it was last written, in the network's directory; as long as it is there, so may the tables be.
const BALANCER: &str = "balancer.json";

impl HostHands {
    /// What load balancers say of connections, or nothing of it where there are none. Before all ports have been heard what is
    /// there stays.
    pub(super) async fn balance(&self, wanted: &Wanted) -> Result<Vec<Change>, Error> {
        let services = &wanted.services;
        let uid = &wanted.owner.uid;
        let (namespace, links) = self.door(wanted)?;
        self.health.follow(uid, &wanted.owner.namespace, &namespace, wanted.gateway, &services.checks);
        if !services.complete {
            return Ok(Vec::new());
        }
        let dir = self.layout.network(uid);
        let failed = |source| nft_failed("balance connections", source);
        let reflected = |source| link_failed("let backends reach themselves", source);
        let mut changes = Vec::new();
        let was_there = dir.join(BALANCER).exists();
        if let Some(balancer) = &services.balancer {
            let place = self.filter_place(wanted, &wanted.balancer)?;
            if !was_there {
                // Whoever finds the file knows that there may be something to remove.
                layout::note(&dir, BALANCER, &Stands::default())?;
            }
            let before: Stands = layout::recall(&dir, BALANCER).unwrap_or_default();
            let mut stands = before.clone();
            self.drains.expect(uid, balancer, &services.drains);
            let done = balancer::ensure(&place, &link(&wanted.bridge)?, balancer, &mut stands).await;
            changes.extend(done.map_err(failed)?);
            if stands != before {
                layout::note(&dir, BALANCER, &stands)?;
            }
            let here: BTreeSet<_> = balancer.here.iter().map(|(tap, _)| tap.clone()).collect();
            // A tap that came with its machine is no drift: that is not told.
            links.ensure_reflecting(&here).await.map_err(reflected)?;
            self.drains.follow(uid, &namespace, balancer, &services.drains);
        } else if was_there {
            links.ensure_reflecting(&BTreeSet::new()).await.map_err(reflected)?;
            self.end_all(wanted, &namespace).await?;
            balancer::remove(&self.filter_place(wanted, &wanted.balancer)?).await.map_err(failed)?;
            // With the tables the kernel stops translating: there is nothing to drain.
            self.drains.forget(uid);
            layout::forget(&dir, BALANCER)?;
        }
        Ok(changes)
    }

    /// Ends all conversations with backends, which the kernel would translate no more once the tables are gone. First nobody answers
    /// for a service any longer, so what is left of a conversation does not come to its old backend again: it is refused.
    async fn end_all(&self, wanted: &Wanted, namespace: &Namespace) -> Result<(), Error> {
        // Where there is no IPv4 there have been no services.
        let Some(gateway) = wanted.subnets.all().next().map(|subnet| subnet.gateway) else { return Ok(()) };
        let subnets = ranges(wanted);
        let nobody = Balancer { services: Vec::new(), here: Vec::new(), gateway, subnets, proxy: None };
        let place = self.filter_place(wanted, &wanted.balancer)?;
        let done = balancer::ensure(&place, &link(&wanted.bridge)?, &nobody, &mut Stands::default()).await;
        done.map_err(|source| nft_failed("balance connections", source))?;
        drains::end_all(namespace).await;
        Ok(())
    }
}
