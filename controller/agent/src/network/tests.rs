//! Passes over a network against a fake host: whichever verb fails, the next pass converges; drift is told, our own work is not.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use crds::Port;
use host::link::Change;
use kube::ResourceExt;
use kube::runtime::controller::Action;
use kube::runtime::watcher;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::cells::{Cells, Done};
use super::error::Error;
use super::hands::Hands;
use super::plan::{Wanted, samples, wanted};
use crate::layout::Layout;
use control_loop::{Cache, Pace, Reconciler, queue};

/// Remembers what is there; `failing` names the calls that fail, counted from 0.
#[derive(Default)]
struct FakeHands(Mutex<FakeHost>);

#[derive(Default)]
struct FakeHost {
    there: BTreeSet<String>,
    failing: BTreeSet<usize>,
    calls: usize,
    /// Whether the HTTP proxy does not work.
    without_proxy: bool,
    /// How long a pass takes.
    time: std::time::Duration,
}

impl FakeHands {
    fn ensure(&self, things: Vec<String>) -> Result<Vec<Change>, Error> {
        let mut host = self.0.lock().unwrap();
        let call = host.calls;
        host.calls += 1;
        if host.failing.contains(&call) {
            // The first of them was made before it failed.
            host.there.extend(things.into_iter().take(1));
            return Err(Error::NetworkGone { network: format!("call {call}") });
        }
        Ok(things
            .into_iter()
            .filter(|thing| host.there.insert(thing.clone()))
            .map(|thing| Change::new("Made", thing))
            .collect())
    }
}

impl Hands for Arc<FakeHands> {
    async fn ensure_namespaces(&self, wanted: &Wanted) -> Result<Vec<Change>, Error> {
        let time = self.0.lock().unwrap().time;
        if !time.is_zero() {
            tokio::time::sleep(time).await;
        }
        self.ensure(vec![wanted.underlay.clone(), wanted.netns.clone()])
    }

    async fn ensure_bridge(&self, wanted: &Wanted) -> Result<Vec<Change>, Error> {
        self.ensure(vec![wanted.bridge.clone()])
    }

    async fn ensure_guard(&self, wanted: &Wanted) -> Result<Vec<Change>, Error> {
        self.ensure(vec![wanted.filter.clone()])
    }

    async fn ensure_firewall(&self, wanted: &Wanted) -> Result<Vec<Change>, Error> {
        self.ensure(vec![wanted.firewall.clone()])
    }

    async fn ensure_reach(&self, wanted: &Wanted) -> Result<Vec<Change>, Error> {
        self.ensure(vec![wanted.tunnel.clone()])
    }

    async fn ensure_legs(&self, _: &Wanted) -> Result<Vec<Change>, Error> {
        self.ensure(vec!["legs".into()])
    }

    async fn ensure_taps(&self, wanted: &Wanted) -> Result<Vec<Change>, Error> {
        self.ensure(wanted.ports.iter().map(|port| port.tap.clone()).collect())
    }

    async fn ensure_balancer(&self, wanted: &Wanted) -> Result<Vec<Change>, Error> {
        self.ensure(wanted.services.balancer.is_some().then(|| wanted.balancer.clone()).into_iter().collect())
    }

    async fn ensure_proxy(&self, _: &Wanted) -> Result<Vec<Change>, Error> {
        match self.0.lock().unwrap().without_proxy {
            true => Err(Error::NetworkGone { network: "proxy".to_owned() }),
            false => Ok(Vec::new()),
        }
    }

    async fn ensure_api_door(&self, wanted: &Wanted) -> Result<Vec<Change>, Error> {
        self.ensure(wanted.api_access.then(|| "door".to_owned()).into_iter().collect())
    }

    async fn ensure_dhcp(&self, _: &Wanted) -> Result<Vec<Change>, Error> {
        self.ensure(vec!["dnsmasq".into()])
    }

    async fn ensure_dns(&self, _: &Wanted) -> Result<Vec<Change>, Error> {
        self.ensure(vec!["name server".into()])
    }

    async fn watch(&self, _: &Wanted, _: Box<dyn Fn() + Send + Sync>) -> Result<JoinHandle<()>, Error> {
        Ok(tokio::spawn(std::future::pending()))
    }

    async fn remove(&self, _: &str, _: &str) -> Result<(), Error> {
        self.0.lock().unwrap().there.clear();
        Ok(())
    }

    async fn remove_routers(&self, _: &BTreeSet<String>) -> Result<(), Error> {
        Ok(())
    }

    async fn sweep_namespaces(&self, _: &[String]) -> Result<(), Error> {
        Ok(())
    }
}

struct Lab {
    hands: Arc<FakeHands>,
    cells: Cells<Arc<FakeHands>>,
    uid: String,
    _dir: tempfile::TempDir,
}

impl Lab {
    fn new() -> Lab {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path()).unwrap();
        layout.create().unwrap();
        let hands = Arc::new(FakeHands::default());
        let cells = Cells::new(hands.clone(), samples::names(), layout, queue().0);
        Lab { hands, cells, uid: samples::network().metadata.uid.unwrap(), _dir: dir }
    }

    async fn pass(&self, ports: &[u8]) -> Result<Done, Error> {
        let ticket = self.cells.ticket();
        self.pass_with(ticket, ports).await
    }

    async fn pass_with(&self, ticket: u64, ports: &[u8]) -> Result<Done, Error> {
        let ports: Vec<_> = ports.iter().map(|number| samples::port(*number)).collect();
        self.cells.converge(&self.uid, ticket, || wanted(&samples::names(), &samples::network(), &ports)).await
    }

    fn there(&self) -> BTreeSet<String> {
        self.hands.0.lock().unwrap().there.clone()
    }
}

#[tokio::test]
async fn whichever_verb_fails_the_next_pass_converges_and_the_last_port_takes_all_along() {
    for call in 0..10 {
        let lab = Lab::new();
        lab.hands.0.lock().unwrap().failing.insert(call);
        let _ = lab.pass(&[2, 3]).await;
        let done = lab.pass(&[2, 3]).await.unwrap();
        assert_eq!(lab.there().len(), 11, "call {call}");
        assert_eq!(done.drift, [], "what we finish ourselves is no drift");
        lab.pass(&[]).await.unwrap();
        assert!(lab.there().is_empty(), "call {call}");
    }
}

#[tokio::test]
async fn what_somebody_else_removed_is_told_and_a_change_of_ours_is_not() {
    let lab = Lab::new();
    lab.pass(&[2]).await.unwrap();
    assert_eq!(lab.pass(&[2]).await.unwrap().drift, []);
    assert_eq!(lab.pass(&[2, 3]).await.unwrap().drift, [], "a port more is no drift");
    lab.hands.0.lock().unwrap().there.remove("dnsmasq");
    let drift = lab.pass(&[2, 3]).await.unwrap().drift;
    assert_eq!(drift, [Change::new("Made", "dnsmasq")]);
}

#[tokio::test]
async fn askers_whose_moment_a_pass_has_seen_need_none_of_their_own() {
    let lab = Lab::new();
    let early: Vec<u64> = (0..100).map(|_| lab.cells.ticket()).collect();
    lab.pass(&[2]).await.unwrap();
    let calls = lab.hands.0.lock().unwrap().calls;
    for ticket in early {
        lab.pass_with(ticket, &[2]).await.unwrap();
    }
    assert_eq!(lab.hands.0.lock().unwrap().calls, calls);
    lab.pass(&[2]).await.unwrap();
    assert!(lab.hands.0.lock().unwrap().calls > calls, "a later asker is looked for");
}

/// Looks at a port as the agent does: by a pass over its network that began after it was asked for.
struct Asker {
    lab: Lab,
    passes: tokio::sync::watch::Sender<usize>,
}

impl Reconciler for Asker {
    type Kind = Port;
    type Error = Error;

    async fn reconcile(&self, _: Arc<Port>) -> Result<Action, Error> {
        self.lab.pass(&[2]).await?;
        self.passes.send_modify(|served| *served += 1);
        Ok(Action::await_change())
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_ports_that_are_looked_at_again_are_one_pass() {
    let lab = Lab::new();
    let hands = lab.hands.clone();
    hands.0.lock().unwrap().time = std::time::Duration::from_millis(50);
    lab.pass(&[2]).await.unwrap();
    let calls = hands.0.lock().unwrap().calls;
    let ((queue, requests), (cache, mut writer)) = (queue(), Cache::new());
    let heard = (0..1000).map(|number| {
        let mut port = (*samples::port(2)).clone();
        port.metadata.name = Some(format!("p{number}"));
        watcher::Event::InitApply(port)
    });
    for event in std::iter::once(watcher::Event::Init).chain(heard).chain([watcher::Event::InitDone]) {
        writer.apply_watcher_event(&event);
    }
    for port in cache.all() {
        queue.wake_named("t", &port.name_any());
    }
    let (passes, mut served) = tokio::sync::watch::channel(0);
    let engine =
        control_loop::run(Asker { lab, passes }, cache, queue, requests, super::PACE, CancellationToken::new());
    let _engine = AbortOnDropHandle::new(tokio::spawn(engine));
    served.wait_for(|served| *served == 1000).await.unwrap();
    // It waited for all of them.
    assert_eq!((hands.0.lock().unwrap().calls - calls) / 11, 1);
}

/// Tells whose look was asked for.
struct Teller(tokio::sync::mpsc::UnboundedSender<String>);

impl Reconciler for Teller {
    type Kind = Port;
    type Error = Error;

    async fn reconcile(&self, port: Arc<Port>) -> Result<Action, Error> {
        let _ = self.0.send(port.name_any());
        Ok(Action::await_change())
    }
}

#[tokio::test]
async fn a_refused_port_holds_up_nobody_and_looks_again_when_the_older_one_goes() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path()).unwrap();
    layout.create().unwrap();
    let (older, mut younger) = (samples::port(2), (*samples::port(3)).clone());
    younger.spec.ip.clone_from(&older.spec.ip);
    let younger = Arc::new(younger);
    let ((queue, requests), (cache, mut writer)) = (queue(), Cache::new());
    for heard in [watcher::Event::Init, watcher::Event::InitApply((*younger).clone()), watcher::Event::InitDone] {
        writer.apply_watcher_event(&heard);
    }
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let engine =
        control_loop::run(Teller(tell), cache, queue.clone(), requests, Pace::at_once(1), CancellationToken::new());
    let _engine = AbortOnDropHandle::new(tokio::spawn(engine));
    let cells = Cells::new(Arc::new(FakeHands::default()), samples::names(), layout, queue);
    let uid = samples::network().metadata.uid.unwrap();
    let pass = async |ports: &[Arc<Port>]| {
        let ticket = cells.ticket();
        cells.converge(&uid, ticket, || wanted(&samples::names(), &samples::network(), ports)).await.unwrap()
    };

    let done = pass(&[older.clone(), younger.clone()]).await;
    let refused: Vec<_> = done.refused.iter().map(|one| (one.name.as_str(), one.reason)).collect();
    assert_eq!(refused, [("p3", "AddressTaken")]);
    assert!(!done.netns.is_empty(), "the other one is served");
    assert_eq!(told.recv().await.as_deref(), Some("p3"), "it has something to tell");
    assert_eq!(pass(&[older, younger.clone()]).await.drift, [], "a refusal is no drift");
    assert!(pass(&[younger]).await.refused.is_empty());
    assert_eq!(told.recv().await.as_deref(), Some("p3"), "it can be served now");
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_does_not_work_holds_up_nobody_and_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path()).unwrap();
    layout.create().unwrap();
    let port = samples::port(2);
    let ((queue, requests), (cache, mut writer)) = (queue(), Cache::new());
    for heard in [watcher::Event::Init, watcher::Event::InitApply((*port).clone()), watcher::Event::InitDone] {
        writer.apply_watcher_event(&heard);
    }
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let engine =
        control_loop::run(Teller(tell), cache, queue.clone(), requests, Pace::at_once(1), CancellationToken::new());
    let _engine = AbortOnDropHandle::new(tokio::spawn(engine));
    let hands = Arc::new(FakeHands::default());
    let cells = Cells::new(hands.clone(), samples::names(), layout, queue);
    let uid = samples::network().metadata.uid.unwrap();
    let pass = async || {
        let (ticket, ports) = (cells.ticket(), [port.clone()]);
        cells.converge(&uid, ticket, || wanted(&samples::names(), &samples::network(), &ports)).await.unwrap()
    };

    hands.0.lock().unwrap().without_proxy = true;
    let found_out = pass().await.trouble.unwrap();
    let begun = tokio::time::Instant::now();
    assert!(found_out.new && found_out.message.contains("TenantNetwork proxy"), "{found_out:?}");
    assert!(hands.0.lock().unwrap().there.contains("name server"), "all else is there");
    assert_eq!(told.recv().await.as_deref(), Some("p2"), "it is looked at again");
    assert_eq!(begun.elapsed(), super::cells::AGAIN);
    assert!(!pass().await.trouble.unwrap().new, "it is told once");
    hands.0.lock().unwrap().without_proxy = false;
    assert_eq!(pass().await.trouble, None);
    let looked_again = tokio::time::timeout(super::cells::AGAIN * 10, told.recv()).await;
    assert!(looked_again.is_err(), "nobody has a reason to");
}
