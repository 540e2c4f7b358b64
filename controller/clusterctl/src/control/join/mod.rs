//! How a host on another machine gets its certificate without the authority's key.
//!
//! ```text
//!   administrator: join-token create ─► Secret with the word's digest, host and end ─► token (word, URL, authority)
//!   host:          join ─ TLS to that URL, trusted by that authority alone ─ word + request ─► door
//!   door:          digest, host, end right? request readable? ─► Secret deleted (once) ─► certificate
//! ```
//!
//! Later the host asks for the next certificate by the present one (`certify`, `renew`).
//!
//! The host's key never leaves it. The token opens one door, once, for one host, until its end.

pub mod ask;
pub mod certify;
pub mod door;
pub mod renew;
pub mod token;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Where tokens are kept.
const NAMESPACE: &str = "photon-system";
/// The type of the Secrets that keep them.
const KIND: &str = "photoncloud.dev/join-token";

/// What the host gets to carry, in base64.
#[derive(Serialize, Deserialize)]
struct Token {
    /// Name of the Secret.
    id: String,
    /// What proves the token.
    word: String,
    host: String,
    /// URL of the door.
    url: String,
    /// Certificate of the authority, by which the door proves itself.
    authority: String,
}

/// What the host asks at the door.
#[derive(Serialize, Deserialize)]
struct Asked {
    id: String,
    word: String,
    request: String,
}

/// What a host asks that has joined: a certificate for the same key again.
#[derive(Serialize, Deserialize)]
struct Renewed {
    request: String,
}

/// What it gets.
#[derive(Serialize, Deserialize)]
struct Given {
    certificate: String,
}

fn digest(word: &str) -> String {
    Sha256::digest(word).iter().map(|byte| format!("{byte:02x}")).collect()
}
