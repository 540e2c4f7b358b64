//! What nobody asks for: noticing a silent watch, checking the cache, compacting the past.

mod reseal;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::core::Core;
use crate::failure::Verdict;
use crate::feed::Order;
use crate::{Compaction, Error, Revision};

/// How often the watch is checked for life. Costs a read; only an etcd shared with others gets a heartbeat.
const PULSE: Duration = Duration::from_secs(5);
/// The same where others write, too: it is then that a watch which says nothing keeps something from us.
const SHARED_PULSE: Duration = Duration::from_secs(2);

/// Keeps the store well until it is dropped.
pub(crate) async fn run(core: Arc<Core>) {
    let every = |period| {
        let mut ticks = interval_at(Instant::now() + period, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    };
    let pulse = if core.options.sole_writer { PULSE } else { SHARED_PULSE };
    let (mut pulse, mut verify) = (every(pulse), every(core.options.verify));
    let mut compact = every(core.options.compaction.every);
    let mut ages = Ages::default();
    reseal::rewrite(&core).await;
    loop {
        tokio::select! {
            _ = pulse.tick() => {
                check_pulse(&core).await;
                // A full etcd is asked often, for it may have been helped; others now and then (below).
                if core.is_full() {
                    check_space(&core).await;
                }
                reseal::look(&core).await;
            }
            _ = verify.tick() => {
                if let Err(error) = compare(&core).await {
                    tracing::debug!(%error, "failed to compare the cache with etcd");
                }
            }
            _ = compact.tick() => {
                compact_past(&core, &mut ages).await;
                check_space(&core).await;
            }
        }
    }
}

/// Asks etcd for its alarm: a server that writes nothing would not notice.
async fn check_space(core: &Core) {
    match core.link.no_space(core.deadline()).await {
        Ok(full) => core.set_full(full),
        Err(failure) => tracing::debug!(?failure, "failed to ask etcd for its alarms"),
    }
}

/// Whoever waits for what the watch should have reported has a silent one opened again; here somebody waits.
async fn check_pulse(core: &Core) {
    let before = core.memory.revision();
    let deadline = Instant::now() + PULSE;
    let Ok(now) = core.link.revision(deadline).await else {
        return;
    };
    if now < before {
        core.order(Order::Reload);
    } else if core.caught_up(now, deadline).await.is_err() {
        tracing::warn!(%now, "the watch on etcd is late");
        core.order(Order::Reopen);
    }
}

/// Compares the cache with a full list and has it listed again where they disagree; returns on how many keys.
pub(crate) async fn compare(core: &Core) -> Result<usize, Error> {
    let waited = core.options.timeout;
    let (listing, at) = core.link.list(false).await.map_err(|failure| failure.of("verify", waited))?;
    core.caught_up(at, core.deadline()).await?;
    let differing = core.memory.read().differences(&listing, at);
    if let Some(example) = differing.first() {
        let count = differing.len();
        core.metrics.discrepancies.inc_by(count as u64);
        tracing::warn!(count, %example, "the cache differs from etcd, listing again");
        core.order(Order::Reload);
    }
    Ok(differing.len())
}

/// How old revisions are.
#[derive(Default)]
struct Ages {
    samples: VecDeque<(Instant, Revision)>,
    compacted: Revision,
}

impl Ages {
    /// Notes the present revision and returns the one to compact to, if any.
    fn plan(&mut self, now: Instant, present: Revision, keep: &Compaction) -> Option<Revision> {
        self.samples.push_back((now, present));
        let mut old = None;
        while let Some((at, revision)) = self.samples.front().copied() {
            if now.duration_since(at) < keep.age {
                break;
            }
            old = Some(revision);
            self.samples.pop_front();
        }
        let newest = Revision::new(present.get().saturating_sub(keep.revisions));
        let target = old?.min(newest);
        (target > self.compacted).then_some(target)
    }
}

/// etcd keeps every version until told otherwise. Our watches are served from memory, so only this store's own feed
/// (and other replicas') must never find its place compacted; the distance kept is generous.
async fn compact_past(core: &Core, ages: &mut Ages) {
    let present = core.memory.revision();
    let Some(target) = ages.plan(Instant::now(), present, &core.options.compaction) else {
        return;
    };
    match core.link.compact(target, core.deadline()).await {
        Ok(()) => {
            ages.compacted = target;
            tracing::debug!(%target, "compacted");
        }
        // Another replica was first.
        Err(failure) if failure.verdict == Verdict::Compacted => ages.compacted = target,
        Err(failure) => tracing::warn!(?failure, %target, "failed to compact"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP: Compaction = Compaction { every: Duration::from_secs(1), age: Duration::from_secs(10), revisions: 100 };

    #[test]
    fn only_what_is_both_old_and_far_behind_is_compacted() {
        let (start, mut ages) = (Instant::now(), Ages::default());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(ages.plan(after(0), Revision::new(500), &KEEP), None);
        assert_eq!(ages.plan(after(5), Revision::new(900), &KEEP), None, "far behind, but young");
        assert_eq!(ages.plan(after(10), Revision::new(550), &KEEP), Some(Revision::new(450)));
        assert_eq!(ages.plan(after(15), Revision::new(2000), &KEEP), Some(Revision::new(900)));
    }

    #[test]
    fn nothing_is_compacted_twice() {
        let (start, mut ages) = (Instant::now(), Ages::default());
        ages.compacted = Revision::new(500);
        ages.plan(start, Revision::new(500), &KEEP);
        assert_eq!(ages.plan(start + KEEP.age, Revision::new(9000), &KEEP), None);
    }
}
