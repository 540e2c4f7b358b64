//! A hundred watchers of everything, while objects are created: how long after etcd's own event each hears of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use etcd_client::{EventType, WatchOptions};
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::time::MissedTickBehavior;

use super::door::Door;
use super::load::quantile;
use super::requests::{self, Operation};
use crate::create;
use crate::figure::{Report, Sample};
use crate::lab::Lab;

const WATCHERS: usize = 100;
const WRITES: usize = 500;
/// Between two writes: 50 a second.
const PAUSE: Duration = Duration::from_millis(20);
/// Everybody has heard of everything well before this.
const DEADLINE: Duration = Duration::from_secs(120);
const STEM: &str = "w";

type Heard = HashMap<usize, Instant>;

/// Measures it, and the server's memory with all of them connected.
pub async fn measure(lab: &Lab, doors: &[Arc<Door>], report: &mut Report) -> Result<()> {
    eprintln!("bench: {WATCHERS} watchers");
    let list = doors[0].document(requests::list()).await?;
    let version = list.pointer("/metadata/resourceVersion").and_then(Value::as_str).context("a list has no version")?;
    let objects = list["items"].as_array().map_or(0, Vec::len);
    let truth = tokio::spawn(truth(create::etcd(lab).await?));
    let mut watchers = Vec::with_capacity(WATCHERS);
    for door in Door::open(lab, WATCHERS).await? {
        let response = door.stream(requests::watch(version)?).await?;
        watchers.push(tokio::spawn(listen(response)));
    }
    let memory = super::resident(lab)?;
    let mut tick = tokio::time::interval(PAUSE);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 0..WRITES {
        tick.tick().await;
        doors[0].send(Operation::Create.request(STEM, number, &[])?).await?;
    }
    let truth = tokio::time::timeout(DEADLINE, truth).await.context("etcd's own watch is late")?.context("etcd")??;
    let mut delays = Vec::with_capacity(WATCHERS * WRITES);
    for watcher in watchers {
        let heard =
            tokio::time::timeout(DEADLINE, watcher).await.context("a watcher is late")?.context("a watcher")??;
        delays.extend(
            truth
                .iter()
                .filter_map(|(number, at)| Some(heard.get(number)?.saturating_duration_since(*at).as_secs_f64() * 1e3)),
        );
    }
    anyhow::ensure!(delays.len() == WATCHERS * WRITES, "watchers missed {} events", WATCHERS * WRITES - delays.len());
    delays.sort_by(f64::total_cmp);
    report.add("watch event after etcd's own", "ms", &delays.iter().copied().collect::<Sample>(), None, "p99 5");
    report.note(format!(
        "{WATCHERS} watchers, 50 writes/s; p50 {:.2}, p99 {:.2}",
        quantile(&delays, 0.5),
        quantile(&delays, 0.99)
    ));
    let name = format!("server's memory, {objects} objects, {WATCHERS} watchers");
    report.add(name, "MiB", &Sample::one(memory), None, "150 with 10,000");
    Ok(())
}

/// When etcd itself told of each write.
async fn truth(mut etcd: etcd_client::Client) -> Result<Heard> {
    let prefix = format!("{}default/{STEM}-", requests::STORED);
    let watching = etcd.watch(prefix.clone(), Some(WatchOptions::new().with_prefix())).await;
    let mut watching = watching.context("failed to watch etcd")?;
    let mut heard = Heard::new();
    while heard.len() < WRITES {
        let answer = watching.message().await.context("etcd's watch broke")?.context("etcd's watch ended")?;
        let now = Instant::now();
        for event in answer.events().iter().filter(|event| event.event_type() == EventType::Put) {
            let key = event.kv().and_then(|kv| kv.key_str().ok()).unwrap_or_default();
            heard.extend(
                key.strip_prefix(&prefix).and_then(|rest| rest.parse().ok()).map(|number: usize| (number, now)),
            );
        }
    }
    Ok(heard)
}

/// When a watcher heard of each write. Lines are not parsed: a hundred readers would be measured, not the server.
async fn listen(response: http::Response<kube::client::Body>) -> Result<Heard> {
    let mark = format!("\"name\":\"{STEM}-");
    let mut body = response.into_body();
    let (mut line, mut heard) = (Vec::new(), Heard::new());
    while heard.len() < WRITES {
        let frame = body.frame().await.context("the watch ended")?.context("the watch broke")?;
        let now = Instant::now();
        let Ok(data) = frame.into_data() else { continue };
        for piece in data.split_inclusive(|byte| *byte == b'\n') {
            line.extend_from_slice(piece);
            if line.last() == Some(&b'\n') {
                heard.extend(number(&line, mark.as_bytes()).map(|number| (number, now)));
                line.clear();
            }
        }
    }
    Ok(heard)
}

fn number(line: &[u8], mark: &[u8]) -> Option<usize> {
    let at = line.windows(mark.len()).position(|window| window == mark)? + mark.len();
    let digits: Vec<u8> = line[at..].iter().copied().take_while(u8::is_ascii_digit).collect();
    String::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_number_in_a_name_is_found_without_parsing() {
        let line = br#"{"type":"ADDED","object":{"metadata":{"name":"w-42","uid":"1"}}}"#;
        assert_eq!(super::number(line, b"\"name\":\"w-"), Some(42));
        assert_eq!(super::number(br#"{"metadata":{"name":"x-1"}}"#, b"\"name\":\"w-"), None);
    }
}
