//! Whoever asks later is told no older version: linearizability of each key, its versions being ordered.
//!
//! A sweep through time keeps, for each key, the newest version that any finished operation has shown. An operation
//! that begins then must be told that one or a newer one; a write must make a newer one. "There is none" stands for the
//! earliest time of absence that is late enough: any later one would only bind those who ask afterwards more.

use std::collections::{BTreeMap, HashMap};

use super::{Call, History, Kind, Moment, Operation, Outcome, Revision, Violation};

pub(super) fn check(history: &History) -> Vec<Violation> {
    let sweep = Sweep::new(history);
    sweep.run()
}

struct Sweep<'h> {
    history: &'h History,
    /// When the request that made a version was sent, by key and revision, as far as known.
    sent: HashMap<(&'h str, Revision), Moment>,
    /// When deletions whose answer never came were sent.
    lost_deletions: HashMap<&'h str, Vec<Moment>>,
    /// Newest version known of each key.
    floors: BTreeMap<String, Revision>,
    /// Newest version known of anything.
    newest: Revision,
    found: Vec<Violation>,
}

impl<'h> Sweep<'h> {
    fn new(history: &'h History) -> Self {
        let mut sweep = Sweep {
            history,
            sent: HashMap::new(),
            lost_deletions: HashMap::new(),
            floors: BTreeMap::new(),
            newest: 0,
            found: Vec::new(),
        };
        for operation in &history.operations {
            sweep.note_sent(operation);
        }
        sweep
    }

    fn note_sent(&mut self, operation: &'h Operation) {
        let key = operation.key.as_str();
        match (&operation.call, &operation.outcome) {
            (Call::Write { field, token, .. }, _) => {
                for place in self.history.chain.introductions(key, field, token) {
                    self.sent.insert((key, place), operation.begun);
                }
            }
            (Call::Delete { .. }, Outcome::Removed(uid)) => {
                if let Some((revision, _)) = self.history.chain.removal(key, uid) {
                    self.sent.insert((key, revision), operation.begun);
                }
            }
            (Call::Delete { .. }, Outcome::Unknown(_)) => {
                self.lost_deletions.entry(key).or_default().push(operation.begun);
            }
            _ => {}
        }
    }

    fn run(mut self) -> Vec<Violation> {
        // Ends before beginnings at the same moment would be "before" without proof: so beginnings come first.
        let mut moments: Vec<(Moment, bool, usize)> = Vec::new();
        for (index, operation) in self.history.operations.iter().enumerate() {
            moments.push((operation.begun, false, index));
            moments.push((operation.ended, true, index));
        }
        moments.sort_unstable();
        let mut under_way: HashMap<usize, (Revision, Revision)> = HashMap::new();
        for (_, ends, index) in moments {
            let operation = &self.history.operations[index];
            if ends {
                let (floor, newest) = under_way.remove(&index).unwrap_or_default();
                self.end(operation, floor, newest);
            } else {
                let floor = self.floors.get(&operation.key).copied().unwrap_or_default();
                under_way.insert(index, (floor, self.newest));
            }
        }
        self.found
    }

    fn end(&mut self, operation: &Operation, floor: Revision, newest: Revision) {
        let key = operation.key.as_str();
        match (&operation.call, &operation.outcome) {
            (Call::Write { .. }, Outcome::Stored(revision, _)) => {
                if *revision <= floor {
                    self.stale(operation, floor);
                }
                self.know(key, *revision);
            }
            (Call::Get, Outcome::Stored(revision, state)) => {
                self.check_read(operation, *revision, floor);
                if self.history.chain.made_at(key, *revision) != Some(Some(state)) {
                    self.found.push(Violation::new(Kind::WrongAnswer, key, operation));
                }
                self.know(key, *revision);
            }
            (Call::Delete { .. }, Outcome::Removed(uid)) => {
                if let Some((revision, _)) = self.history.chain.removal(key, uid) {
                    if revision <= floor {
                        self.stale(operation, floor);
                    }
                    self.know(key, revision);
                }
            }
            (_, Outcome::Absent) => self.absent(operation, floor),
            (Call::List { fresh: true }, Outcome::Listed(revision, _)) => {
                if *revision < newest {
                    self.stale(operation, newest);
                }
                let keys: Vec<String> = self.history.chain.keys().map(str::to_owned).collect();
                for key in keys {
                    let (version, _) = self.history.chain.at(&key, *revision);
                    self.know(&key, version);
                }
                self.newest = self.newest.max(*revision);
            }
            _ => {}
        }
    }

    fn check_read(&mut self, operation: &Operation, revision: Revision, floor: Revision) {
        if revision < floor {
            self.stale(operation, floor);
        }
        let sent = self.sent.get(&(operation.key.as_str(), revision));
        if sent.is_some_and(|sent| *sent > operation.ended) {
            self.found.push(Violation::new(Kind::EarlyRead, &operation.key, operation));
        }
    }

    fn absent(&mut self, operation: &Operation, floor: Revision) {
        let key = operation.key.as_str();
        let chain = &self.history.chain;
        let (version, state) = chain.at(key, floor);
        let since = match state {
            None => Some(version),
            Some(_) => {
                let removals = chain.versions(key).filter(|(revision, state)| *revision > floor && state.is_none());
                removals
                    .map(|(revision, _)| revision)
                    .next()
                    .filter(|removal| self.may_be(key, *removal, operation.ended))
            }
        };
        match since {
            Some(since) => self.know(key, since),
            None => self.stale(operation, floor),
        }
    }

    /// Whether a removal can have been made before a moment.
    fn may_be(&self, key: &str, removal: Revision, moment: Moment) -> bool {
        match self.sent.get(&(key, removal)) {
            Some(sent) => *sent <= moment,
            None => self.lost_deletions.get(key).is_some_and(|sent| sent.iter().any(|sent| *sent <= moment)),
        }
    }

    fn know(&mut self, key: &str, revision: Revision) {
        let floor = self.floors.entry(key.to_owned()).or_default();
        *floor = (*floor).max(revision);
        self.newest = self.newest.max(revision);
    }

    fn stale(&mut self, operation: &Operation, known: Revision) {
        let text = format!("{known} was known before: {operation}");
        self.found.push(Violation::new(Kind::StaleRead, &operation.key, text));
    }
}
