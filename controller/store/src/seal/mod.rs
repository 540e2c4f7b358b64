//! Values that etcd must not be able to read: sealed on the way there, opened on the way back.
//!
//! ```text
//!   writers ─ plain ─► seal ─ "sealed:v1:KEY:" nonce ciphertext tag ─► etcd
//!   readers ◄─ plain ─ open ◄──────────────────────────────────────────┘
//! ```
//!
//! AES-256-GCM with a random nonce for each value. The header and etcd's key are authenticated with it, so a value
//! copied to another key, or relabelled, does not open. What has no header is plain: it was stored before sealing was
//! turned on, and is rewritten (`upkeep`). Memory holds plain values only.

mod keys;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce};
use ring::rand::{SecureRandom, SystemRandom};

pub use keys::{KeyFile, Keyring, SealError};

/// What a sealed value begins with. Objects are JSON and begin with a brace.
const MARK: &[u8] = b"sealed:v1:";

/// Which values are sealed, and with what.
#[derive(Clone, Debug)]
pub struct Sealing {
    /// The keys; shared with whoever reloads them.
    pub keyring: Arc<Keyring>,
    /// Folders under the root prefix whose values are sealed, such as `secrets/`.
    pub folders: Vec<String>,
}

/// Why a stored value stays closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Closed {
    /// No key of this id is known.
    UnknownKey(String),
    /// Its key does not open it: it was changed, or belongs to another place.
    Damaged,
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Closed::UnknownKey(id) => write!(f, "with the key {id:?}, which is not in the key file"),
            Closed::Damaged => f.write_str("and was changed, or copied from another object"),
        }
    }
}

impl Sealing {
    /// Whether the value of `rest`, a key without the root prefix, is to be sealed.
    pub(crate) fn covers(&self, rest: &str) -> bool {
        self.folders.iter().any(|folder| rest.starts_with(folder.as_str()))
    }

    /// The stored form of a value.
    pub(crate) fn seal(&self, key: &str, value: &[u8]) -> Result<Bytes, SealError> {
        let (id, cipher) = self.keyring.first();
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| SealError::Random)?;
        let mut header = [MARK, id.as_bytes(), b":"].concat();
        let bound = bound_to(&header, key);
        let mut sealed = value.to_vec();
        cipher
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(bound), &mut sealed)
            .map_err(|_| SealError::Random)?;
        header.extend_from_slice(&nonce);
        header.extend_from_slice(&sealed);
        Ok(Bytes::from(header))
    }

    /// The plain form of a stored value.
    pub(crate) fn open(&self, key: &str, stored: Bytes) -> Result<Bytes, Closed> {
        let Some(id) = key_of(&stored) else { return Ok(stored) };
        let cipher: Arc<LessSafeKey> = self.keyring.find(id).ok_or_else(|| Closed::UnknownKey(id.to_owned()))?;
        let (header, rest) = stored.split_at(MARK.len() + id.len() + 1);
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN).ok_or(Closed::Damaged)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Closed::Damaged)?;
        let mut value = sealed.to_vec();
        let length = cipher
            .open_in_place(nonce, Aad::from(bound_to(header, key)), &mut value)
            .map_err(|_| Closed::Damaged)?
            .len();
        value.truncate(length);
        Ok(Bytes::from(value))
    }

    /// Whether a stored value is as a new one would be: sealed with the first key.
    pub(crate) fn is_current(&self, stored: &[u8]) -> bool {
        key_of(stored) == Some(self.keyring.first().0.as_str())
    }
}

/// The id of the key that sealed a value; `None` for a plain one.
pub(crate) fn key_of(stored: &[u8]) -> Option<&str> {
    let rest = stored.strip_prefix(MARK)?;
    let end = rest.iter().position(|byte| *byte == b':')?;
    std::str::from_utf8(&rest[..end]).ok()
}

fn bound_to(header: &[u8], key: &str) -> Vec<u8> {
    [header, key.as_bytes()].concat()
}

/// The cipher of a key.
fn cipher(secret: &[u8]) -> Option<LessSafeKey> {
    ring::aead::UnboundKey::new(&AES_256_GCM, secret).ok().map(LessSafeKey::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "/registry/secrets/a/b";

    fn sealing(dir: &tempfile::TempDir) -> (KeyFile, Sealing) {
        let file = KeyFile::new(dir.path().join("keys.json"));
        let keyring = Arc::new(Keyring::load_or_create(&file).unwrap());
        (file, Sealing { keyring, folders: vec!["secrets/".to_owned()] })
    }

    #[test]
    fn a_value_opens_where_it_was_sealed_and_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let (_file, sealing) = sealing(&dir);
        let sealed = sealing.seal(KEY, b"plain words").unwrap();
        assert!(!sealed.windows(5).any(|w| w == b"plain"));
        assert_eq!(sealing.open(KEY, sealed.clone()).unwrap(), "plain words");
        assert_eq!(sealing.open("/registry/secrets/a/c", sealed.clone()), Err(Closed::Damaged));
        assert_ne!(sealing.seal(KEY, b"plain words").unwrap(), sealed, "each value has a nonce of its own");
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let (_file, sealing) = sealing(&dir);
        let sealed = sealing.seal(KEY, b"x").unwrap();
        for at in MARK.len()..sealed.len() {
            let mut bytes = sealed.to_vec();
            bytes[at] ^= 1;
            assert_ne!(sealing.open(KEY, Bytes::from(bytes)).ok().as_deref(), Some(&b"x"[..]), "byte {at}");
        }
        for length in MARK.len() + 9..sealed.len() {
            assert!(sealing.open(KEY, sealed.slice(..length)).is_err(), "cut to {length}");
        }
    }

    #[test]
    fn the_first_key_seals_and_all_open() {
        let dir = tempfile::tempdir().unwrap();
        let (file, sealing) = sealing(&dir);
        let old = sealing.seal(KEY, b"x").unwrap();
        let staged = file.stage().unwrap();
        assert!(sealing.keyring.reload().unwrap() && sealing.is_current(&old), "a staged key only opens");
        file.promote(&staged).unwrap();
        assert!(sealing.keyring.reload().unwrap() && !sealing.is_current(&old));
        let new = sealing.seal(KEY, b"x").unwrap();
        assert!(sealing.is_current(&new) && key_of(&new) == Some(staged.as_str()));
        assert_eq!((sealing.open(KEY, old.clone()), sealing.open(KEY, new)), (Ok("x".into()), Ok("x".into())));
        let used = vec![staged];
        assert_eq!(file.prune(&used).unwrap().len(), 1);
        sealing.keyring.reload().unwrap();
        assert!(matches!(sealing.open(KEY, old), Err(Closed::UnknownKey(_))));
    }

    #[test]
    fn plain_values_pass_and_are_not_current() {
        let dir = tempfile::tempdir().unwrap();
        let (_file, sealing) = sealing(&dir);
        let plain = Bytes::from_static(b"{\"kind\":\"Secret\"}");
        assert_eq!(sealing.open(KEY, plain.clone()), Ok(plain.clone()));
        assert!(!sealing.is_current(&plain) && sealing.covers("secrets/a/b") && !sealing.covers("x.dev/secrets/a/b"));
    }
}
