//! A watch tells every change after where it began, once, in order, and goes on where it was interrupted.

use super::{Chain, History, Kind, Listed, Revision, State, Violation, lists};

/// What kind of change a watch says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The object is new.
    Added,
    /// It was there before.
    Modified,
    /// It is gone; its revision is that of the removal.
    Deleted,
}

/// What a watch was told, or did.
#[derive(Clone, Debug)]
pub enum Seen {
    /// It listed, at the beginning or because its place was lost (410), and goes on from there.
    Listed(Revision, Listed),
    /// A change of a key.
    Event(Change, String, Revision, State),
    /// All changes so far were told.
    Bookmark(Revision),
    /// It was interrupted and goes on at this server after this revision.
    Resumed(usize, Revision),
}

/// One watch over its whole life.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    /// The only key it is about; all when none.
    pub key: Option<String>,
    /// What it saw, in order.
    pub seen: Vec<Seen>,
}

impl Watched {
    pub(super) fn lines(&self, key: &str) -> Vec<String> {
        if self.key.as_deref().is_some_and(|only| only != key) {
            return Vec::new();
        }
        let name = self.key.as_deref().unwrap_or("all");
        let about = |seen: &&Seen| !matches!(seen, Seen::Event(_, other, ..) if other != key);
        self.seen.iter().filter(about).map(|seen| format!("watch of {name}: {}", seen.short(key))).collect()
    }
}

impl Seen {
    fn short(&self, key: &str) -> String {
        match self {
            Seen::Listed(revision, items) => format!("listed at {revision}: {:?}", items.get(key)),
            other => format!("{other:?}"),
        }
    }
}

pub(super) fn check(history: &History) -> Vec<Violation> {
    history.watches.iter().flat_map(|watched| Follower::new(&history.chain, watched).run(history.until)).collect()
}

/// Where a watch stands in the chain.
struct Follower<'h> {
    chain: &'h Chain,
    watched: &'h Watched,
    /// All changes that concern it, in order.
    due: Vec<(Revision, &'h str)>,
    /// How many of them it has been told, or may have passed over by listing.
    next: usize,
    /// It has been told everything up to here.
    at: Revision,
    found: Vec<Violation>,
}

impl<'h> Follower<'h> {
    fn new(chain: &'h Chain, watched: &'h Watched) -> Self {
        let concerned = chain.keys().filter(|key| watched.key.as_deref().is_none_or(|only| only == *key));
        let mut due: Vec<(Revision, &str)> =
            concerned.flat_map(|key| chain.versions(key).map(move |(revision, _)| (revision, key))).collect();
        due.sort_unstable();
        Follower { chain, watched, due, next: 0, at: 0, found: Vec::new() }
    }

    fn run(mut self, until: Revision) -> Vec<Violation> {
        for seen in &self.watched.seen {
            match seen {
                Seen::Listed(revision, items) => self.listed(*revision, items),
                Seen::Event(change, key, revision, state) => self.event(*change, key, *revision, state),
                Seen::Bookmark(revision) => self.reach(*revision, "before a bookmark"),
                Seen::Resumed(..) => {}
            }
        }
        self.reach(until, "before the end");
        self.found
    }

    fn listed(&mut self, revision: Revision, items: &Listed) {
        if revision < self.at {
            let text = format!("listed {revision} after {} was told", self.at);
            self.say(Kind::ReorderedEvent, self.watched.key.as_deref().unwrap_or_default(), text);
        }
        self.found.extend(lists::compare(self.chain, revision, items, self.watched.key.as_deref()));
        self.at = revision;
        self.next = self.due.partition_point(|(due, _)| *due <= revision);
    }

    fn event(&mut self, change: Change, key: &str, revision: Revision, state: &State) {
        let Ok(place) = self.due.binary_search(&(revision, key)) else {
            return self.say(Kind::WrongEvent, key, format!("{change:?} at {revision} never was"));
        };
        if place < self.next {
            return self.again(key, revision);
        }
        for at in self.next..place {
            let (missed, key) = self.due[at];
            let kind = if self.comes_later(key, missed) { Kind::ReorderedEvent } else { Kind::MissedEvent };
            self.say(kind, key, format!("{missed} was not told before {revision}"));
        }
        (self.next, self.at) = (place + 1, revision);
        let before = self.chain.before(key, revision).1;
        let stored = self.chain.made_at(key, revision).flatten();
        let wanted = match (before, stored) {
            (_, None) => Change::Deleted,
            (None, Some(_)) => Change::Added,
            (Some(_), Some(_)) => Change::Modified,
        };
        if change != wanted || stored.is_some_and(|stored| stored != state) {
            self.say(Kind::WrongEvent, key, format!("{change:?} {state:?} at {revision} was {wanted:?} {stored:?}"));
        }
    }

    /// What comes behind its place: twice, or late. A late one was named when it was passed over.
    fn again(&mut self, key: &str, revision: Revision) {
        let told = |seen: &&Seen| matches!(seen, Seen::Event(_, k, r, _) if k == key && *r == revision);
        if self.watched.seen.iter().filter(told).count() > 1 {
            self.say(Kind::RepeatedEvent, key, format!("{revision} was told again"));
        } else {
            self.say(Kind::ReorderedEvent, key, format!("{revision} was told after {}", self.at));
        }
    }

    fn comes_later(&self, key: &str, revision: Revision) -> bool {
        self.watched.seen.iter().any(|seen| matches!(seen, Seen::Event(_, k, r, _) if k == key && *r == revision))
    }

    fn reach(&mut self, revision: Revision, when: &str) {
        let end = self.due.partition_point(|(due, _)| *due <= revision);
        for at in self.next..end {
            let (missed, key) = self.due[at];
            self.say(Kind::MissedEvent, key, format!("{missed} was not told {when}"));
        }
        self.next = self.next.max(end);
        self.at = self.at.max(revision);
    }

    fn say(&mut self, kind: Kind, key: &str, text: String) {
        let name = self.watched.key.as_deref().unwrap_or("all");
        self.found.push(Violation::new(kind, key, format!("watch of {name}: {text}")));
    }
}
