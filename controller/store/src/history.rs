//! The recent past: a bounded ring of events that all watches share.
//!
//! Watches hold no events of their own, only the sequence number of the first one they have not seen. So a thousand
//! watches cost one ring, and "too slow" has one meaning: the ring has moved past you.

use std::collections::VecDeque;

use crate::{Entry, Event, History, Revision};

/// Counts events since the store connected; unlike revisions, unique even where one transaction changed two keys.
pub(crate) type Sequence = u64;

pub(crate) struct Ring {
    events: VecDeque<Event>,
    first: Sequence,
    bytes: usize,
    /// Everything after this revision is in the ring.
    floor: Revision,
    limits: History,
}

impl Ring {
    pub(crate) fn new(limits: History) -> Self {
        Self { events: VecDeque::new(), first: 0, bytes: 0, floor: Revision::ZERO, limits }
    }

    /// Appends an event, forgetting the oldest ones where a bound is exceeded.
    pub(crate) fn push(&mut self, event: Event) -> Sequence {
        self.bytes += weight(&event);
        self.events.push_back(event);
        while self.events.len() > self.limits.events || (self.bytes > self.limits.bytes && self.events.len() > 1) {
            self.forget_oldest();
        }
        self.end() - 1
    }

    fn forget_oldest(&mut self) {
        if let Some(oldest) = self.events.pop_front() {
            self.bytes -= weight(&oldest);
            self.first += 1;
            self.floor = oldest.revision();
        }
    }

    /// Forgets everything: the past before `floor` is not known without gaps.
    pub(crate) fn restart(&mut self, floor: Revision) {
        self.first = self.end();
        self.events.clear();
        self.bytes = 0;
        self.floor = floor;
    }

    pub(crate) fn floor(&self) -> Revision {
        self.floor
    }

    fn end(&self) -> Sequence {
        self.first + self.events.len() as Sequence
    }

    /// The sequence number of the first event after `revision`.
    pub(crate) fn after(&self, revision: Revision) -> Sequence {
        let passed = self.events.partition_point(|event| event.revision() <= revision);
        self.first + passed as Sequence
    }

    /// Whether the event `at` has been forgotten.
    pub(crate) fn has_passed(&self, at: Sequence) -> bool {
        at < self.first
    }

    /// The events from `at` on, with their sequence numbers.
    pub(crate) fn from(&self, at: Sequence) -> impl Iterator<Item = (Sequence, &Event)> {
        let skipped = usize::try_from(at.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let start = skipped.min(self.events.len());
        (self.first + start as Sequence..).zip(self.events.range(start..))
    }

    /// The events after `revision`.
    pub(crate) fn since(&self, revision: Revision) -> impl Iterator<Item = &Event> {
        self.from(self.after(revision)).map(|(_, event)| event)
    }
}

/// Old and new value both stay in memory as long as the event does.
fn weight(event: &Event) -> usize {
    event.entry.weight() + event.previous.as_ref().map_or(0, Entry::weight)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::EventKind;

    fn put(revision: u64) -> Event {
        let at = Revision::new(revision);
        let entry =
            Entry::new(&std::sync::Arc::default(), "/registry/a/b".into(), Bytes::from_static(b"value"), at, at);
        Event { kind: EventKind::Put, entry, previous: None }
    }

    fn ring(events: usize) -> Ring {
        Ring::new(History { events, bytes: usize::MAX })
    }

    fn revisions<'a>(events: impl Iterator<Item = &'a Event>) -> Vec<u64> {
        events.map(|event| event.revision().get()).collect()
    }

    #[test]
    fn the_floor_rises_with_what_is_forgotten() {
        let mut ring = ring(2);
        for revision in [3, 5, 9] {
            ring.push(put(revision));
        }
        assert_eq!(ring.floor().get(), 3);
        assert!(ring.has_passed(0) && !ring.has_passed(1));
        assert_eq!(revisions(ring.since(Revision::new(3))), [5, 9]);
        assert_eq!(revisions(ring.since(Revision::new(6))), [9]);
        assert_eq!(revisions(ring.since(Revision::new(9))), [0u64; 0]);
    }

    #[test]
    fn bytes_bound_it_too_but_the_newest_event_stays() {
        let mut ring = Ring::new(History { events: 100, bytes: 1 });
        ring.push(put(1));
        ring.push(put(2));
        assert_eq!(revisions(ring.since(Revision::ZERO)), [2]);
    }

    #[test]
    fn a_restart_passes_all_old_sequence_numbers() {
        let mut ring = ring(10);
        let old = ring.push(put(1));
        ring.restart(Revision::new(7));
        assert!(ring.has_passed(old));
        let new = ring.push(put(8));
        assert_eq!(ring.from(new).count(), 1);
    }
}
