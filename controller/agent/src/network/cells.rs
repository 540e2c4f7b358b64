//! The networks that are realised here, one pass at a time each.
//!
//! Whoever asks for a pass draws a ticket first. A pass that began after the ticket was drawn has read everything the
//! asker knew, so it serves; otherwise the asker runs one. It begins once nobody else has come for a moment, so a crowd of askers costs one
//! pass, or two, not one each.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crds::Port;
use host::link::Change;
use tokio_util::task::AbortOnDropHandle;

use super::error::Error;
use super::hands::Hands;
use super::plan::{Refused, Wanted};
use crate::layout::{Layout, Owner, owned};
use crate::names::Names;
use control_loop::{Queue, sentence};

/// What a pass did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Namespace of the network.
    pub netns: String,
    /// What somebody else had changed and the pass set right.
    pub drift: Vec<Change>,
    /// Ports that the pass left out.
    pub refused: Vec<Refused>,
    /// UIDs of the ports that are routers' places here.
    pub legs: Vec<String>,
    /// Why requests are not balanced here as they should be.
    pub trouble: Option<Trouble>,
}

/// What does not work of a network, though all else does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What went wrong, as a sentence.
    pub message: String,
    /// Whether the pass found it out, rather than one before.
    pub new: bool,
}

/// How long it takes until what did not work is tried again.
pub(super) const AGAIN: Duration = Duration::from_secs(5);

/// How long whoever is about to run a pass waits to see whether others come, and how often at most.
const MOMENT: Duration = Duration::from_millis(1);
const MOMENTS: usize = 10;

/// All networks of this host.
pub struct Cells<H: Hands> {
    hands: H,
    names: Names,
    layout: Layout,
    queue: Queue<Port>,
    clock: AtomicU64,
    slots: Mutex<HashMap<String, Arc<Place>>>,
}

/// Where askers for one network meet.
#[derive(Default)]
struct Place {
    /// How many have come.
    asked: AtomicUsize,
    slot: tokio::sync::Mutex<Slot>,
}

impl Place {
    /// Returns when nobody has come for a moment, or soon.
    async fn gather(&self) {
        let mut seen = self.asked.load(Ordering::Relaxed);
        for _ in 0..MOMENTS {
            tokio::time::sleep(MOMENT).await;
            let now = self.asked.load(Ordering::Relaxed);
            if now == seen {
                return;
            }
            seen = now;
        }
    }
}

#[derive(Default)]
struct Slot {
    /// Clock at which the last good pass began.
    begun: u64,
    netns: String,
    /// Whom the last good pass left out.
    refused: Vec<Refused>,
    /// What the last good pass made sure of.
    stands: Option<Wanted>,
    watch: Option<AbortOnDropHandle<()>>,
    /// Why requests are not balanced.
    trouble: Option<String>,
    /// Asks for another pass because of it.
    again: Option<AbortOnDropHandle<()>>,
}

impl Slot {
    fn done(&self, drift: Vec<Change>) -> Done {
        let legs = self.stands.iter().flat_map(|wanted| &wanted.routing.legs).map(|leg| leg.port.clone()).collect();
        let trouble = self.trouble.clone().map(|message| Trouble { message, new: false });
        Done { netns: self.netns.clone(), drift, refused: self.refused.clone(), legs, trouble }
    }
}

impl<H: Hands> Cells<H> {
    /// No network yet.
    pub fn new(hands: H, names: Names, layout: Layout, queue: Queue<Port>) -> Self {
        Self { hands, names, layout, queue, clock: AtomicU64::new(1), slots: Mutex::default() }
    }

    /// Our names.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// Marks the moment: a pass that begins later has seen what is there now.
    pub fn ticket(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    /// Makes the network be as `read` says, unless a pass that began after `ticket` has done so.
    pub async fn converge(
        &self,
        uid: &str,
        ticket: u64,
        read: impl FnOnce() -> Result<Wanted, Error>,
    ) -> Result<Done, Error> {
        let place = self.place(uid);
        place.asked.fetch_add(1, Ordering::Relaxed);
        let mut slot = place.slot.lock().await;
        if slot.begun > ticket {
            return Ok(slot.done(Vec::new()));
        }
        place.gather().await;
        let begun = self.ticket();
        let wanted = read()?;
        let (changes, trouble) = match wanted.ports.is_empty() {
            true => {
                slot.watch = None;
                slot.stands = None;
                self.hands.remove(&wanted.owner.uid, &wanted.netns).await?;
                (Vec::new(), None)
            }
            false => self.realise(&wanted).await?,
        };
        let untouched = slot.stands.as_ref() == Some(&wanted);
        if !wanted.ports.is_empty()
            && (!untouched || slot.watch.as_ref().is_none_or(AbortOnDropHandle::is_finished) || !changes.is_empty())
        {
            slot.watch = self.watch(&wanted).await;
        }
        let (troubled, new) = (slot.trouble.is_some(), trouble.is_some() && slot.trouble != trouble);
        slot.again = trouble.as_ref().and_then(|_| self.ask_again(&wanted));
        slot.trouble = trouble;
        slot.begun = begun;
        slot.netns.clone_from(&wanted.netns);
        self.wake_changed(&wanted.owner.namespace, &slot.refused, &wanted.refused);
        slot.refused.clone_from(&wanted.refused);
        slot.stands = (!wanted.ports.is_empty()).then_some(wanted);
        let mut done = slot.done(if untouched && !troubled { changes } else { Vec::new() });
        done.trouble.iter_mut().for_each(|trouble| trouble.new = new);
        Ok(done)
    }

    /// Whoever is refused from now on, or no longer, has something new to tell.
    fn wake_changed(&self, namespace: &str, before: &[Refused], now: &[Refused]) {
        let gone = before.iter().filter(|one| !now.contains(one));
        let new = now.iter().filter(|one| !before.contains(one));
        for port in gone.chain(new) {
            self.queue.wake_named(namespace, &port.name);
        }
    }

    /// What was changed, and what does not work though all else does.
    async fn realise(&self, wanted: &Wanted) -> Result<(Vec<Change>, Option<String>), Error> {
        let mut changes = self.hands.ensure_namespaces(wanted).await?;
        changes.extend(self.hands.ensure_bridge(wanted).await?);
        changes.extend(self.hands.ensure_guard(wanted).await?);
        changes.extend(self.hands.ensure_firewall(wanted).await?);
        changes.extend(self.hands.ensure_reach(wanted).await?);
        changes.extend(self.hands.ensure_legs(wanted).await?);
        changes.extend(self.hands.ensure_taps(wanted).await?);
        changes.extend(self.hands.ensure_balancer(wanted).await?);
        changes.extend(self.hands.ensure_api_door(wanted).await?);
        changes.extend(self.hands.ensure_dhcp(wanted).await?);
        // After dnsmasq, which may hold the port from before it was told to leave it.
        changes.extend(self.hands.ensure_dns(wanted).await?);
        // Last: whoever balances no requests has addresses, names and connections all the same.
        match self.hands.ensure_proxy(wanted).await {
            Ok(more) => {
                changes.extend(more);
                Ok((changes, wanted.services.trouble.clone()))
            }
            Err(error) => Ok((changes, Some(sentence(&error)))),
        }
    }

    /// Wakes a port of the network after a while.
    fn ask_again(&self, wanted: &Wanted) -> Option<AbortOnDropHandle<()>> {
        let (queue, namespace) = (self.queue.clone(), wanted.owner.namespace.clone());
        let port = wanted.ports.first()?.name.clone();
        Some(AbortOnDropHandle::new(tokio::spawn(async move {
            tokio::time::sleep(AGAIN).await;
            queue.wake_named(&namespace, &port);
        })))
    }

    /// Wakes a port of the network when something in its namespace changes.
    async fn watch(&self, wanted: &Wanted) -> Option<AbortOnDropHandle<()>> {
        let (queue, namespace) = (self.queue.clone(), wanted.owner.namespace.clone());
        let port = wanted.ports.first()?.name.clone();
        let wake = move || queue.wake_named(&namespace, &port);
        match self.hands.watch(wanted, Box::new(wake)).await {
            Ok(task) => Some(AbortOnDropHandle::new(task)),
            Err(error) => {
                tracing::warn!(
                    error = sentence(&error),
                    "failed to watch a network; drift shows at the next resync only"
                );
                None
            }
        }
    }

    /// Removes the cell of a network whose object is gone, found by the name it had.
    pub async fn remove_abandoned(&self, namespace: &str, network: &str) -> Result<(), Error> {
        let ours = |owner: &Owner| owner.namespace == namespace && owner.name == network;
        for owner in owned(&self.layout.networks())?.into_iter().filter(ours) {
            self.remove(&owner.uid).await?;
        }
        Ok(())
    }

    /// Removes all of a network.
    pub async fn remove(&self, uid: &str) -> Result<(), Error> {
        let place = self.place(uid);
        let mut slot = place.slot.lock().await;
        *slot = Slot::default();
        self.hands.remove(uid, &self.names.cell(uid)).await
    }

    /// Removes what carries our mark and belongs to no network or router that is `needed` (by UID). The underlay stays when machines
    /// without a network run there.
    pub async fn sweep(
        &self,
        needed: impl Fn() -> BTreeSet<String>,
        routers: impl Fn() -> BTreeSet<String>,
        machines_alone: impl Fn() -> bool,
    ) -> Vec<Error> {
        let mut failures = self.sweep_networks(&needed).await;
        failures.extend(self.sweep_routers(&routers).await);
        let needed = needed();
        let mut kept: Vec<String> = needed.iter().chain(&routers()).map(|uid| self.names.cell(uid)).collect();
        if machines_alone() || !needed.is_empty() {
            kept.push(self.names.underlay());
        }
        failures.extend(self.hands.sweep_namespaces(&kept).await.err());
        failures
    }

    /// Removes the routers that are known to have been here and are not `needed` (by UID).
    pub async fn sweep_routers(&self, needed: impl Fn() -> BTreeSet<String>) -> Option<Error> {
        self.hands.remove_routers(&needed()).await.err()
    }

    /// Removes the networks that are known to have been here and are not `needed` (by UID).
    pub async fn sweep_networks(&self, needed: impl Fn() -> BTreeSet<String>) -> Vec<Error> {
        let mut failures = Vec::new();
        let owners = match owned(&self.layout.networks()) {
            Ok(owners) => owners,
            Err(error) => return vec![error.into()],
        };
        let first = needed();
        for uid in owners.into_iter().map(|owner| owner.uid).filter(|uid| !first.contains(uid)) {
            let place = self.place(&uid);
            let mut slot = place.slot.lock().await;
            // Asked again while no pass can be under way: one that came before made it for a port that counts, one that comes finds nothing.
            if !needed().contains(&uid) {
                tracing::info!(network = uid, "removing a network that no port here needs");
                *slot = Slot::default();
                failures.extend(self.hands.remove(&uid, &self.names.cell(&uid)).await.err());
            }
        }
        failures
    }

    fn place(&self, uid: &str) -> Arc<Place> {
        let mut slots = self.slots.lock().unwrap_or_else(|broken| broken.into_inner());
        slots.entry(uid.to_owned()).or_default().clone()
    }
}
