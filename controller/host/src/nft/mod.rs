//! Running nft in a namespace: one script is one transaction.
//!
//! [`table`] makes a table be as wanted, [`listing`] reads what there is, [`memory`] knows when that is still so, [`script`] writes what
//! differs.

mod listing;
mod memory;
mod script;
mod table;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::link::LinkName;
use crate::netns::{self, Namespace};

pub(crate) use listing::Element;
pub(crate) use memory::Memory;
#[cfg(test)]
pub(crate) use script::difference;
pub(crate) use script::whole;
pub use table::Stands;
pub(crate) use table::{Done, Family, Table, change_elements, ensure, look, look_after, look_in, remove};

/// What can go wrong with a packet filter.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The namespace could not be used.
    #[error(transparent)]
    Namespace(#[from] netns::Error),
    /// nft could not be run.
    #[error("failed to run {program:?}")]
    Run {
        /// The program.
        program: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// nft refused.
    #[error("nft refused to {action}: {said}")]
    Refused {
        /// What was tried.
        action: &'static str,
        /// Its words.
        said: String,
    },
    /// A setting of the kernel could not be read or written.
    #[error("failed to set {name}")]
    Setting {
        /// Its file.
        name: &'static str,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// What nft listed cannot be read.
    #[error("failed to understand what nft lists")]
    Listing(#[source] serde_json::Error),
}

impl Error {
    /// A stable label for metrics and condition reasons.
    pub fn category(&self) -> &'static str {
        match self {
            Error::Namespace(inner) => inner.category(),
            Error::Run { .. } => "ProgramFailed",
            Error::Refused { .. } | Error::Setting { .. } | Error::Listing(_) => "PacketFilterFailed",
        }
    }

    /// Whether trying again without any change may help.
    pub fn retry(&self) -> bool {
        match self {
            Error::Namespace(inner) => inner.retry(),
            Error::Run { .. } | Error::Refused { .. } | Error::Setting { .. } | Error::Listing(_) => true,
        }
    }
}

/// Result of this module's fallible functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Where the table is and what writes it.
#[derive(Clone, Debug)]
pub struct Place {
    /// Namespace of the network's bridge.
    pub namespace: Namespace,
    /// nft's file; `process::find_program("nft", "CLUSTERCTL_NFT")` finds it.
    pub program: PathBuf,
    /// The table's name, which tells whose it is.
    pub table: LinkName,
}

/// Hands nft a script, which it does whole or not at all.
pub(crate) async fn write(place: &Place, action: &'static str, script: String) -> Result<()> {
    nft(place, action, &["-f", "-"], script).await.map(drop)
}

/// Runs nft in the namespace; what it printed.
pub(crate) async fn nft(
    place: &Place,
    action: &'static str,
    arguments: &'static [&'static str],
    input: String,
) -> Result<Vec<u8>> {
    let program = place.program.clone();
    let ran = netns::enter(&place.namespace, move || run(&program, arguments, &input)).await?;
    let output = ran.map_err(|source| Error::Run { program: place.program.clone(), source })?;
    match output.status.success() {
        true => Ok(output.stdout),
        false => {
            // The rest is a drawing of where in the script it stumbled.
            let said = String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or("nothing").to_owned();
            Err(Error::Refused { action, said })
        }
    }
}

fn run(program: &Path, arguments: &[&str], input: &str) -> io::Result<std::process::Output> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // It reads to the end before it says anything. When it ends early its exit code tells.
        let _ = stdin.write_all(input.as_bytes());
    }
    child.wait_with_output()
}
