//! What a store must not do, by name.

use std::fmt;

/// A broken promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A write was acknowledged and is not in the store.
    LostWrite,
    /// A conditional write was acknowledged although something else was written in between.
    LostCas,
    /// One request took effect twice.
    MadeTwice,
    /// A write was refused and took effect.
    RefusedButMade,
    /// An answer shows an object as it never was.
    WrongAnswer,
    /// An answer is older than what was known before it was asked for.
    StaleRead,
    /// An answer shows what was asked for later.
    EarlyRead,
    /// A list shows what was never there at one time.
    TornList,
    /// A watch has left out a change.
    MissedEvent,
    /// A watch has told a change twice.
    RepeatedEvent,
    /// A watch has told changes in another order.
    ReorderedEvent,
    /// A watch has told a change as another kind of change, or one that never was.
    WrongEvent,
    /// A server that did not lead any more has written as leader.
    StaleLeader,
}

/// One broken promise, with what shows it.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Which promise.
    pub kind: Kind,
    /// About which object; empty where it is about none.
    pub key: String,
    /// What was seen.
    pub text: String,
}

impl Violation {
    pub(super) fn new(kind: Kind, key: &str, text: impl fmt::Display) -> Violation {
        Violation { kind, key: key.to_owned(), text: text.to_string() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}: {}", self.kind, self.key, self.text)
    }
}
