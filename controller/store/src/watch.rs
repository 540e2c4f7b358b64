//! Changes as a stream.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::Stream;

use crate::{Entry, Revision};

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// It got a value.
    Put,
    /// It went away.
    Delete,
}

/// One change of one key.
#[derive(Clone, Debug)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The new state; of a deletion the key, the revision of the deletion and no value.
    pub entry: Entry,
    /// The state before; absent when the key was created.
    pub previous: Option<Entry>,
}

impl Event {
    /// When it happened.
    pub fn revision(&self) -> Revision {
        self.entry.mod_revision
    }
}

/// An item of a [`Watch`].
#[derive(Clone, Debug)]
pub enum WatchItem {
    /// A change.
    Event(Event),
    /// All changes up to this revision have been delivered: a bookmark.
    Progress(Revision),
}

/// The watch lost its place; list again and watch from there. Kubernetes' `410 Gone`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the watch fell behind the history kept; list again")]
pub struct Lagged;

/// Changes under a prefix after a revision, in order, each once; ends after [`Lagged`].
#[derive(Debug)]
pub struct Watch {}

impl Stream for Watch {
    type Item = Result<WatchItem, Lagged>;

    fn poll_next(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(None)
    }
}
