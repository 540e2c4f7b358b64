//! What a guest may say: nothing under another's address.
//!
//! One table of the kernel's packet filter for each network of a host, in the network's namespace and at the very entry of
//! its bridge. What comes from a tap passes only with that tap's own hardware address, as IPv4 from its own addresses or
//! as ARP that speaks for them. A guest serves no DHCP. Everything else a guest could send (other protocols, VLAN tags) is
//! dropped, for nothing in a network needs it. What comes by another way, from the bridge itself or from other hosts, was
//! checked where it began.
//!
//! ```text
//!  list ──► table as it stood after our last write? ── no ──► whole table, in one transaction
//!                 │ yes
//!                 └──► elements that differ: added, removed (one port among thousands is two elements)
//! ```
//!
//! Rules are compared with what the kernel listed right after they were written, not with a listing of ours: how a rule is
//! listed differs between versions of nft. Whoever has lost that listing writes the table once more.

mod listing;
mod render;

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::link::{Change, Changes, LinkName, Mac};
use crate::netns::{self, Namespace};
use listing::Found;

/// What can go wrong with a guard.
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
            Error::Refused { .. } | Error::Listing(_) => "PacketFilterFailed",
        }
    }

    /// Whether trying again without any change may help.
    pub fn retry(&self) -> bool {
        match self {
            Error::Namespace(inner) => inner.retry(),
            Error::Run { .. } | Error::Refused { .. } | Error::Listing(_) => true,
        }
    }
}

/// Result of this module's fallible functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A guest's way into the network, and who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guest {
    /// Its tap.
    pub tap: LinkName,
    /// Its hardware address.
    pub mac: Mac,
    /// Its addresses.
    pub addresses: Vec<Ipv4Addr>,
}

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

/// How the table's rules were listed after they were written: to be kept across restarts, and handed in the next time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Stands {
    /// Digest of the rules as they were written: another version of ours may write others.
    written: String,
    listed: Option<String>,
}

/// Makes the guests of the network, and nobody else, be heard as who they are.
///
/// # Errors
/// nft's; until it succeeds what was there stands.
pub async fn ensure(place: &Place, guests: &[Guest], stands: &mut Stands) -> Result<Changes> {
    let wanted = render::elements(guests);
    let found = look(place).await?;
    let written = render::digest();
    if found.rules.is_none() || found.rules != stands.listed || stands.written != written {
        write(place, "write the table", render::table(&place.table, &wanted)).await?;
        *stands = Stands { written, listed: look(place).await?.rules };
        let message = format!("wrote the packet filter {} for {} ports", place.table, guests.len());
        return Ok(Change::new("FilterWritten", message).into());
    }
    let script = render::difference(&place.table, &wanted, &found.elements);
    if script.is_empty() {
        return Ok(Changes::default());
    }
    let elements = script.lines().count();
    write(place, "change the table", script).await?;
    Ok(Change::new("FilterChanged", format!("changed {elements} elements of the packet filter {}", place.table)).into())
}

async fn look(place: &Place) -> Result<Found> {
    // All of the family: a single table that is not there is an error, and its words differ between versions.
    let listed = nft(place, "list", &["-j", "list", "ruleset", "bridge"], String::new()).await?;
    listing::parse(&listed, place.table.as_str()).map_err(Error::Listing)
}

async fn write(place: &Place, action: &'static str, script: String) -> Result<()> {
    nft(place, action, &["-f", "-"], script).await.map(drop)
}

async fn nft(
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

/// One element of one set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Element {
    /// A tap and its hardware address.
    Guest(String, String),
    /// And an address.
    Address(String, String, String),
}

type Elements = BTreeSet<Element>;
