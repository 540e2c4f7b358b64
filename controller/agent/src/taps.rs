//! The taps that machines here use, by port.
//!
//! A tap lives as long as its open file; QEMU has it, and so have we, in order to attach it again when somebody deletes
//! the device. So what is kept here must be let go when QEMU ends: the machine's reconciler does both.

use std::collections::HashMap;
use std::sync::Mutex;

use host::tap::{Spec, Tap};

/// A tap and how it shall be.
#[derive(Clone, Debug)]
pub struct Plugged {
    /// Its open file.
    pub tap: Tap,
    /// What it shall be.
    pub spec: Spec,
}

/// All taps in use, by the UID of their port.
#[derive(Debug, Default)]
pub struct Taps(Mutex<HashMap<String, Plugged>>);

impl Taps {
    /// The port's tap.
    pub fn get(&self, port: &str) -> Option<Plugged> {
        self.0.lock().unwrap_or_else(|broken| broken.into_inner()).get(port).cloned()
    }

    /// Keeps the port's tap.
    pub fn plug(&self, port: &str, plugged: Plugged) {
        self.0.lock().unwrap_or_else(|broken| broken.into_inner()).insert(port.to_owned(), plugged);
    }

    /// Lets go of the port's tap.
    pub fn unplug(&self, port: &str) {
        self.0.lock().unwrap_or_else(|broken| broken.into_inner()).remove(port);
    }
}
