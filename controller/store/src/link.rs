//! The connection to etcd, and what its failures mean.
//!
//! What a caller may do after a failure depends on one thing only: can the request have taken effect? [`Verdict`]
//! answers that, and everything above this module thinks in verdicts.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use etcd_client::{
    AlarmAction, AlarmType, Certificate, Client, ConnectOptions, GetOptions, GetResponse, Identity, KeyValue, KvClient,
    MaintenanceClient, TlsOptions, Txn, TxnResponse, WatchClient, WatchOptions, WatchStream,
};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};

use crate::cache::{Change, Listing};
use crate::keys::Keys;
use crate::parsed::Parsed;
use crate::seal::{Closed, SealError, Sealing};
use crate::{Entry, Error, Revision, StoreOptions, TlsFiles};

/// One attempt gets no longer than this; the operation as a whole may go on.
const ATTEMPT: Duration = Duration::from_secs(4);
const CONNECT: Duration = Duration::from_secs(2);
/// etcd cuts off clients that ping more often than every 5 s.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Entries of a full list fetched at once: few until their size is known, then about [`PAGE_BYTES`] of them. Pages are
/// not free either: etcd 3.4 counts the whole range for each.
const FIRST_PAGE: i64 = 100;
const LARGEST_PAGE: i64 = 10_000;
const PAGE_BYTES: usize = 8 << 20;

/// What a failure says about the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It never left, or was turned away unread: try again.
    Unsent,
    /// It may have taken effect.
    Unknown,
    /// etcd read it and said no.
    Refused,
    /// etcd's quota is used up.
    NoSpace,
    /// It asked for a past that has been compacted.
    Compacted,
}

/// A failed request.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) verdict: Verdict,
    pub(crate) source: Option<Box<etcd_client::Error>>,
}

impl From<etcd_client::Error> for Failure {
    fn from(error: etcd_client::Error) -> Self {
        Self { verdict: judge(&error), source: Some(Box::new(error)) }
    }
}

impl Failure {
    /// The failure as an error of `operation`, which changed nothing.
    pub(crate) fn of(self, operation: &'static str, waited: Duration) -> Error {
        match (self.verdict, self.source) {
            (Verdict::NoSpace, _) => Error::NoSpace,
            (Verdict::Refused | Verdict::Compacted, Some(source)) => Error::Etcd { operation, source },
            (_, source) => Error::Unavailable { operation, waited, source },
        }
    }
}

/// gRPC codes by number: the type is not re-exported, and these numbers are the protocol.
fn judge(error: &etcd_client::Error) -> Verdict {
    let etcd_client::Error::GRpcStatus(status) = error else {
        return if never_left(error) { Verdict::Unsent } else { Verdict::Unknown };
    };
    match status.code() as i32 {
        8 if status.message().contains("space exceeded") => Verdict::NoSpace,
        8 if status.message().contains("too many requests") => Verdict::Unsent,
        11 if status.message().contains("compacted") => Verdict::Compacted,
        // invalid argument, not found, permission denied, exhausted, precondition, range, unimplemented, unauthenticated
        3 | 5 | 7 | 8 | 9 | 11 | 12 | 16 => Verdict::Refused,
        _ if never_left(status) => Verdict::Unsent,
        _ => Verdict::Unknown,
    }
}

/// Whether the chain of causes shows that no connection came about.
fn never_left(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source())
        .filter_map(|error| error.downcast_ref::<std::io::Error>())
        .any(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
}

/// Clients of one etcd. The watch has a connection of its own, so that a large list does not delay it.
pub(crate) struct Link {
    kv: KvClient,
    watch: WatchClient,
    maintenance: MaintenanceClient,
    gate: Semaphore,
    keys: Keys,
    sealing: Option<Sealing>,
    /// Of the entries read through this link, and of those that the cache makes.
    pub(crate) parsed: Arc<Parsed>,
}

impl Link {
    pub(crate) async fn connect(options: &StoreOptions, keys: Keys) -> Result<Link, Error> {
        let settings = settings(options)?;
        let refused = |source| Failure::from(source).of("connect", Duration::ZERO);
        let requests = Client::connect(&options.endpoints, Some(settings.clone())).await.map_err(refused)?;
        let watch = Client::connect(&options.endpoints, Some(settings)).await.map_err(refused)?;
        Ok(Self {
            // Pages of large objects exceed the 4 MiB that gRPC clients accept by default.
            kv: requests.kv_client().max_decoding_message_size(usize::MAX),
            watch: watch.watch_client().max_decoding_message_size(usize::MAX),
            maintenance: requests.maintenance_client(),
            gate: Semaphore::new(options.in_flight),
            keys,
            sealing: options.sealing.clone(),
            parsed: Arc::default(),
        })
    }

    /// Runs one request when its turn comes.
    async fn attempt<T>(
        &self,
        deadline: Instant,
        request: impl Future<Output = Result<T, etcd_client::Error>>,
    ) -> Result<T, Failure> {
        let Ok(Ok(_turn)) = timeout_at(deadline, self.gate.acquire()).await else {
            return Err(Failure { verdict: Verdict::Unsent, source: None });
        };
        match timeout(ATTEMPT, request).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(Failure { verdict: Verdict::Unknown, source: None }),
        }
    }

    pub(crate) async fn txn(&self, txn: Txn, deadline: Instant) -> Result<TxnResponse, Failure> {
        let mut kv = self.kv.clone();
        self.attempt(deadline, kv.txn(txn)).await
    }

    /// Writes a key of the store's own; the value is of no interest, the revision is.
    pub(crate) async fn bump(&self, key: &str, deadline: Instant) -> Result<Revision, Failure> {
        let mut kv = self.kv.clone();
        let answer = self.attempt(deadline, kv.put(key, "", None)).await?;
        Ok(answer.header().map_or(Revision::ZERO, |header| Revision::from_etcd(header.revision())))
    }

    /// etcd's revision, agreed with its peers.
    pub(crate) async fn revision(&self, deadline: Instant) -> Result<Revision, Failure> {
        let mut kv = self.kv.clone();
        let options = GetOptions::new().with_keys_only();
        let answer = self.attempt(deadline, kv.get(self.keys.heartbeat(), Some(options))).await?;
        Ok(revision_of(&answer))
    }

    /// Whether etcd has raised the alarm that it has no space.
    pub(crate) async fn no_space(&self, deadline: Instant) -> Result<bool, Failure> {
        let mut maintenance = self.maintenance.clone();
        let request = maintenance.alarm(AlarmAction::Get, AlarmType::None, None);
        let answer = self.attempt(deadline, request).await?;
        Ok(answer.alarms().iter().any(|alarm| alarm.alarm() == AlarmType::Nospace))
    }

    pub(crate) async fn compact(&self, revision: Revision, deadline: Instant) -> Result<(), Failure> {
        let mut kv = self.kv.clone();
        self.attempt(deadline, kv.compact(revision.to_etcd(), None)).await?;
        Ok(())
    }

    pub(crate) async fn watch(&self, from: Revision) -> Result<WatchStream, Failure> {
        let mut watch = self.watch.clone();
        let options = WatchOptions::new().with_prefix().with_start_revision(from.to_etcd());
        match timeout(ATTEMPT, watch.watch(self.keys.prefix(), Some(options))).await {
            Ok(stream) => Ok(stream?),
            Err(_) => Err(Failure { verdict: Verdict::Unsent, source: None }),
        }
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
            let mut kv = self.kv.clone();
            let deadline = Instant::now() + ATTEMPT;
            let mut page = self.attempt(deadline, kv.get(start.clone(), Some(options))).await?;
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

/// How connections to etcd are made.
pub(crate) fn settings(options: &StoreOptions) -> Result<ConnectOptions, Error> {
    pki::install_crypto_provider();
    let settings = ConnectOptions::new()
        .with_connect_timeout(CONNECT)
        .with_keep_alive(KEEP_ALIVE, CONNECT)
        .with_keep_alive_while_idle(true)
        .with_require_leader(true);
    Ok(match &options.tls {
        Some(files) => settings.with_tls(tls(files)?),
        None => settings,
    })
}

fn tls(files: &TlsFiles) -> Result<TlsOptions, Error> {
    let read =
        |path: &std::path::Path| std::fs::read(path).map_err(|source| Error::Tls { path: path.to_owned(), source });
    Ok(TlsOptions::new()
        .ca_certificate(Certificate::from_pem(read(&files.ca)?))
        .identity(Identity::from_pem(read(&files.cert)?, read(&files.key)?)))
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

fn revision_of(answer: &GetResponse) -> Revision {
    answer.header().map_or(Revision::ZERO, |header| Revision::from_etcd(header.revision()))
}
