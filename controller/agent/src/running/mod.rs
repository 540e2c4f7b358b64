//! The machines that run here, as this process holds on to them: followers, stops under way.
//!
//! All of it is lost with this process and made again by adoption. The door and the faults find a running machine here.

mod readiness;
pub mod vitals;

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::{Arc, Mutex};

use tokio_util::task::AbortOnDropHandle;

use vitals::{Follower, Vitals};

/// The register.
#[derive(Default)]
pub struct Machines(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    followers: HashMap<String, Arc<Follower>>,
    stops: HashMap<String, AbortOnDropHandle<()>>,
    forgiven: HashSet<String>,
}

impl Machines {
    fn with<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(|broken| broken.into_inner()))
    }

    /// The machine's follower.
    pub fn follower(&self, uid: &str) -> Option<Arc<Follower>> {
        self.with(|inner| inner.followers.get(uid).cloned())
    }

    /// What is known of the machine; nothing when nobody follows it.
    pub fn vitals(&self, uid: &str) -> Vitals {
        self.follower(uid).map(|follower| follower.vitals()).unwrap_or_default()
    }

    /// Keeps a follower, in place of an earlier one.
    pub fn follow(&self, uid: &str, follower: Follower) {
        self.with(|inner| inner.followers.insert(uid.to_owned(), Arc::new(follower)));
    }

    /// Lets go of everything about the machine.
    pub fn forget(&self, uid: &str) {
        self.with(|inner| {
            inner.followers.remove(uid);
            inner.stops.remove(uid);
        });
    }

    /// Keeps a stop that is under way.
    pub fn stop(&self, uid: &str, stopping: impl Future<Output = ()> + Send + 'static) {
        let task = AbortOnDropHandle::new(tokio::spawn(stopping));
        self.with(|inner| inner.stops.insert(uid.to_owned(), task));
    }

    /// Whether a stop is under way.
    pub fn is_stopping(&self, uid: &str) -> bool {
        self.with(|inner| inner.stops.get(uid).is_some_and(|task| !task.is_finished()))
    }

    /// The machine's next start shall not be delayed by its past: somebody cut its power on purpose and gives it again.
    pub fn forgive(&self, uid: &str) {
        self.with(|inner| inner.forgiven.insert(uid.to_owned()));
    }

    /// Takes up such a wish.
    pub fn take_forgiveness(&self, uid: &str) -> bool {
        self.with(|inner| inner.forgiven.remove(uid))
    }
}
