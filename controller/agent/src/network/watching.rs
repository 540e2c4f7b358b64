//! What wakes a network: a change in its namespace, in a router's here, outside where such a router leads, or of the way to other hosts, and
//! the end of a program that serves it.
//!
//! A watch begins after a pass, so a program may have ended between the two. That is as good an end as one that is seen: without it
//! nobody would look at the network before the next resync.

use std::time::Duration;

use futures::future::select_all;
use host::link::{Watch, watch_namespace};
use host::{dnsmasq, nameserver, proxy};
use process::ProcessId;
use tokio::task::JoinHandle;

use super::error::Error;
use super::hands::{HostHands, netns_failed};
use super::plan::Wanted;
use super::reach::Reach;

/// How long it takes until one that has ended before its watch began is told. A program that ends right after each start, so that each
/// pass finds it well and each watch finds it gone, must not keep the host busy.
const GONE: Duration = Duration::from_secs(2);

/// A program that may serve a network, as its watch found it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Served {
    /// By none, and none is wanted.
    Not,
    /// By this one.
    By(ProcessId),
    /// By none, though the pass had one.
    NoLonger,
}

impl Served {
    fn new(wanted: bool, running: Option<ProcessId>) -> Served {
        match (running, wanted) {
            (Some(id), _) => Served::By(id),
            (None, true) => Served::NoLonger,
            (None, false) => Served::Not,
        }
    }

    /// Returns when the program is no more, at once or ever.
    async fn end(self) {
        match self {
            Served::Not => std::future::pending().await,
            Served::By(id) => id.exited().await,
            Served::NoLonger => tokio::time::sleep(GONE).await,
        }
    }
}

impl HostHands {
    pub(super) async fn watch_network(
        &self,
        wanted: &Wanted,
        wake: Box<dyn Fn() + Send + Sync>,
    ) -> Result<JoinHandle<()>, Error> {
        let (namespace, _) = self.door(wanted)?;
        let watched = watch_namespace(&namespace).await;
        let mut links = watched.map_err(|source| netns_failed("watch a network namespace", source))?;
        let mut routers = Vec::new();
        for leg in &wanted.routing.legs {
            let (namespace, _) = self.door_of(&leg.netns)?;
            let watched = watch_namespace(&namespace).await;
            routers.push(watched.map_err(|source| netns_failed("watch a router's namespace", source))?);
        }
        let leads_out = wanted.routing.legs.iter().any(|leg| leg.way.is_some());
        if let Some(outside) = self.outside.as_ref().filter(|_| leads_out) {
            let watched = watch_namespace(&outside.namespace).await;
            routers.push(watched.map_err(|source| netns_failed("watch what is outside", source))?);
        }
        let (dhcp, dns, http) = (self.dhcp_served(wanted), self.names_served(wanted), self.http_served(wanted));
        let mut way = matches!(wanted.reach, Reach::Across { .. }).then(|| self.underlay.changes());
        let taps = self.taps.clone();
        Ok(tokio::spawn(async move {
            let changes = async {
                while links.changed().await {
                    let calm = async {
                        links.settled().await;
                        taps.rest(&namespace).await;
                    };
                    wake_after(calm, &wake).await;
                }
            };
            let elsewhere = async {
                match &mut way {
                    Some(way) => {
                        while way.changed().await.is_ok() {
                            wake();
                        }
                    }
                    None => std::future::pending().await,
                }
            };
            let beside = async {
                match routers.is_empty() {
                    true => std::future::pending().await,
                    // One that broke is an end for all: a new watch is needed.
                    false => drop(select_all(routers.into_iter().map(|one| Box::pin(each(one, &wake)))).await),
                }
            };
            // Each end means that a new watch is needed, which the pass that is woken here sets up.
            tokio::select! {
                () = dhcp.end() => {}
                () = dns.end() => {}
                () = http.end() => {}
                () = changes => {}
                () = beside => {}
                () = elsewhere => {}
            }
            wake();
        }))
    }

    fn dhcp_served(&self, wanted: &Wanted) -> Served {
        let running = dnsmasq::observe(&self.dhcp_state(&wanted.owner.uid)).ok().flatten();
        Served::new(wanted.dhcp.is_some(), running.and_then(|running| running.id()))
    }

    /// Every network has its name server.
    fn names_served(&self, wanted: &Wanted) -> Served {
        Served::new(true, nameserver::observe(&self.dns_state(&wanted.owner.uid)).ok().flatten())
    }

    /// A host without HAProxy has passes that succeed without it.
    fn http_served(&self, wanted: &Wanted) -> Served {
        let there = || process::find_program(proxy::PROGRAM, proxy::PROGRAM_VARIABLE).is_ok();
        let services = &wanted.services;
        let asked = services.complete && !services.is_awaiting && services.proxy.is_some() && there();
        Served::new(asked, proxy::observe(&self.proxy_state(&wanted.owner.uid)).ok().flatten())
    }
}

/// Wakes at each change, until the watch breaks.
async fn each(mut watch: Watch, wake: &(dyn Fn() + Send + Sync)) {
    while watch.changed().await {
        wake_after(watch.settled(), wake).await;
    }
}

/// Wakes when it is calm, or when the watch is given up before: the pass whose watch takes its place may have looked already when the
/// news came.
async fn wake_after(calm: impl Future<Output = ()>, wake: &(dyn Fn() + Send + Sync)) {
    let _owed = Owed(wake);
    calm.await;
}

/// News that nobody has been woken for yet.
struct Owed<'a>(&'a (dyn Fn() + Send + Sync));

impl Drop for Owed<'_> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_that_is_gone_before_its_watch_is_told_and_not_at_once() {
        let gone = Served::new(true, None);
        assert_eq!(gone, Served::NoLonger);
        let begun = tokio::time::Instant::now();
        gone.end().await;
        assert_eq!(begun.elapsed(), GONE);
    }

    #[tokio::test]
    async fn a_watch_that_is_given_up_in_a_burst_wakes_for_what_it_has_heard() {
        let woken = std::sync::atomic::AtomicUsize::new(0);
        let wake = || {
            woken.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        };
        wake_after(std::future::ready(()), &wake).await;
        assert_eq!(woken.load(std::sync::atomic::Ordering::Relaxed), 1);
        assert_eq!(wake_after(std::future::pending(), &wake).now_or_never(), None);
        assert_eq!(woken.load(std::sync::atomic::Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_nobody_wants_is_not_missed() {
        let nothing = tokio::time::timeout(Duration::from_secs(3600), Served::new(false, None).end()).await;
        assert!(nothing.is_err());
    }
}
