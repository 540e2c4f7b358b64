//! Which host has which address: one file, written before an address is used, so that a restart finds it again.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;

use ipnet::Ipv4Net;

use crate::layout::FileError;

/// No address could be given.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The book could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// All are taken.
    #[error("every underlay address of {range} is taken: run fewer hosts on this machine")]
    Exhausted {
        /// The range.
        range: Ipv4Net,
    },
}

impl Error {
    /// A stable label for metrics and condition reasons.
    pub fn category(&self) -> &'static str {
        match self {
            Error::File(error) => error.category(),
            Error::Exhausted { .. } => "UnderlayExhausted",
        }
    }
}

/// The host's address, the lowest free one when it has none. The caller holds the lock.
pub(super) fn address(path: &Path, range: Ipv4Net, host: &str) -> Result<Ipv4Addr, Error> {
    let mut taken: BTreeMap<String, Ipv4Addr> = match std::fs::read(path) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).map_err(|error| FileError::new("understand", path, error.into()))?
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
        Err(source) => return Err(FileError::new("read", path, source).into()),
    };
    if let Some(address) = taken.get(host).filter(|address| range.contains(*address)) {
        return Ok(*address);
    }
    let free = range.hosts().find(|address| !taken.values().any(|other| other == address));
    let free = free.ok_or(Error::Exhausted { range })?;
    taken.insert(host.to_owned(), free);
    let failed = |source| FileError::new("write", path, source);
    let text = serde_json::to_vec_pretty(&taken).map_err(|error| failed(error.into()))?;
    process::write_atomic(path, text, 0o600).map_err(failed)?;
    Ok(free)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_host_has_an_address_of_its_own_across_restarts_until_there_are_none() {
        let dir = tempfile::tempdir().unwrap();
        let (path, range) = (dir.path().join("addresses.json"), "100.64.0.0/30".parse().unwrap());
        let of = |host: &str| address(&path, range, host);
        assert_eq!(of("host01").unwrap(), Ipv4Addr::new(100, 64, 0, 1));
        assert_eq!(of("host02").unwrap(), Ipv4Addr::new(100, 64, 0, 2));
        assert_eq!(of("host01").unwrap(), Ipv4Addr::new(100, 64, 0, 1));
        assert!(matches!(of("host03"), Err(Error::Exhausted { .. })));
    }
}
