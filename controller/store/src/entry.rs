//! What a key holds.

use std::any::Any;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::Revision;
use crate::parsed::Parsed;

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
    form: Mutex<Form>,
    parsed: Arc<Parsed>,
}

/// The value parsed, as a type of the reader's.
type Form = Option<Arc<dyn Any + Send + Sync>>;

impl Fields {
    fn form(&self) -> MutexGuard<'_, Form> {
        self.form.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the parsed form go; the next reader parses anew.
    pub(crate) fn forget_form(&self) {
        // Dropped outside the lock.
        let _form = self.form().take();
    }
}

impl Entry {
    /// An entry whose parsed form is counted in `parsed`.
    pub(crate) fn new(
        parsed: &Arc<Parsed>,
        key: Arc<str>,
        value: Bytes,
        create_revision: Revision,
        mod_revision: Revision,
    ) -> Self {
        let parsed = parsed.clone();
        Self(Arc::new(Fields { key, value, create_revision, mod_revision, form: Mutex::default(), parsed }))
    }

    /// The value parsed by `decode`: once for all readers of this entry, as long as it is among those parsed last.
    ///
    /// The slot remembers the first type asked for; another type is parsed anew each time.
    pub fn decoded<T, E>(&self, decode: impl FnOnce(&Bytes) -> Result<T, E>) -> Result<Arc<T>, E>
    where
        T: Send + Sync + 'static,
    {
        if let Some(known) = self.known() {
            return Ok(known);
        }
        let parsed = Arc::new(decode(&self.0.value)?);
        self.remember(parsed.clone());
        Ok(parsed)
    }

    /// The parsed form, when somebody has made it and it is still kept.
    pub fn known<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        let known = self.0.form().clone();
        known.and_then(|any| any.downcast().ok())
    }

    /// Fills the slot of [`Entry::decoded`] with a form the caller already has; the first one stays.
    pub fn remember<T: Send + Sync + 'static>(&self, parsed: Arc<T>) {
        {
            let mut form = self.0.form();
            if form.is_some() {
                // An equally good parse of the same bytes.
                return;
            }
            *form = Some(parsed);
        }
        self.0.parsed.add(Arc::downgrade(&self.0), self.0.value.len());
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
