//! What a verb did, for the events that tell people.

/// One thing that was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Cause in PascalCase, as events carry it.
    pub reason: &'static str,
    /// What was done, in words.
    pub message: String,
}

impl Change {
    /// A change for a reason.
    pub fn new(reason: &'static str, message: impl Into<String>) -> Change {
        Change { reason, message: message.into() }
    }
}

/// All that a verb did, in order; empty when everything was as it should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes(Vec<Change>);

impl Changes {
    /// Whether nothing was done.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds one.
    pub fn push(&mut self, change: Change) {
        self.0.push(change);
    }

    /// One after the other.
    pub fn iter(&self) -> std::slice::Iter<'_, Change> {
        self.0.iter()
    }
}

impl From<Change> for Changes {
    fn from(change: Change) -> Self {
        Changes(vec![change])
    }
}

impl Extend<Change> for Changes {
    fn extend<T: IntoIterator<Item = Change>>(&mut self, more: T) {
        self.0.extend(more);
    }
}

impl IntoIterator for Changes {
    type Item = Change;
    type IntoIter = std::vec::IntoIter<Change>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Changes {
    type Item = &'a Change;
    type IntoIter = std::slice::Iter<'a, Change>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}
