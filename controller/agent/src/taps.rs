//! The taps that machines here use, by port.
//!
//! A tap lives as long as its open file; QEMU has it, and so have we, in order to attach it again when somebody deletes
//! the device. So what is kept here must be let go when QEMU ends: the machine's reconciler does both.
//!
//! Machines that start at the same time want their taps at the same time. The kernel makes one after the other anyway, so whoever comes
//! while others are made waits, and then all that wait are made together: by one thread in their namespace and with one socket.
//!
//! Making them is a storm of news about links, and whoever answers each by looking at all links holds up the kernel, which makes none
//! meanwhile. So while taps are made in a namespace nobody looks at those there ([`Taps::are_made`]), though not for long: the storm's last
//! news are answered when it is over.

use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use host::netns::Namespace;
use host::tap::{Error, Spec, Tap};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// A tap and how it shall be.
#[derive(Clone, Debug)]
pub struct Plugged {
    /// Its open file.
    pub tap: Tap,
    /// What it shall be.
    pub spec: Spec,
}

/// Somebody who waits for a tap.
struct Asked {
    namespace: Namespace,
    spec: Spec,
    tell: oneshot::Sender<Result<Tap, Error>>,
}

/// How long taps of a namespace are not looked at for others that are made there.
const STORM: Duration = Duration::from_secs(1);
/// Between two looks whether it is over.
const MOMENT: Duration = Duration::from_millis(5);

/// All taps in use, by the UID of their port.
#[derive(Default)]
pub struct Taps {
    plugged: Mutex<HashMap<String, Plugged>>,
    asked: Mutex<Vec<Asked>>,
    turn: tokio::sync::Mutex<()>,
    /// How many wait for theirs in a namespace (by its number), and since when somebody does.
    made: Mutex<HashMap<u64, (usize, Instant)>>,
}

/// One who waits for his tap.
struct Waiting<'a>(&'a Taps, u64);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut made = self.0.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((waiting, _)) = made.get_mut(&self.1) {
            *waiting -= 1;
            if *waiting == 0 {
                made.remove(&self.1);
            }
        }
    }
}

impl Taps {
    /// The port's tap.
    pub fn get(&self, port: &str) -> Option<Plugged> {
        self.plugged.lock().unwrap_or_else(PoisonError::into_inner).get(port).cloned()
    }

    /// Keeps the port's tap.
    pub fn plug(&self, port: &str, plugged: Plugged) {
        self.plugged.lock().unwrap_or_else(PoisonError::into_inner).insert(port.to_owned(), plugged);
    }

    /// Lets go of the port's tap.
    pub fn unplug(&self, port: &str) {
        self.plugged.lock().unwrap_or_else(PoisonError::into_inner).remove(port);
    }

    /// Makes a tap, together with those that others ask for meanwhile. It is not kept yet.
    ///
    /// # Errors
    /// As [`Tap::create`].
    pub async fn make(&self, namespace: &Namespace, spec: Spec) -> Result<Tap, Error> {
        let name = spec.name.to_string();
        let _waiting = self.wait_in(namespace.inode());
        let (tell, mut told) = oneshot::channel();
        self.asked().push(Asked { namespace: namespace.clone(), spec, tell });
        let _turn = self.turn.lock().await;
        // Whoever had the turn before may have made it.
        if let Ok(made) = told.try_recv() {
            return made;
        }
        let waiting = std::mem::take(&mut *self.asked());
        for together in by_namespace(waiting) {
            make_all(together).await;
        }
        // Whoever had the turn and was stopped in the middle took the request along.
        told.await.unwrap_or_else(|_| {
            let source = io::Error::other("whoever made it was interrupted");
            Err(Error::Tap { action: "make", name, source })
        })
    }

    fn wait_in(&self, namespace: u64) -> Waiting<'_> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.entry(namespace).or_insert_with(|| (0, Instant::now())).0 += 1;
        Waiting(self, namespace)
    }

    /// Whether taps are being made in the namespace, and have not been for long. Whoever does not look for that hears of the last of them.
    pub fn are_made(&self, namespace: &Namespace) -> bool {
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.get(&namespace.inode()).is_some_and(|(_, since)| since.elapsed() < STORM)
    }

    /// Returns when that is over.
    pub async fn rest(&self, namespace: &Namespace) {
        while self.are_made(namespace) {
            tokio::time::sleep(MOMENT).await;
        }
    }

    fn asked(&self) -> std::sync::MutexGuard<'_, Vec<Asked>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn by_namespace(asked: Vec<Asked>) -> Vec<Vec<Asked>> {
    let mut rooms: Vec<Vec<Asked>> = Vec::new();
    // Nobody waits any more for what belongs to a caller that was stopped.
    for one in asked.into_iter().filter(|one| !one.tell.is_closed()) {
        match rooms.iter_mut().find(|room| room.iter().all(|other| other.namespace.inode() == one.namespace.inode())) {
            Some(room) => room.push(one),
            None => rooms.push(vec![one]),
        }
    }
    rooms
}

async fn make_all(together: Vec<Asked>) {
    let Some(namespace) = together.first().map(|one| one.namespace.clone()) else { return };
    let specs: Vec<Spec> = together.iter().map(|one| one.spec.clone()).collect();
    match Tap::create_all(&namespace, specs).await {
        Ok(made) => together.into_iter().zip(made).for_each(|(one, made)| {
            // The tap of somebody who went meanwhile goes with its file.
            let _ = one.tell.send(made.map(|(tap, _)| tap));
        }),
        Err(error) => {
            let said = control_loop::sentence(&error);
            for one in together {
                let (name, source) = (one.spec.name.to_string(), io::Error::other(said.clone()));
                let _ = one.tell.send(Err(Error::Tap { action: "make", name, source }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use host::link::{Bridge, Links};
    use host::netns::Namespaces;

    fn spec(number: usize) -> Spec {
        Spec {
            name: format!("tap-{number}").parse().unwrap(),
            owner_uid: 300_001,
            bridge: "br-1".parse().unwrap(),
            mtu: 1450,
            alias: format!("port-{number}"),
        }
    }

    #[tokio::test]
    async fn taps_that_are_asked_for_together_are_made_and_one_that_cannot_be_hinders_none() {
        let name = format!("test-taps-{}", uuid::Uuid::new_v4().simple());
        let rooms = Namespaces::default();
        let (namespace, _) = rooms.ensure(&name).await.expect("this test needs root");
        let links = Links::open(&namespace).await.unwrap();
        let addresses = vec!["10.1.0.1/24".parse().unwrap()];
        let bridge = Bridge { name: "br-1".parse().unwrap(), addresses, mtu: 1450, alias: "network".into() };
        links.ensure_bridge(&bridge).await.unwrap();

        let taps = Taps::default();
        // The first has the turn, so all others wait and are one batch. Two want the same name, of whom one gets it.
        let asked = (0..20).map(|number| taps.make(&namespace, spec(number.min(18))));
        let made: Vec<Result<Tap, Error>> = futures::future::join_all(asked).await;
        let failed: Vec<&Error> = made.iter().filter_map(|one| one.as_ref().err()).collect();
        assert_eq!(failed.len(), 1, "{failed:?}");
        assert!(failed[0].to_string().contains("tap-18"), "{}", failed[0]);
        for number in 0..19 {
            let link = links.find(&format!("tap-{number}")).await.unwrap().expect("it is there");
            assert!(link.up && link.master.is_some() && link.mtu == 1450, "{link:?}");
        }
        // A caller that gives up takes nothing of the others along.
        let (left, kept) = (taps.make(&namespace, spec(30)), taps.make(&namespace, spec(31)));
        drop(left);
        kept.await.unwrap();
        rooms.delete(&name).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn while_taps_are_made_nobody_looks_but_not_for_ever() {
        let name = format!("test-taps-{}", uuid::Uuid::new_v4().simple());
        let rooms = Namespaces::default();
        let (namespace, _) = rooms.ensure(&name).await.expect("this test needs root");
        let taps = Taps::default();
        assert!(!taps.are_made(&namespace));
        let (one, other) = (taps.wait_in(namespace.inode()), taps.wait_in(namespace.inode()));
        drop(one);
        assert!(taps.are_made(&namespace), "another one waits");
        assert!(tokio::time::timeout(STORM / 2, taps.rest(&namespace)).await.is_err());
        taps.rest(&namespace).await;
        assert!(!taps.are_made(&namespace), "it has lasted too long");
        drop(other);
        let next = taps.wait_in(namespace.inode());
        assert!(taps.are_made(&namespace));
        drop(next);
        assert!(!taps.are_made(&namespace));
        rooms.delete(&name).await.unwrap();
    }
}
