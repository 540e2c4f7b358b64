//! Judges what clients of a store lived through.
//!
//! A revision of the store orders all versions of all objects, so nobody has to search for an order that explains what
//! was seen: the order is given (the [`Chain`], read from etcd itself), and each answer either fits it or does not.
//!
//! ```text
//!   what each client asked and was told ─┐
//!   what each watch was told ────────────┼─► History::check ─► every violation, by name
//!   what leaders wrote, by server ───────┤
//!   what etcd holds: the Chain, terms ───┘
//! ```
//!
//! An operation whose answer never came *may* have taken effect, at any time after it was sent, yet once at most.
//! A register whose versions are ordered is linearizable if no operation is given an older version than one that
//! was known before it began: that is what is checked, key by key, instead of a search over orders.

mod chain;
mod lists;
mod order;
mod terms;
mod violation;
mod watches;
mod writes;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

pub use chain::{Chain, State};
pub use terms::{LeaderWrite, Term};
pub use violation::{Kind, Violation};
pub use watches::{Change, Seen, Watched};

/// A moment of the run, in microseconds since it began.
pub type Moment = u64;

/// A version of the store.
pub type Revision = u64;

/// What was known of an object before a conditional write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Nothing: the write is made whatever is there.
    Anything,
    /// That it does not exist.
    Absent,
    /// That this is its version.
    Version(Revision),
}

/// What a client asked for.
#[derive(Clone, Debug)]
pub enum Call {
    /// To put a token, used once in the whole history, into a field.
    Write {
        /// By which verb, for people.
        verb: &'static str,
        /// Field of [`State`].
        field: &'static str,
        /// What is put there.
        token: String,
        /// On which condition.
        expected: Expected,
    },
    /// To remove the object.
    Delete {
        /// On which condition.
        expected: Expected,
    },
    /// To read the object as it is now.
    Get,
    /// To read all objects.
    List {
        /// As they are now; else any version will do.
        fresh: bool,
    },
}

/// What a client was told.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The object's version.
    Stored(Revision, State),
    /// The object with this UID was removed.
    Removed(String),
    /// There is no such object.
    Absent,
    /// All objects, at one revision.
    Listed(Revision, Listed),
    /// No, with a status code; nothing was changed.
    Refused(u16),
    /// Nothing, or that nobody knows.
    Unknown(String),
}

/// Objects of a list by their key, each with its version.
pub type Listed = BTreeMap<String, (Revision, State)>;

/// One request.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Who asked.
    pub client: usize,
    /// Which server.
    pub server: usize,
    /// About which object; of lists, none.
    pub key: String,
    /// When it was sent.
    pub begun: Moment,
    /// When it was answered, or given up.
    pub ended: Moment,
    /// What was asked.
    pub call: Call,
    /// What came of it.
    pub outcome: Outcome,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Operation { client, server, begun, ended, .. } = self;
        write!(f, "{begun:>10}..{ended:<10} client {client} at server {server}: {:?} -> ", self.call)?;
        match &self.outcome {
            Outcome::Listed(revision, items) => match items.get(&self.key) {
                Some((version, state)) => write!(f, "listed at {revision}: {version} {state:?}"),
                None => write!(f, "listed at {revision}, {} objects", items.len()),
            },
            other => write!(f, "{other:?}"),
        }
    }
}

/// All that is known of a run.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// All requests, in any order.
    pub operations: Vec<Operation>,
    /// All watches.
    pub watches: Vec<Watched>,
    /// Every version of every object.
    pub chain: Chain,
    /// Every watch has to have come so far.
    pub until: Revision,
    /// All terms of leadership.
    pub terms: Vec<Term>,
    /// What leaders wrote as leaders.
    pub leader_writes: Vec<LeaderWrite>,
}

impl History {
    /// Everything that should not have been, in no special order.
    pub fn check(&self) -> Vec<Violation> {
        let mut found = writes::check(self);
        found.extend(order::check(self));
        found.extend(lists::check(self));
        found.extend(watches::check(self));
        found.extend(terms::check(self));
        found
    }

    /// What happened to a key, one line each: its versions, then what clients asked, in time.
    pub fn of(&self, key: &str) -> String {
        let mut lines = self.chain.lines(key);
        let mut about: Vec<&Operation> = self.operations.iter().filter(|operation| operation.key == key).collect();
        about.sort_by_key(|operation| operation.begun);
        lines.extend(about.iter().map(ToString::to_string));
        for watched in &self.watches {
            lines.extend(watched.lines(key));
        }
        lines.join("\n")
    }
}
