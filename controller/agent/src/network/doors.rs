//! Open doors to the namespaces of networks.

use std::collections::HashMap;
use std::sync::Mutex;

use host::link::Links;
use host::netns::Namespace;

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
