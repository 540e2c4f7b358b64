//! Which server wrote what as leader, as its audit log says.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;
use testkit::history::{LeaderWrite, Revision};

use super::rooms::COUNT;
use super::truth::Truth;
use super::world::World;

/// What they are called who write under their server's term: reconcilers, and the API's own chores.
const LEADERS: [&str; 2] = ["system:reconciler:", "system:chore:"];

/// All such writes between a revision and the end of the round.
pub fn leader_writes(world: &World, from: Revision, truth: &Truth) -> Result<Vec<LeaderWrite>> {
    let mut found = BTreeMap::new();
    for server in 0..COUNT {
        for path in world.audit_logs(server) {
            let text = std::fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
            // A killed server may have died within a line.
            let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            for (revision, what) in lines.filter_map(|line| write_of(&line)) {
                if revision > from && revision <= truth.until() {
                    found.insert((revision, server), LeaderWrite { revision, server, what });
                }
            }
        }
    }
    Ok(found.into_values().collect())
}

fn write_of(line: &Value) -> Option<(Revision, String)> {
    let text = |field: &str| line[field].as_str().unwrap_or_default();
    let ours =
        LEADERS.iter().any(|of| text("user").starts_with(of)) && line["code"].as_u64().is_some_and(|code| code < 300);
    let revision = text("revision").parse().ok().filter(|_| ours)?;
    Some((revision, format!("{} {} {}", text("verb"), text("resource"), text("name"))))
}
