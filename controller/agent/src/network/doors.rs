//! Open doors to the namespaces of networks.

use std::collections::HashMap;
use std::sync::Mutex;

use host::link::{Changes, Links};
use host::netns::Namespace;

use super::error::Error;
use super::hands::{HostHands, netns_failed};

/// Namespaces held open, with a netlink socket each.
#[derive(Default)]
pub struct Doors(Mutex<HashMap<String, (Namespace, Links)>>);

impl Doors {
    pub(super) fn get(&self, name: &str) -> Option<(Namespace, Links)> {
        self.0.lock().unwrap_or_else(|broken| broken.into_inner()).get(name).cloned()
    }

    pub(super) fn put(&self, name: &str, namespace: Namespace, links: Links) {
        self.0.lock().unwrap_or_else(|broken| broken.into_inner()).insert(name.to_owned(), (namespace, links));
    }

    pub(super) fn close(&self, name: &str) {
        self.0.lock().unwrap_or_else(|broken| broken.into_inner()).remove(name);
    }
}

impl HostHands {
    /// Makes the namespace be there, and a door to it be open.
    pub(super) async fn open(&self, name: &str) -> Result<Changes, Error> {
        let lost = self.doors.get(name).map(|(namespace, _)| namespace);
        let made = match lost {
            Some(lost) => self.namespaces.restore(name, &lost).await,
            None => self.namespaces.ensure(name).await,
        };
        let (namespace, made) = made.map_err(|source| netns_failed("make a network namespace", source))?;
        if self.doors.get(name).is_none_or(|(known, _)| known.inode() != namespace.inode()) {
            let links = Links::open(&namespace).await;
            let links = links.map_err(|source| netns_failed("open a network namespace", source))?;
            self.doors.put(name, namespace, links);
        }
        Ok(made)
    }
}
