//! Keys and certificates on disk: directories for their owner alone, files whole or absent.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::{Error, Identity, Result};

/// Directory with key pairs, locked against other processes of ours while it is held.
pub(crate) struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    pub(crate) fn open(path: &Path) -> Result<Directory> {
        let failed = |action| move |source| Error::File { action, path: path.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("create"))?;
        fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(failed("create"))?;
        let lock = File::open(path).map_err(failed("lock"))?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|errno| failed("lock")(errno.into()))?;
        Ok(Directory { path: path.to_owned(), _lock: lock })
    }

    pub(crate) fn key_path(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.key"))
    }

    pub(crate) fn cert_path(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.crt"))
    }

    pub(crate) fn read(&self, path: &Path) -> Result<Option<String>> {
        match fs::read_to_string(path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::File { action: "read", path: path.to_owned(), source }),
        }
    }

    /// The key goes first: a certificate is then never there without its key.
    pub(crate) fn write(&self, name: &str, identity: &Identity) -> Result<()> {
        self.replace(&self.key_path(name), &identity.key_pem, 0o600)?;
        self.replace(&self.cert_path(name), &identity.cert_pem, 0o644)
    }

    /// A key without a certificate.
    pub(crate) fn write_key(&self, name: &str, key_pem: &str) -> Result<()> {
        self.replace(&self.key_path(name), key_pem, 0o600)
    }

    fn replace(&self, path: &Path, text: &str, mode: u32) -> Result<()> {
        let written = || -> io::Result<()> {
            let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(&self.path)?;
            file.as_file().set_permissions(Permissions::from_mode(mode))?;
            file.write_all(text.as_bytes())?;
            file.as_file().sync_all()?;
            file.persist(path).map_err(|error| error.error)?;
            Ok(())
        };
        written().map_err(|source| Error::File { action: "write", path: path.to_owned(), source })
    }
}
