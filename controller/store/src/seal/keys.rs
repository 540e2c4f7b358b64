//! The keys that seal, and their file.
//!
//! ```text
//!   {"keys": [{"id": "5f0c…", "secret": "base64 of 32 bytes"}, …]}     0600; the first seals, all open
//! ```
//!
//! Several servers over one etcd hold copies of one file. A new key is first *staged* (last: it only opens), and
//! *promoted* once every server has it; so no server ever meets a value that it cannot open.

use std::fmt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::aead::LessSafeKey;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

/// Bytes of an AES-256 key.
const SECRET: usize = 32;

/// Why the keys cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The file cannot be read or written.
    #[error("cannot {action} the encryption keys in {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Others can read the file.
    #[error("{} can be read by others: `chmod 600` it, and rotate the keys if somebody may have", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// The file holds no usable keys.
    #[error("{} holds no usable keys ({why}): restore it from its copy; sealed values cannot be read without", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// No key of that id is in the file.
    #[error("{} has no key {id:?}", path.display())]
    NoSuchKey {
        /// The file.
        path: PathBuf,
        /// The id.
        id: String,
    },
    /// The system gave no random numbers.
    #[error("the system gave no random numbers")]
    Random,
}

#[derive(Serialize, Deserialize)]
struct Document {
    keys: Vec<Stored>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Stored {
    id: String,
    secret: String,
}

/// The file of the keys.
#[derive(Clone, Debug)]
pub struct KeyFile {
    path: PathBuf,
}

impl KeyFile {
    /// The file at `path`, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The ids of its keys, the sealing one first.
    pub fn ids(&self) -> Result<Vec<String>, SealError> {
        Ok(self.read()?.keys.into_iter().map(|key| key.id).collect())
    }

    /// Adds a key that only opens; returns its id.
    pub fn stage(&self) -> Result<String, SealError> {
        let mut document = self.read()?;
        let key = new_key()?;
        let id = key.id.clone();
        document.keys.push(key);
        self.write(&document)?;
        Ok(id)
    }

    /// Makes a key the one that seals.
    pub fn promote(&self, id: &str) -> Result<(), SealError> {
        let mut document = self.read()?;
        let missing = || SealError::NoSuchKey { path: self.path.clone(), id: id.to_owned() };
        let at = document.keys.iter().position(|key| key.id == id).ok_or_else(missing)?;
        document.keys[..=at].rotate_right(1);
        self.write(&document)
    }

    /// Removes the keys that seal nothing: neither the first nor in `used`; returns their ids.
    pub fn prune(&self, used: &[String]) -> Result<Vec<String>, SealError> {
        let mut document = self.read()?;
        let first = document.keys.first().map(|key| key.id.clone()).unwrap_or_default();
        let mut gone = Vec::new();
        document.keys.retain(|key| {
            let kept = key.id == first || used.contains(&key.id);
            if !kept {
                gone.push(key.id.clone());
            }
            kept
        });
        self.write(&document)?;
        Ok(gone)
    }

    fn read(&self) -> Result<Document, SealError> {
        let failed = |source| SealError::File { action: "read", path: self.path.clone(), source };
        let mode = std::fs::metadata(&self.path).map_err(failed)?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(SealError::Exposed { path: self.path.clone() });
        }
        let text = std::fs::read(&self.path).map_err(failed)?;
        serde_json::from_slice(&text).map_err(|error| self.malformed(error.to_string()))
    }

    fn malformed(&self, why: impl Into<String>) -> SealError {
        SealError::Malformed { path: self.path.clone(), why: why.into() }
    }

    /// Keeps the file's owner: root rotates the keys of a server that runs as somebody else.
    fn write(&self, document: &Document) -> Result<(), SealError> {
        let failed = |source| SealError::File { action: "write", path: self.path.clone(), source };
        let owner = std::fs::metadata(&self.path).ok().map(|found| (found.uid(), found.gid()));
        let text = serde_json::to_vec_pretty(document).map_err(|error| self.malformed(error.to_string()))?;
        process::replace_file(&self.path, text, 0o600).map_err(failed)?;
        if let Some((user, group)) = owner.filter(|_| rustix::process::geteuid().is_root()) {
            std::os::unix::fs::chown(&self.path, Some(user), Some(group)).map_err(failed)?;
        }
        Ok(())
    }
}

fn new_key() -> Result<Stored, SealError> {
    let mut bytes = [0; SECRET + 4];
    SystemRandom::new().fill(&mut bytes).map_err(|_| SealError::Random)?;
    let (secret, id) = bytes.split_at(SECRET);
    let id = id.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Stored { id, secret: STANDARD.encode(secret) })
}

struct Key {
    id: String,
    cipher: Arc<LessSafeKey>,
}

struct Loaded {
    keys: Vec<Key>,
    /// Which state of the file this is, to notice that it was written again.
    written: Option<State>,
}

/// A state of the file: its inode, its time and its size. A file that is replaced twice within one tick of the clock
/// keeps its time, not its inode.
type State = (u64, SystemTime, u64);

/// The keys in memory.
pub struct Keyring {
    file: KeyFile,
    loaded: RwLock<Loaded>,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").field("file", &self.file.path).finish_non_exhaustive()
    }
}

impl Keyring {
    /// The keys of a file, which is made with one key when it is missing.
    pub fn load_or_create(file: &KeyFile) -> Result<Keyring, SealError> {
        if !file.path.exists() {
            let text = serde_json::to_vec_pretty(&Document { keys: vec![new_key()?] })
                .map_err(|error| file.malformed(error.to_string()))?;
            process::write_atomic(&file.path, text, 0o600).map_err(|source| SealError::File {
                action: "write",
                path: file.path.clone(),
                source,
            })?;
        }
        let loaded = RwLock::new(load(file)?);
        Ok(Self { file: file.clone(), loaded })
    }

    /// Reads the file again when it was written since; returns whether it was.
    pub fn reload(&self) -> Result<bool, SealError> {
        if written(&self.file) == self.loaded.read().unwrap_or_else(PoisonError::into_inner).written {
            return Ok(false);
        }
        let fresh = load(&self.file)?;
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(true)
    }

    /// The key that seals. A file without keys is never loaded.
    pub(super) fn first(&self) -> (String, Arc<LessSafeKey>) {
        let loaded = self.loaded.read().unwrap_or_else(PoisonError::into_inner);
        let key = &loaded.keys[0];
        (key.id.clone(), key.cipher.clone())
    }

    pub(super) fn find(&self, id: &str) -> Option<Arc<LessSafeKey>> {
        let loaded = self.loaded.read().unwrap_or_else(PoisonError::into_inner);
        loaded.keys.iter().find(|key| key.id == id).map(|key| key.cipher.clone())
    }
}

fn written(file: &KeyFile) -> Option<State> {
    let found = std::fs::metadata(&file.path).ok()?;
    Some((found.ino(), found.modified().ok()?, found.len()))
}

fn load(file: &KeyFile) -> Result<Loaded, SealError> {
    let written = written(file);
    let mut keys = Vec::new();
    for stored in file.read()?.keys {
        let usable_id = !stored.id.is_empty() && stored.id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let secret = STANDARD.decode(&stored.secret).ok().filter(|secret| secret.len() == SECRET && usable_id);
        let cipher = secret.and_then(|secret| super::cipher(&secret));
        let cipher = cipher.ok_or_else(|| file.malformed(format!("key {:?} is damaged", stored.id)))?;
        keys.push(Key { id: stored.id, cipher: Arc::new(cipher) });
    }
    if keys.is_empty() {
        return Err(file.malformed("the list is empty"));
    }
    Ok(Loaded { keys, written })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = KeyFile::new(dir.path().join("keys.json"));
        Keyring::load_or_create(&file).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(file.path()), 0o600);
        file.stage().unwrap();
        assert_eq!((mode(file.path()), file.ids().unwrap().len()), (0o600, 2));
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Keyring::load_or_create(&file), Err(SealError::Exposed { .. })));
    }

    #[test]
    fn a_damaged_file_is_refused_and_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let file = KeyFile::new(dir.path().join("keys.json"));
        for text in ["", "{}", r#"{"keys": []}"#, r#"{"keys": [{"id": "a", "secret": "AAAA"}]}"#] {
            process::replace_file(file.path(), text, 0o600).unwrap();
            assert!(matches!(Keyring::load_or_create(&file), Err(SealError::Malformed { .. })), "{text}");
            assert_eq!(std::fs::read_to_string(file.path()).unwrap(), text);
        }
    }
}
