//! Compare-and-swap that survives etcd's death in the middle.
//!
//! When the connection breaks, the write may have been made, may never be, or may still be on its way. To find out,
//! every transaction also compares the *fence* key; bumping that key makes all transactions sent before fail for
//! ever. After the bump the history up to it holds the answer, and a new attempt cannot double the old one:
//!
//! ```text
//!   txn(key == expected, fence == f) ── ok ─────────────► done
//!         │            ├── fence moved ─► same again with the new fence
//!         │            ├── term moved ──► Deposed
//!         │            └── key moved ───► Conflict / AlreadyExists / NotFound
//!         └── outcome unknown ─► bump fence ─► wait for the cache ─► in the history? ── yes ► done
//!                                                                        └── no ► same again
//! ```
//!
//! The history does not tell who wrote. A put is known by its value; one removal is like the other, and so are two updates
//! that put the same bytes over the same version. Two callers must not both be told that it was theirs: within a process they
//! *claim* the revision, and where other servers write, too, the outcome of such a write stays unknown.

use std::time::Duration;

use bytes::Bytes;
use etcd_client::{Compare, CompareOp, Txn, TxnOp, TxnOpResponse, TxnResponse};
use tokio::time::Instant;

use crate::backoff;
use crate::cache::Change;
use crate::core::Core;
use crate::failure::{Failure, Verdict};
use crate::{Entry, Error, Event, EventKind, Revision, Term};

/// What to do with the key.
#[derive(Clone)]
pub(crate) enum Action {
    Create(Bytes),
    Update(Bytes, Revision),
    Delete(Revision),
}

impl Action {
    /// The `mod_revision` the key must have; zero is etcd's word for "does not exist".
    fn expected(&self) -> Revision {
        match self {
            Action::Create(_) => Revision::ZERO,
            Action::Update(_, expected) | Action::Delete(expected) => *expected,
        }
    }

    fn value(&self) -> Option<&Bytes> {
        match self {
            Action::Create(value) | Action::Update(value, _) => Some(value),
            Action::Delete(_) => None,
        }
    }

    pub(crate) fn operation(&self) -> &'static str {
        match self {
            Action::Create(_) => "create",
            Action::Update(..) => "update",
            Action::Delete(_) => "delete",
        }
    }

    /// Whether `event` is what this action would have done.
    fn made(&self, event: &Event) -> bool {
        let before = event.previous.as_ref().map_or(Revision::ZERO, |entry| entry.mod_revision);
        before == self.expected()
            && match self.value() {
                Some(value) => event.kind == EventKind::Put && event.entry.value == *value,
                None => event.kind == EventKind::Delete,
            }
    }
}

/// What became of an attempt.
enum Outcome {
    Made(Revision),
    FenceMoved(Revision),
    Deposed,
    Mismatch(Option<Entry>),
}

/// One write on its way.
pub(crate) struct Write<'a> {
    core: &'a Core,
    key: &'a str,
    action: Action,
    term: Option<Term>,
    deadline: Instant,
}

impl<'a> Write<'a> {
    pub(crate) fn new(core: &'a Core, key: &'a str, action: Action) -> Self {
        Self { core, key, action, term: None, deadline: core.deadline() }
    }

    /// Refused once another term has begun.
    pub(crate) fn under(self, term: Option<Term>) -> Self {
        Self { term, ..self }
    }

    /// Makes the write; returns its revision once the cache has it.
    pub(crate) async fn run(self) -> Result<Revision, Error> {
        let mut delays = backoff::delays();
        let (start, mut fence) = {
            let cache = self.core.memory.read();
            (cache.revision(), cache.fence())
        };
        loop {
            let answer = self.core.link.txn(self.txn(fence)?, self.deadline).await;
            match answer.map(|answer| self.read(answer, fence)) {
                Ok(Outcome::Made(revision)) => {
                    // A full etcd takes removals; who could put something knows that it is full no more.
                    if self.action.value().is_some() && self.core.is_full() {
                        self.core.set_full(false);
                    }
                    let revision = self.settle(revision).await;
                    // Taken: somebody found it in the history and took it for theirs.
                    return if self.core.claims.take(revision) { Ok(revision) } else { Err(self.indeterminate(None)) };
                }
                Ok(Outcome::FenceMoved(now)) => fence = now,
                Ok(Outcome::Deposed) => return Err(Error::Deposed),
                Ok(Outcome::Mismatch(current)) => return Err(self.mismatch(current)),
                Err(failure) if failure.verdict == Verdict::Unknown => {
                    tracing::info!(key = self.key, ?failure, "outcome of a write is unknown, finding out");
                    match self.find_out(start, failure).await? {
                        Ok(revision) => return Ok(self.settle(revision).await),
                        Err(bumped) => fence = bumped,
                    }
                }
                Err(failure) if failure.verdict == Verdict::Unsent => {
                    if !backoff::pause(&mut delays, self.deadline).await {
                        return Err(self.failed(failure));
                    }
                }
                Err(failure) => {
                    if failure.verdict == Verdict::NoSpace {
                        self.core.set_full(true);
                    }
                    return Err(self.failed(failure));
                }
            }
            if Instant::now() >= self.deadline {
                return Err(self.failed(Failure { verdict: Verdict::Unsent, source: None }));
            }
        }
    }

    fn failed(&self, failure: Failure) -> Error {
        failure.of(self.action.operation(), self.core.options.timeout)
    }

    fn txn(&self, fence: Revision) -> Result<Txn, Error> {
        let unmoved = |key: &str, revision: Revision| Compare::mod_revision(key, CompareOp::Equal, revision.to_etcd());
        let fence_key = self.core.keys.fence();
        let change = match self.action.value() {
            Some(value) => TxnOp::put(self.key, self.core.link.seal(self.key, value)?, None),
            None => TxnOp::delete(self.key, None),
        };
        let term_key = self.core.keys.term();
        let mut conditions = vec![unmoved(self.key, self.action.expected()), unmoved(&fence_key, fence)];
        conditions.extend(self.term.map(|term| term.stands(&term_key)));
        let mut asked = vec![TxnOp::get(self.key, None), TxnOp::get(fence_key, None)];
        asked.extend(self.term.map(|_| TxnOp::get(term_key, None)));
        Ok(Txn::new().when(conditions).and_then([change]).or_else(asked))
    }

    fn read(&self, mut answer: TxnResponse, fence: Revision) -> Outcome {
        if answer.succeeded() {
            let revision = answer.take_header().map_or(0, |header| header.revision());
            return Outcome::Made(Revision::from_etcd(revision));
        }
        let mut found = answer.op_responses().into_iter().map(|response| match response {
            TxnOpResponse::Get(mut got) => got.take_kvs().pop().and_then(|kv| self.core.link.entry_of(kv)),
            _ => None,
        });
        let current = found.next().flatten();
        let fence_now = found.next().flatten().map_or(Revision::ZERO, |entry| entry.mod_revision);
        let term_now = found.next().flatten().map_or(Revision::ZERO, |entry| entry.mod_revision);
        if self.term.is_some_and(|term| term.revision() != term_now) {
            return Outcome::Deposed;
        }
        let revision = current.as_ref().map_or(Revision::ZERO, |entry| entry.mod_revision);
        if revision == self.action.expected() && fence_now != fence {
            return Outcome::FenceMoved(fence_now);
        }
        Outcome::Mismatch(current)
    }

    fn mismatch(&self, current: Option<Entry>) -> Error {
        match (current, &self.action) {
            (Some(current), Action::Create(_)) => Error::AlreadyExists { current },
            (Some(current), _) => Error::Conflict { expected: self.action.expected(), current },
            (None, _) => Error::NotFound { key: self.key.to_owned() },
        }
    }

    /// Fences off the attempts made so far and looks for their effect: its revision, or else the new fence.
    async fn find_out(&self, start: Revision, failure: Failure) -> Result<Result<Revision, Revision>, Error> {
        self.core.metrics.fenced.inc();
        let mut delays = backoff::delays();
        let mut last = failure;
        let bumped = loop {
            match self.core.bump(self.core.keys.fence(), self.deadline).await {
                Ok(bumped) => break bumped,
                Err(failure) => last = failure,
            }
            if !backoff::pause(&mut delays, self.deadline).await {
                return Err(self.indeterminate(Some(last)));
            }
        };
        if self.core.caught_up(bumped, self.deadline).await.is_err() {
            return Err(self.indeterminate(Some(last)));
        }
        let cache = self.core.memory.read();
        if cache.history().floor() > start {
            return Err(self.indeterminate(Some(last)));
        }
        let made = cache
            .history()
            .since(start)
            .find(|event| &*event.entry.key == self.key && self.action.made(event))
            .map(Event::revision);
        match made {
            Some(revision) if self.is_anybodys() || !self.core.claims.take(revision) => {
                Err(self.indeterminate(Some(last)))
            }
            made => Ok(made.ok_or(bumped)),
        }
    }

    /// Whether another server's write could look like this one. A creation carries the UID that was made for it.
    fn is_anybodys(&self) -> bool {
        !self.core.options.sole_writer && !matches!(self.action, Action::Create(_))
    }

    fn indeterminate(&self, last: Option<Failure>) -> Error {
        Error::Indeterminate { key: self.key.to_owned(), source: last.and_then(|failure| failure.source) }
    }

    /// Puts an acknowledged write into the cache, so that its writer reads it.
    async fn settle(&self, revision: Revision) -> Revision {
        self.core.acknowledge(Change {
            key: self.key.into(),
            value: self.action.value().cloned(),
            create_revision: None,
            revision,
        });
        // The write is made: a cache that is late does not unmake it, and linearizable reads wait for it.
        let patience = Instant::now() + Duration::from_secs(2);
        if let Err(error) = self.core.caught_up(revision, patience.min(self.deadline)).await {
            tracing::warn!(key = self.key, %error, "the cache is late");
        }
        revision
    }
}
