//! Terms of leadership: what keeps the writes of a superseded leader out.
//!
//! A key of the store's own is written when a term begins; its `mod_revision` is the term. Every write under a term
//! compares it in the same transaction, so the first write of the next term's holder is also the moment after which
//! no write of this one can be made, whatever its holder believes.

use std::fmt;

use etcd_client::{Compare, CompareOp, Txn, TxnOp};

use crate::core::Core;
use crate::failure::Verdict;
use crate::{Error, Revision};

/// A term of leadership; later terms are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Term(Revision);

impl Term {
    pub(crate) fn revision(self) -> Revision {
        self.0
    }

    /// The comparison that fails once another term has begun.
    pub(crate) fn stands(self, key: &str) -> Compare {
        Compare::mod_revision(key, CompareOp::Equal, self.0.to_etcd())
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Begins a term for `holder`, provided that `guard` was last changed at `revision`.
pub(crate) async fn begin(core: &Core, guard: &str, revision: Revision, holder: &str) -> Result<Term, Error> {
    let unmoved = Compare::mod_revision(guard, CompareOp::Equal, revision.to_etcd());
    let txn = Txn::new().when([unmoved]).and_then([TxnOp::put(core.keys.term(), holder, None)]);
    let answer = core.link.txn(txn, core.deadline()).await.map_err(|failure| match failure.verdict {
        // A term that was begun for nobody is harmless: the next attempt begins another.
        Verdict::Unknown => {
            Error::Unavailable { operation: "begin", waited: core.options.timeout, source: failure.source }
        }
        _ => failure.of("begin", core.options.timeout),
    })?;
    if !answer.succeeded() {
        return Err(Error::Deposed);
    }
    let made = answer.header().map_or(Revision::ZERO, |header| Revision::from_etcd(header.revision()));
    // What the term's holder reads must be no older than what its predecessor wrote.
    core.caught_up(made, core.deadline()).await?;
    Ok(Term(made))
}
