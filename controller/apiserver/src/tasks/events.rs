//! Events are news: they go after their time.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use store::Consistency;

use crate::error::Error;
use crate::object::{Object, meta};
use crate::server::Server;
use crate::{storage, text};

/// How often old events are looked for.
const ROUND: Duration = Duration::from_secs(60);

/// Runs for ever.
pub(crate) async fn run(server: Arc<Server>) {
    let mut round = tokio::time::interval(ROUND.min(server.options.event_ttl.max(Duration::from_millis(100))));
    loop {
        round.tick().await;
        if let Err(error) = server.forget_events(Timestamp::now()).await {
            tracing::debug!(error = text::chain(&error), "old events stay for another round");
        }
    }
}

impl Server {
    async fn forget_events(&self, now: Timestamp) -> Result<(), Error> {
        let resource = self.builtin("", "events")?;
        let prefix = storage::prefix(&self.store, &resource.definition, None);
        let (entries, _) = self.store.list(&prefix, Consistency::Any).await?;
        for entry in entries {
            let object = Object::of(&entry)?;
            let age = last_seen(&object.value)
                .map_or(Duration::MAX, |at| Duration::try_from(now.duration_since(at)).unwrap_or_default());
            if age < self.options.event_ttl {
                continue;
            }
            match self.store.delete(&entry.key, entry.mod_revision).await {
                // Written or deleted meanwhile: the next round sees what it is then.
                Ok(_) | Err(store::Error::Conflict { .. } | store::Error::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// The latest time an event mentions.
fn last_seen(event: &Value) -> Option<Timestamp> {
    let times = [
        meta(event, "creationTimestamp"),
        event["lastTimestamp"].as_str().unwrap_or(""),
        event["eventTime"].as_str().unwrap_or(""),
        event["series"]["lastObservedTime"].as_str().unwrap_or(""),
    ];
    times.iter().filter_map(|text| text.parse().ok()).max()
}
