//! What a proxy shall do, in words that cannot hold anything else.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::render;

/// Where certificates are, in the proxy's directory.
pub(super) const CERTIFICATES: &str = "tls";

/// What a proxy does, whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxy {
    /// What it listens to.
    pub listeners: Vec<Listener>,
    /// How long requests that an earlier configuration was asked may take, in seconds.
    pub drain: u32,
}

impl Proxy {
    /// Its configuration file.
    #[must_use]
    pub fn text(&self) -> String {
        render::text(self)
    }

    /// All certificates that it shows.
    pub(super) fn certificates(&self) -> impl Iterator<Item = &Certificate> {
        self.listeners.iter().flat_map(|listener| &listener.tls).flatten()
    }
}

/// An address and port where HTTP is spoken, or HTTPS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its address, one of the bridge's.
    pub address: Ipv4Addr,
    /// Its port.
    pub port: u16,
    /// With HTTPS what it shows, at least one: who asks for no name that one of them is for is shown the first.
    pub tls: Option<Vec<Certificate>>,
    /// Which requests go elsewhere; of several that match one, the most specific counts, then the first.
    pub routes: Vec<Route>,
    /// Where all others go.
    pub rest: Pool,
}

/// A certificate with its key, as PEM. It is known by its digest, so one that changes is another one.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    pem: Arc<str>,
    digest: Arc<str>,
}

impl Certificate {
    /// This one, with the certificates that lead to its authority after it, and its key.
    #[must_use]
    pub fn new(pem: &str) -> Certificate {
        // Half of it tells them apart, and keeps HAProxy's lines short.
        let digest: String = Sha256::digest(pem.as_bytes()).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        Certificate { pem: pem.into(), digest: digest.into() }
    }

    /// Where it is, as seen from the proxy's directory.
    pub(super) fn path(&self) -> String {
        format!("{CERTIFICATES}/{}.pem", self.digest)
    }

    pub(super) fn pem(&self) -> &str {
        &self.pem
    }
}

/// The key is never shown.
impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("digest", &self.digest).finish_non_exhaustive()
    }
}

/// Some requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Host that is asked for; any when none.
    pub host: Option<Hostname>,
    /// What is asked for.
    pub path: Path,
    /// Where they go.
    pub pool: Pool,
}

/// Those who answer. Where there is nobody, 503 is answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pool {
    /// Who.
    pub servers: Vec<Server>,
    /// Whether a client's address decides who.
    pub sticky: bool,
}

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Server {
    /// Its address.
    pub address: Ipv4Addr,
    /// Its port.
    pub port: u16,
    /// Its share, from 1 to 256.
    pub weight: u32,
}

/// Text that would have to be something else.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text:?} is no {what}")]
pub struct Invalid {
    what: &'static str,
    text: String,
}

/// The host of a request: a name in lower case, or `*.` and one, which stands for all names that end so.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hostname(String);

impl Hostname {
    /// What a host must end with, for one that stands for many.
    #[must_use]
    pub fn suffix(&self) -> Option<&str> {
        self.0.strip_prefix('*')
    }
}

impl FromStr for Hostname {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Hostname, Invalid> {
        let name = text.strip_prefix("*.").unwrap_or(text);
        let label = |label: &str| {
            let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
        };
        match name.len() <= 253 && name.split('.').all(label) {
            true => Ok(Hostname(text.to_owned())),
            false => Err(Invalid { what: "host name", text: text.to_owned() }),
        }
    }
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a request's path must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    text: String,
    /// Whether it must be this one, rather than begin with these elements.
    exact: bool,
}

impl Path {
    /// This path.
    ///
    /// # Errors
    /// [`Invalid`].
    pub fn exact(text: &str) -> Result<Path, Invalid> {
        Ok(Path { text: valid_path(text)?, exact: true })
    }

    /// All paths that begin with these elements. A `/` at its end counts for nothing.
    ///
    /// # Errors
    /// [`Invalid`].
    pub fn prefix(text: &str) -> Result<Path, Invalid> {
        Ok(Path { text: valid_path(text)?.trim_end_matches('/').to_owned(), exact: false })
    }

    /// Whether every path is meant.
    pub(super) fn is_any(&self) -> bool {
        !self.exact && self.text.is_empty()
    }

    pub(super) fn is_exact(&self) -> bool {
        self.exact
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

/// No path of a request holds what cannot be seen (RFC 9112, §3.2).
fn valid_path(text: &str) -> Result<String, Invalid> {
    match text.starts_with('/') && text.len() <= 1024 && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(text.to_owned()),
        false => Err(Invalid { what: "path", text: text.to_owned() }),
    }
}
