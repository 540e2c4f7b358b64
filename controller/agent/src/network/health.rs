//! Which ports here answer the checks of load balancers.
//!
//! Each check is a task of its own. It asks from the network's own address, as often as the check says; what it finds counts once
//! it was found so many times in a row. Only then a pass over the network follows, and one write: the port's status, by which the
//! other hosts learn of it. What was told before this process began counts until something else is found.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crds::Port;
use crds::load_balancer::HealthCheck;
use crds::port::BackendHealth;
use host::netns::{self, Namespace};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::MissedTickBehavior;
use tokio_util::task::AbortOnDropHandle;

use super::services::Check;
use control_loop::Queue;

/// What of an answer by HTTP is read at most: its first line counts.
const FIRST_LINE: usize = 512;

/// Everything that is checked on this host.
pub struct Health {
    queue: Queue<Port>,
    /// By the network's UID.
    networks: Mutex<HashMap<String, Vec<Watched>>>,
}

struct Watched {
    check: Check,
    /// Which namespace it is asked in: one that was made anew has another number.
    place: (u64, IpAddr),
    found: Arc<Mutex<bool>>,
    _task: AbortOnDropHandle<()>,
}

impl Health {
    /// Nothing yet. `queue` is this host's ports: one whose health changed is woken.
    pub fn new(queue: Queue<Port>) -> Health {
        Health { queue, networks: Mutex::default() }
    }

    fn networks(&self) -> MutexGuard<'_, HashMap<String, Vec<Watched>>> {
        self.networks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on exactly these checks are made in the network, whose ports are the tenant's. One that goes on knows what it knew.
    pub fn follow(&self, network: &str, tenant: &str, namespace: &Namespace, from: IpAddr, checks: &[Check]) {
        let mut networks = self.networks();
        if checks.is_empty() {
            networks.remove(network);
            return;
        }
        let place = (namespace.inode(), from);
        let mut before = networks.remove(network).unwrap_or_default();
        let mut now = Vec::with_capacity(checks.len());
        for check in checks {
            // What was told when it began is not part of the question.
            let same =
                |one: &Watched| one.place == place && Check { told: one.check.told, ..check.clone() } == one.check;
            let watched = match before.iter().position(same) {
                Some(at) => before.swap_remove(at),
                None => {
                    let about =
                        |one: &&Watched| (&one.check.port, &one.check.balancer) == (&check.port, &check.balancer);
                    let known = before.iter().find(about).map(|one| *lock(&one.found));
                    self.begin(tenant, namespace, from, check, known.unwrap_or(check.told))
                }
            };
            now.push(watched);
        }
        networks.insert(network.to_owned(), now);
    }

    /// The network is here no more.
    pub fn forget(&self, network: &str) {
        self.networks().remove(network);
    }

    /// Whether the port (by UID) answers the load balancer (by name); none when that is not checked here.
    pub fn of(&self, port: &str, balancer: &str) -> Option<bool> {
        let networks = self.networks();
        let found = networks.values().flatten().find(|one| one.check.port == port && one.check.balancer == balancer);
        found.map(|one| *lock(&one.found))
    }

    /// What there is to tell of the port, by load balancer.
    pub fn told(&self, port: &str) -> Vec<BackendHealth> {
        let networks = self.networks();
        let of_it = networks.values().flatten().filter(|one| one.check.port == port);
        let mut all: Vec<BackendHealth> = of_it
            .map(|one| BackendHealth { load_balancer: one.check.balancer.clone(), healthy: *lock(&one.found) })
            .collect();
        all.sort();
        all
    }

    fn begin(&self, tenant: &str, namespace: &Namespace, from: IpAddr, check: &Check, known: bool) -> Watched {
        let found = Arc::new(Mutex::new(known));
        let (queue, tenant, port) = (self.queue.clone(), tenant.to_owned(), check.name.clone());
        let (namespace, target, question) = (namespace.clone(), check.target.into(), check.question.clone());
        let (place, told) = ((namespace.inode(), from), found.clone());
        let asked = question.clone();
        let ask_it = move || {
            let (namespace, question) = (namespace.clone(), asked.clone());
            async move { ask(&namespace, from, target, &question).await }
        };
        let tell = move |healthy| {
            tracing::info!(port, healthy, "a backend's health changed");
            *lock(&told) = healthy;
            queue.wake_named(&tenant, &port);
        };
        let task = tokio::spawn(async move { keep_asking(&question, known, ask_it, tell).await });
        Watched { check: check.clone(), place, found, _task: AbortOnDropHandle::new(task) }
    }
}

fn lock(found: &Mutex<bool>) -> MutexGuard<'_, bool> {
    found.lock().unwrap_or_else(PoisonError::into_inner)
}

fn seconds(count: u32) -> Duration {
    Duration::from_secs(count.into())
}

/// Asks as often as the question says, and tells what is news.
async fn keep_asking<A: Future<Output = bool>>(
    question: &HealthCheck,
    healthy: bool,
    ask: impl Fn() -> A,
    tell: impl Fn(bool),
) {
    let mut count = Count { healthy, against: 0 };
    let mut clock = tokio::time::interval(seconds(question.interval_seconds));
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        let answer = tokio::time::timeout(seconds(question.timeout_seconds), ask()).await;
        if let Some(healthy) = count.news(answer.is_ok_and(|good| good), question) {
            tell(healthy);
        }
    }
}

/// What is believed, and how often in a row the opposite was found.
struct Count {
    healthy: bool,
    against: u32,
}

impl Count {
    /// What is believed from now on, if that is new.
    fn news(&mut self, good: bool, question: &HealthCheck) -> Option<bool> {
        if good == self.healthy {
            self.against = 0;
            return None;
        }
        self.against += 1;
        let enough = if good { question.healthy_threshold } else { question.unhealthy_threshold };
        if self.against < enough {
            return None;
        }
        *self = Count { healthy: good, against: 0 };
        Some(good)
    }
}

/// Whether the answer is a good one. It takes as long as it takes.
async fn ask(namespace: &Namespace, from: IpAddr, target: SocketAddr, question: &HealthCheck) -> bool {
    let Ok(mut stream) = netns::check_tcp(namespace, from, target).await else { return false };
    match question.http() {
        None => true,
        Some((path, status)) => answers_http(&mut stream, target, path).await == Some(status),
    }
}

/// The status of an answer to GET (RFC 9112 §4).
async fn answers_http(stream: &mut TcpStream, target: SocketAddr, path: &str) -> Option<u16> {
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {target}\r\nConnection: close\r\nUser-Agent: photoncloud\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut line = Vec::with_capacity(FIRST_LINE);
    while !line.contains(&b'\n') && line.len() < FIRST_LINE {
        if stream.read_buf(&mut line).await.ok()? == 0 {
            return None;
        }
    }
    let line = String::from_utf8_lossy(&line);
    let mut words = line.split_ascii_whitespace();
    words.next().filter(|version| version.starts_with("HTTP/1."))?;
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
    use tokio::time::Instant;

    use super::*;

    #[test]
    fn only_enough_answers_in_a_row_are_news() {
        let question: HealthCheck =
            serde_json::from_value(serde_json::json!({"type": "TCP", "healthyThreshold": 2, "unhealthyThreshold": 3}))
                .unwrap();
        let mut count = Count { healthy: false, against: 0 };
        let found = [true, false, true, true, false, false, true, false, false, false, false, true];
        let news: Vec<_> = found.iter().map(|good| count.news(*good, &question)).collect();
        let expected: Vec<_> = (0..12)
            .map(|at| match at {
                3 => Some(true),
                9 => Some(false),
                _ => None,
            })
            .collect();
        assert_eq!(news, expected);
    }

    /// What a backend does when it is asked.
    #[derive(Clone, Copy, PartialEq)]
    enum Answer {
        Good,
        Refused,
        None,
    }

    /// A backend that does something else from a moment on, and what is told of it.
    struct Backend {
        does: Cell<Answer>,
        asked: Cell<u32>,
    }

    impl Backend {
        /// From now on it does that; after how many questions and how long the other thing is told of it.
        async fn until_told(&self, does: Answer, told: &mut UnboundedReceiver<bool>) -> (u32, Duration) {
            let (asked, begun) = (self.asked.get(), Instant::now());
            self.does.set(does);
            assert_eq!(told.recv().await, Some(does == Answer::Good));
            (self.asked.get() - asked, begun.elapsed())
        }
    }

    /// The clock is the tests': what is measured is what the checks themselves wait for.
    #[tokio::test(start_paused = true)]
    async fn a_dead_backend_is_out_within_two_intervals_and_back_within_two_whenever_it_dies() {
        let question: HealthCheck = serde_json::from_value(serde_json::json!({"type": "TCP"})).unwrap();
        let (interval, timeout) = (seconds(question.interval_seconds), seconds(question.timeout_seconds));
        for (phase, dead) in (0..10).flat_map(|phase| [(phase, Answer::Refused), (phase, Answer::None)]) {
            let backend = Backend { does: Cell::new(Answer::Good), asked: Cell::new(0) };
            let (news, mut told) = unbounded_channel();
            let asks = || {
                backend.asked.set(backend.asked.get() + 1);
                let does = backend.does.get();
                async move {
                    match does {
                        Answer::Good => true,
                        Answer::Refused => false,
                        Answer::None => std::future::pending().await,
                    }
                }
            };
            let asking = keep_asking(&question, true, asks, |healthy| news.send(healthy).unwrap());
            let history = async {
                tokio::time::sleep(interval * 3 + interval * phase / 10 + Duration::from_millis(1)).await;
                let (asked, took) = backend.until_told(dead, &mut told).await;
                let silence = if dead == Answer::None { timeout } else { Duration::ZERO };
                assert_eq!(asked, 2);
                assert!(took > interval && took <= interval * 2 + silence, "{took:?} in phase {phase}");
                let (asked, took) = backend.until_told(Answer::Good, &mut told).await;
                assert_eq!(asked, 2);
                assert!(took <= interval * 2, "{took:?} in phase {phase}");
            };
            tokio::select! {
                () = asking => unreachable!("it goes on for ever"),
                () = history => {}
            }
        }
    }

    #[tokio::test]
    async fn an_answer_is_good_by_its_first_line() {
        for (answer, status) in [
            ("HTTP/1.1 200 OK\r\n\r\n", Some(200)),
            ("HTTP/1.0 503 Gone\r\nx", Some(503)),
            ("SSH-2.0-x\r\n", None),
            ("HTTP/1.1 200 without an end", None),
            ("", None),
        ] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let target = listener.local_addr().unwrap();
            let server = async {
                let mut stream = listener.accept().await.unwrap().0;
                let mut asked = Vec::new();
                while !asked.ends_with(b"\r\n\r\n") {
                    assert_ne!(stream.read_buf(&mut asked).await.unwrap(), 0);
                }
                assert!(asked.starts_with(b"GET /up HTTP/1.1\r\n"));
                stream.write_all(answer.as_bytes()).await.unwrap();
            };
            let client = async { answers_http(&mut TcpStream::connect(target).await.unwrap(), target, "/up").await };
            assert_eq!(tokio::join!(client, server).0, status, "{answer:?}");
        }
    }
}
