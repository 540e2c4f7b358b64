//! What etcd itself says: every version of what was written, and every term of leadership.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use etcd_client::{Client, EventType, WatchOptions};
use testkit::history::{Chain, Revision, Term};

use super::registers;
use super::world::World;

const PREFIX: &str = "/registry/";
const TERM: &str = "/registry/~store/term";
/// For etcd to tell what happened in one round.
const PATIENCE: Duration = Duration::from_secs(60);

/// How things stood when a round began.
pub struct Beginning {
    /// etcd's revision.
    pub revision: Revision,
    term: Option<Term>,
}

/// What happened in a round.
pub struct Truth {
    /// Every version of its keys.
    pub chain: Chain,
    /// All terms, the first of which began before it.
    pub terms: Vec<Term>,
    /// The last revision of each of its keys.
    pub last: BTreeMap<String, Revision>,
}

impl Truth {
    /// The last revision of any of its keys.
    pub fn until(&self) -> Revision {
        self.last.values().copied().max().unwrap_or_default()
    }
}

async fn connect(world: &World) -> Result<Client> {
    Client::connect(world.endpoints(), None).await.context("etcd does not answer")
}

fn term(world: &World, revision: i64, holder: &[u8]) -> Result<Term> {
    let holder = String::from_utf8_lossy(holder);
    let server = world.whose(&holder).with_context(|| format!("nobody is {holder}"))?;
    Ok(Term { revision: revision.try_into()?, server })
}

/// Looks how things stand.
pub async fn begin(world: &World) -> Result<Beginning> {
    let answer = connect(world).await?.get(TERM, None).await?;
    let revision = answer.header().context("no header")?.revision().try_into()?;
    let found = answer.kvs().first().map(|kv| term(world, kv.mod_revision(), kv.value())).transpose()?;
    Ok(Beginning { revision, term: found })
}

/// Has etcd tell all that happened since.
pub async fn read(world: &World, beginning: &Beginning, keys: &[String]) -> Result<Truth> {
    tokio::time::timeout(PATIENCE, replay(world, beginning, keys)).await.context("etcd does not tell what happened")?
}

async fn replay(world: &World, beginning: &Beginning, keys: &[String]) -> Result<Truth> {
    let mut client = connect(world).await?;
    let answer = client.get(TERM, None).await?;
    let now: Revision = answer.header().context("no header")?.revision().try_into()?;
    // So that the watch has something to tell of after `now`.
    client.put(format!("{PREFIX}~store/heartbeat"), "", None).await?;
    let from = i64::try_from(beginning.revision)? + 1;
    let options = WatchOptions::new().with_prefix().with_start_revision(from);
    let mut events = client.watch(PREFIX, Some(options)).await?;
    let terms = beginning.term.clone().into_iter().collect();
    let mut truth = Truth { chain: Chain::default(), terms, last: BTreeMap::new() };
    while let Some(response) = events.message().await? {
        if response.canceled() {
            bail!("etcd has forgotten what happened: {}", response.cancel_reason());
        }
        for event in response.events() {
            let kv = event.kv().context("an event without a key")?;
            let revision: Revision = kv.mod_revision().try_into()?;
            if revision > now {
                return Ok(truth);
            }
            let key = kv.key_str()?;
            if key == TERM {
                truth.terms.push(term(world, kv.mod_revision(), kv.value())?);
            }
            let Some(name) = key.strip_prefix(registers::FOLDER).filter(|name| keys.iter().any(|k| k == name)) else {
                continue;
            };
            let stored = event.event_type() == EventType::Put;
            let document = if stored { Some(serde_json::from_slice(kv.value())?) } else { None };
            truth.chain.add(name, revision, document.as_ref().map(registers::state));
            truth.last.insert(name.to_owned(), revision);
        }
    }
    bail!("etcd ended the watch")
}
