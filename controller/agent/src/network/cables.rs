//! The taps of running machines, looked at all at once.

use host::link::Change;
use host::tap::{self, Tap};

use super::error::Error;
use super::hands::HostHands;
use super::plan::{Wanted, WantedPort};

impl HostHands {
    /// Connects the taps that are in use; one question to the kernel when all are, however many there are.
    pub(super) async fn plug(&self, wanted: &Wanted) -> Result<Vec<Change>, Error> {
        let (namespace, links) = self.door(wanted)?;
        if self.taps.are_made(&namespace) {
            return Ok(Vec::new());
        }
        let plugged = |port: &WantedPort| self.taps.get(&port.uid).map(|plugged| (plugged.tap, plugged.spec));
        let (names, taps): (Vec<&str>, Vec<_>) =
            wanted.ports.iter().filter_map(|port| Some((port.name.as_str(), plugged(port)?))).unzip();
        if taps.is_empty() {
            return Ok(Vec::new());
        }
        let mut changes = Vec::new();
        let done = Tap::ensure_all(&links, &taps).await;
        for (name, done) in names.iter().zip(done.map_err(|source| failed("look at the taps".to_owned(), source))?) {
            changes.extend(done.map_err(|source| failed(format!("set up the tap of port {name}"), source))?);
        }
        Ok(changes)
    }
}

fn failed(step: String, source: tap::Error) -> Error {
    Error::Host { step, category: source.category(), retry: source.retry(), source: source.into() }
}
