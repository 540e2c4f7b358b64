//! The members of etcd, and which of them is asked.
//!
//! All members tell the same, so one is *preferred* and asked everything. One that is killed says so; one that is
//! stopped or cut off says nothing, and its connections look alive for long. So silence is answered by asking others:
//!
//! ```text
//!   a question that may be asked twice (a linearizable read) ── no answer in HEDGE ─► the next member, too
//!   a request that may not (a write) ── no answer in DOUBT ─► does another member answer, and this one nothing?
//!                                                               └── yes ─► given up: its outcome is unknown
//! ```
//!
//! Whoever answers where the preferred one did not is preferred from then on. Asking the wrong member costs time alone.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use etcd_client::{
    Certificate, Client, ConnectOptions, GetOptions, GetResponse, Identity, KvClient, MaintenanceClient, TlsOptions,
    WatchClient,
};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::failure::{Failure, Verdict};
use crate::{Error, Revision, StoreOptions, TlsFiles};

/// One attempt gets no longer than this; the operation as a whole may go on.
pub(crate) const ATTEMPT: Duration = Duration::from_secs(4);
/// How long a question waits for one member before the next is asked, too.
const HEDGE: Duration = Duration::from_millis(500);
/// How long a write waits before it is asked whether its member is still there. Longer than a disk makes etcd wait.
const DOUBT: Duration = Duration::from_millis(1500);
/// How much later than another's a member's answer may come.
const GRACE: Duration = Duration::from_millis(500);
const CONNECT: Duration = Duration::from_secs(2);
/// etcd cuts off clients that ping more often than every 5 s.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Clients of one member. The watch has a connection of its own, so that a large list does not delay it.
pub(crate) struct Member {
    pub(crate) kv: KvClient,
    pub(crate) watch: WatchClient,
    pub(crate) maintenance: MaintenanceClient,
    /// How often it was found that others answer and this one does not.
    outrun: AtomicUsize,
}

impl Member {
    async fn connect(endpoint: &str, settings: &ConnectOptions) -> Result<Member, etcd_client::Error> {
        let requests = Client::connect([endpoint], Some(settings.clone())).await?;
        let watch = Client::connect([endpoint], Some(settings.clone())).await?;
        Ok(Self {
            // Pages of large objects exceed the 4 MiB that gRPC clients accept by default.
            kv: requests.kv_client().max_decoding_message_size(usize::MAX),
            watch: watch.watch_client().max_decoding_message_size(usize::MAX),
            maintenance: requests.maintenance_client(),
            outrun: AtomicUsize::new(0),
        })
    }
}

/// All members that the options name.
pub(crate) struct Members {
    all: Vec<Member>,
    preferred: AtomicUsize,
    /// The key that is read to hear the revision; it need not exist.
    question: String,
    /// Held while somebody finds out whether a member is still there.
    doubting: Mutex<()>,
}

impl Members {
    pub(crate) async fn connect(options: &StoreOptions, question: String) -> Result<Members, Error> {
        let settings = settings(options)?;
        let refused = |source| Failure::from(source).of("connect", Duration::ZERO);
        let mut all = Vec::new();
        for endpoint in &options.endpoints {
            all.push(Member::connect(endpoint, &settings).await.map_err(refused)?);
        }
        if all.is_empty() {
            return Err(refused(etcd_client::Error::InvalidArgs("no endpoint of etcd is given".to_owned())));
        }
        // Several servers should not all ask the same member: each begins somewhere.
        let begin = RandomState::new().hash_one(()) % all.len() as u64;
        let preferred = AtomicUsize::new(usize::try_from(begin).unwrap_or_default());
        Ok(Self { all, preferred, question, doubting: Mutex::new(()) })
    }

    /// The number of the member to ask.
    pub(crate) fn preferred(&self) -> usize {
        self.preferred.load(Ordering::Relaxed)
    }

    /// The member of this number.
    pub(crate) fn get(&self, number: usize) -> &Member {
        &self.all[number]
    }

    /// How many there are; at least one.
    pub(crate) fn count(&self) -> usize {
        self.all.len()
    }

    /// This one gave no answer: another is asked first from now on, unless that is so already.
    pub(crate) fn doubt(&self, number: usize) {
        let next = (number + 1) % self.all.len();
        let moved = self.preferred.compare_exchange(number, next, Ordering::Relaxed, Ordering::Relaxed);
        if moved.is_ok() && next != number {
            tracing::debug!(number, next, "a member of etcd gives no answer, asking another");
        }
    }

    /// etcd's revision, agreed between its members: asked of the preferred one, and of others when it does not answer
    /// soon. Such a question changes nothing, and whoever answers it tells the truth.
    pub(crate) async fn revision(&self) -> Result<Revision, Failure> {
        let first = self.preferred();
        let mut turns: VecDeque<usize> = (0..self.count()).map(|turn| (first + turn) % self.count()).collect();
        let mut fresh = turns.len();
        let mut asked = FuturesUnordered::new();
        let end = Instant::now() + ATTEMPT;
        let mut next = Instant::now();
        loop {
            tokio::select! {
                biased;
                Some((number, answer)) = asked.next() => match answer {
                    Ok(answer) => {
                        self.preferred.store(number, Ordering::Relaxed);
                        return Ok(revision_of(&answer));
                    }
                    Err(error) => {
                        let failure = Failure::from(error);
                        self.doubt(number);
                        if !failure.verdict.is_of_the_way() || (asked.is_empty() && fresh == 0) {
                            return Err(failure);
                        }
                        // It may have more to say when all the others have been asked.
                        turns.push_back(number);
                        if fresh > 0 {
                            next = Instant::now();
                        }
                    }
                },
                () = sleep_until(next.min(end)) => {
                    if Instant::now() >= end {
                        self.doubt(first);
                        return Err(Failure::silent(Verdict::Unknown));
                    }
                    next = Instant::now() + HEDGE;
                    if let Some(number) = turns.pop_front() {
                        fresh = fresh.saturating_sub(1);
                        let answer = ask(self.get(number), self.question.clone());
                        asked.push(async move { (number, answer.await) });
                    }
                }
            }
        }
    }

    /// Makes a request of the preferred member alone: it may change something.
    pub(crate) async fn once<T, F>(&self, request: impl FnOnce(&Member) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let number = self.preferred();
        let member = self.get(number);
        let (begun, outrun) = (Instant::now(), member.outrun.load(Ordering::Relaxed));
        let mut request = std::pin::pin!(request(member));
        let answer = match timeout(DOUBT, &mut request).await {
            Ok(answer) => Some(answer),
            Err(_) => tokio::select! {
                answer = &mut request => Some(answer),
                () = self.outrun(number, outrun) => None,
                () = sleep_until(begun + ATTEMPT) => None,
            },
        };
        let failure = match answer {
            Some(Ok(answer)) => return Ok(answer),
            Some(Err(error)) => Failure::from(error),
            None => Failure::silent(Verdict::Unknown),
        };
        if failure.verdict.is_of_the_way() {
            self.doubt(number);
        }
        Err(failure)
    }

    /// Comes back when another member answers and this one does not, or when that was found `since`.
    async fn outrun(&self, number: usize, since: usize) {
        if self.count() == 1 {
            return std::future::pending().await;
        }
        loop {
            {
                let _doubting = self.doubting.lock().await;
                if self.get(number).outrun.load(Ordering::Relaxed) != since || self.is_outrun(number).await {
                    return;
                }
            }
            sleep(DOUBT).await;
        }
    }

    async fn is_outrun(&self, number: usize) -> bool {
        let answer = async |number: usize| {
            if ask(self.get(number), self.question.clone()).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let others = (0..self.count()).filter(|other| *other != number);
        let mut others: FuturesUnordered<_> = others.map(&answer).collect();
        let mut own = std::pin::pin!(answer(number));
        tokio::select! {
            () = &mut own => return false,
            _ = others.next() => {}
            () = sleep(ATTEMPT) => return false,
        }
        if timeout(GRACE, own).await.is_ok() {
            return false;
        }
        self.get(number).outrun.fetch_add(1, Ordering::Relaxed);
        true
    }
}

/// A linearizable read of one key, for the revision that comes with it.
fn ask(member: &Member, key: String) -> impl Future<Output = Result<GetResponse, etcd_client::Error>> + use<> {
    let mut kv = member.kv.clone();
    async move { kv.get(key, Some(GetOptions::new().with_keys_only())).await }
}

/// The revision at which etcd answered.
pub(crate) fn revision_of(answer: &GetResponse) -> Revision {
    answer.header().map_or(Revision::ZERO, |header| Revision::from_etcd(header.revision()))
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
