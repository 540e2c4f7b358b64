//! What a key holds.

use std::any::Any;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::Revision;

/// One key's state at one revision; a clone is a reference count, so that reads and watches copy no value.
#[derive(Clone)]
pub struct Entry(Arc<Fields>);

/// The fields of an [`Entry`], reached through it.
pub struct Fields {
    /// The full key, root prefix included.
    pub key: Arc<str>,
    /// The stored bytes; empty for the entry of a deletion.
    pub value: Bytes,
    /// When the key was created.
    pub create_revision: Revision,
    /// When the key got this value (or went away).
    pub mod_revision: Revision,
    decoded: OnceLock<Arc<dyn Any + Send + Sync>>,
}

impl Entry {
    pub(crate) fn new(key: Arc<str>, value: Bytes, create_revision: Revision, mod_revision: Revision) -> Self {
        Self(Arc::new(Fields { key, value, create_revision, mod_revision, decoded: OnceLock::new() }))
    }

    /// The value parsed by `decode`, once for all readers of this entry.
    ///
    /// The slot remembers the first type asked for; another type is parsed anew each time.
    pub fn decoded<T, E>(&self, decode: impl FnOnce(&Bytes) -> Result<T, E>) -> Result<Arc<T>, E>
    where
        T: Send + Sync + 'static,
    {
        if let Some(known) = self.0.decoded.get().and_then(|any| any.clone().downcast().ok()) {
            return Ok(known);
        }
        let parsed = Arc::new(decode(&self.0.value)?);
        self.remember(parsed.clone());
        Ok(parsed)
    }

    /// Fills the slot of [`Entry::decoded`] with a form the caller already has; the first one stays.
    pub fn remember<T: Send + Sync + 'static>(&self, parsed: Arc<T>) {
        // A full slot holds an equally good parse of the same bytes.
        let _ = self.0.decoded.set(parsed);
    }

    /// Bytes this entry keeps in memory, roughly, without its decoded form.
    pub(crate) fn weight(&self) -> usize {
        self.0.key.len() + self.0.value.len() + size_of::<Fields>()
    }
}

impl Deref for Entry {
    type Target = Fields;

    fn deref(&self) -> &Fields {
        &self.0
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("key", &self.key)
            .field("bytes", &self.value.len())
            .field("create_revision", &self.create_revision.get())
            .field("mod_revision", &self.mod_revision.get())
            .finish()
    }
}
