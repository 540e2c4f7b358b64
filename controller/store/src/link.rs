//! The requests that the store makes of etcd.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use etcd_client::{
    AlarmAction, AlarmType, GetOptions, GetResponse, KeyValue, Txn, TxnResponse, WatchOptions, WatchStream,
};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout, timeout_at};

use crate::cache::{Change, Listing};
use crate::failure::{Failure, Verdict};
use crate::keys::Keys;
use crate::members::{ATTEMPT, Member, Members, revision_of};
use crate::parsed::Parsed;
use crate::seal::{Closed, SealError, Sealing};
use crate::{Entry, Error, Revision, StoreOptions};

/// How long one member has to open a watch where there are others.
const OPEN: Duration = Duration::from_secs(2);
/// Entries of a full list fetched at once: few until their size is known, then about [`PAGE_BYTES`] of them. Pages are
/// not free either: etcd 3.4 counts the whole range for each.
const FIRST_PAGE: i64 = 100;
const LARGEST_PAGE: i64 = 10_000;
const PAGE_BYTES: usize = 8 << 20;

/// Everything the store asks of etcd, whichever of its members answers.
pub(crate) struct Link {
    members: Members,
    gate: Semaphore,
    keys: Keys,
    sealing: Option<Sealing>,
    /// Of the entries read through this link, and of those that the cache makes.
    pub(crate) parsed: Arc<Parsed>,
}

impl Link {
    pub(crate) async fn connect(options: &StoreOptions, keys: Keys) -> Result<Link, Error> {
        Ok(Self {
            members: Members::connect(options, keys.heartbeat()).await?,
            gate: Semaphore::new(options.in_flight),
            keys,
            sealing: options.sealing.clone(),
            parsed: Arc::default(),
        })
    }

    /// Waits until one more request may be on its way.
    async fn turn(&self, deadline: Instant) -> Result<SemaphorePermit<'_>, Failure> {
        match timeout_at(deadline, self.gate.acquire()).await {
            Ok(Ok(turn)) => Ok(turn),
            _ => Err(Failure::silent(Verdict::Unsent)),
        }
    }

    /// Makes one request of one member when its turn comes.
    async fn attempt<T, F>(&self, deadline: Instant, request: impl FnOnce(&Member) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let _turn = self.turn(deadline).await?;
        self.members.once(request).await
    }

    pub(crate) async fn txn(&self, txn: Txn, deadline: Instant) -> Result<TxnResponse, Failure> {
        let request = |member: &Member| {
            let mut kv = member.kv.clone();
            async move { kv.txn(txn).await }
        };
        self.attempt(deadline, request).await
    }

    /// Writes a key of the store's own; the value is of no interest, the revision is.
    pub(crate) async fn bump(&self, key: &str, deadline: Instant) -> Result<Revision, Failure> {
        let request = |member: &Member| {
            let mut kv = member.kv.clone();
            async move { kv.put(key, "", None).await }
        };
        let answer = self.attempt(deadline, request).await?;
        Ok(answer.header().map_or(Revision::ZERO, |header| Revision::from_etcd(header.revision())))
    }

    /// etcd's revision, agreed between its members.
    pub(crate) async fn revision(&self, deadline: Instant) -> Result<Revision, Failure> {
        let _turn = self.turn(deadline).await?;
        self.members.revision().await
    }

    /// Whether etcd has raised the alarm that it has no space.
    pub(crate) async fn no_space(&self, deadline: Instant) -> Result<bool, Failure> {
        let request = |member: &Member| {
            let mut maintenance = member.maintenance.clone();
            async move { maintenance.alarm(AlarmAction::Get, AlarmType::None, None).await }
        };
        let answer = self.attempt(deadline, request).await?;
        Ok(answer.alarms().iter().any(|alarm| alarm.alarm() == AlarmType::Nospace))
    }

    pub(crate) async fn compact(&self, revision: Revision, deadline: Instant) -> Result<(), Failure> {
        let request = |member: &Member| {
            let mut kv = member.kv.clone();
            async move { kv.compact(revision.to_etcd(), None).await }
        };
        self.attempt(deadline, request).await.map(drop)
    }

    /// Opens the watch at a member that answers, as far as is known; also tells which.
    pub(crate) async fn watch(&self, from: Revision) -> Result<(usize, WatchStream), Failure> {
        let number = self.members.preferred();
        let mut watch = self.members.get(number).watch.clone();
        let options = WatchOptions::new().with_prefix().with_start_revision(from.to_etcd());
        let patience = if self.members.count() > 1 { OPEN } else { ATTEMPT };
        let failure = match timeout(patience, watch.watch(self.keys.prefix(), Some(options))).await {
            Ok(Ok(stream)) => return Ok((number, stream)),
            Ok(Err(error)) => error.into(),
            Err(_) => Failure::silent(Verdict::Unsent),
        };
        self.members.doubt(number);
        Err(failure)
    }

    /// The watch at this member broke or says nothing.
    pub(crate) fn doubt(&self, number: usize) {
        self.members.doubt(number);
    }

    /// Everything under the root prefix at one revision; without values when they are not asked for.
    pub(crate) async fn list(&self, values: bool) -> Result<(Listing, Revision), Failure> {
        self.range(self.keys.prefix(), None, values).await
    }

    /// Everything under `prefix` at revision `at`, or at that of the first page.
    pub(crate) async fn range(
        &self,
        prefix: &str,
        at: Option<Revision>,
        values: bool,
    ) -> Result<(Listing, Revision), Failure> {
        let mut listing = Listing::default();
        let revision = self.pages(prefix, at, values, |kv| self.take_in(&mut listing, kv)).await?;
        Ok((listing, revision))
    }

    /// Hands every key under `prefix` as stored at one revision to `take`; returns that revision.
    pub(crate) async fn scan(
        &self,
        prefix: &str,
        values: bool,
        take: impl FnMut(KeyValue),
    ) -> Result<Revision, Failure> {
        self.pages(prefix, None, values, take).await
    }

    async fn pages(
        &self,
        prefix: &str,
        mut at: Option<Revision>,
        values: bool,
        mut take: impl FnMut(KeyValue),
    ) -> Result<Revision, Failure> {
        let end = range_end(prefix);
        let mut start = prefix.as_bytes().to_vec();
        let mut limit = FIRST_PAGE;
        loop {
            let mut options = GetOptions::new().with_range(end.clone()).with_limit(limit);
            if let Some(at) = at {
                options = options.with_revision(at.to_etcd());
            }
            if !values {
                options = options.with_keys_only();
            }
            let mut page = self.page(&start, &options).await?;
            let revision = *at.get_or_insert(revision_of(&page));
            let kvs = page.take_kvs();
            if let Some(last) = kvs.last() {
                start = [last.key(), b"\0"].concat();
            }
            limit = next_limit(&kvs);
            kvs.into_iter().for_each(&mut take);
            if !page.more() {
                return Ok(revision);
            }
        }
    }

    /// One page, of whichever member gives it.
    async fn page(&self, start: &[u8], options: &GetOptions) -> Result<GetResponse, Failure> {
        let mut others = self.members.count() - 1;
        loop {
            let request = |member: &Member| {
                let (mut kv, start, options) = (member.kv.clone(), start.to_vec(), options.clone());
                async move { kv.get(start, Some(options)).await }
            };
            match self.attempt(Instant::now() + ATTEMPT, request).await {
                Err(failure) if others > 0 && failure.verdict.is_of_the_way() => others -= 1,
                answer => return answer,
            }
        }
    }

    fn take_in(&self, listing: &mut Listing, kv: KeyValue) {
        let Ok(key) = kv.key_str() else { return };
        if key == self.keys.fence() {
            listing.fence = Revision::from_etcd(kv.mod_revision());
        } else if key == self.keys.restoring() {
            listing.half_restored = true;
        } else if !self.keys.is_internal(key) {
            if listing.closed.is_none() && self.sealing(key).is_some() {
                let closed = self.open(key, Bytes::copy_from_slice(kv.value())).err();
                listing.closed = closed.map(|closed| (key.to_owned(), closed));
            }
            listing.entries.extend(self.entry_of(kv));
        }
    }

    /// What seals the value of `key`, when anything does.
    pub(crate) fn sealing(&self, key: &str) -> Option<&Sealing> {
        let rest = key.strip_prefix(self.keys.prefix())?;
        self.sealing.as_ref().filter(|sealing| sealing.covers(rest))
    }

    /// The form in which a value goes to etcd.
    pub(crate) fn seal(&self, key: &str, value: &Bytes) -> Result<Bytes, SealError> {
        match self.sealing(key) {
            Some(sealing) => sealing.seal(key, value),
            None => Ok(value.clone()),
        }
    }

    /// The form in which a value came from a writer.
    fn open(&self, key: &str, stored: Bytes) -> Result<Bytes, Closed> {
        match self.sealing(key) {
            Some(sealing) if !stored.is_empty() => sealing.open(key, stored),
            _ => Ok(stored),
        }
    }

    /// One that stays closed is handed on as stored: whoever reads it finds that it is no object.
    fn open_or_tell(&self, key: &str, stored: Bytes) -> Bytes {
        self.open(key, stored.clone()).unwrap_or_else(|closed| {
            tracing::error!(key, ?closed, "a stored value cannot be opened; is the key file the right one?");
            stored
        })
    }

    /// An entry from etcd's form; keys that are not UTF-8 are not ours.
    pub(crate) fn entry_of(&self, kv: KeyValue) -> Option<Entry> {
        let (created, modified) = (kv.create_revision(), kv.mod_revision());
        let (key, value) = kv.into_key_value();
        let key = String::from_utf8(key).ok()?;
        let value = self.open_or_tell(&key, Bytes::from(value));
        let (created, modified) = (Revision::from_etcd(created), Revision::from_etcd(modified));
        Some(Entry::new(&self.parsed, key.into(), value, created, modified))
    }

    /// A change from a watch event.
    pub(crate) fn change_of(&self, event: &etcd_client::Event) -> Option<Change> {
        let kv = event.kv()?;
        let put = event.event_type() == etcd_client::EventType::Put;
        let key = kv.key_str().ok()?;
        Some(Change {
            key: key.into(),
            value: put.then(|| self.open_or_tell(key, Bytes::copy_from_slice(kv.value()))),
            create_revision: put.then(|| Revision::from_etcd(kv.create_revision())),
            revision: Revision::from_etcd(kv.mod_revision()),
        })
    }
}

/// The end of the range of keys that start with `prefix`, which is ASCII and not empty.
fn range_end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

/// How many entries like these make a page.
fn next_limit(page: &[KeyValue]) -> i64 {
    let bytes: usize = page.iter().map(|kv| kv.key().len() + kv.value().len()).sum();
    let fitting = PAGE_BYTES * page.len() / bytes.max(1);
    i64::try_from(fitting).unwrap_or(LARGEST_PAGE).clamp(FIRST_PAGE, LARGEST_PAGE)
}
