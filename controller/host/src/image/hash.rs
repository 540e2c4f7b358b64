//! Digests of files and of descriptions.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::error::{Error, Result};

/// Hex digits of a key: 128 bits are plenty among the images of one host.
const KEY_DIGITS: usize = 32;

/// A name for a description: equal descriptions of one kind, equal names.
pub(super) fn key_of(kind: &str, description: &impl Serialize) -> String {
    // What we describe (strings, numbers, sequences) always serialises.
    let text = serde_json::to_string(&(kind, description)).unwrap_or_default();
    let mut digits = hex(&Sha256::digest(text));
    digits.truncate(KEY_DIGITS);
    digits
}

/// The SHA-256 of a file in hex.
pub(super) fn digest_of(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(Error::io("read", path))? {
            0 => return Ok(hex(&hasher.finalize())),
            n => hasher.update(&buffer[..n]),
        }
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
