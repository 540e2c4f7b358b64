//! Every version of every object, in the order in which the store made them.

use std::collections::BTreeMap;

use super::Revision;

/// What is followed of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Which of the objects that had this name one after the other.
    pub uid: String,
    /// The token in each field that has one.
    pub fields: BTreeMap<String, String>,
}

/// The versions of all keys; a version without a state is a removal.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    keys: BTreeMap<String, BTreeMap<Revision, Option<State>>>,
}

impl Chain {
    /// Adds a version.
    pub fn add(&mut self, key: &str, revision: Revision, state: Option<State>) {
        self.keys.entry(key.to_owned()).or_default().insert(revision, state);
    }

    /// All keys that ever had a version.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.keys.keys().map(String::as_str)
    }

    /// How many versions there are.
    pub fn len(&self) -> usize {
        self.keys.values().map(BTreeMap::len).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The versions of a key.
    pub(super) fn versions(&self, key: &str) -> impl DoubleEndedIterator<Item = (Revision, Option<&State>)> {
        self.keys.get(key).into_iter().flatten().map(|(revision, state)| (*revision, state.as_ref()))
    }

    /// The version made at exactly this revision; the inner option is empty for a removal.
    pub(super) fn made_at(&self, key: &str, revision: Revision) -> Option<Option<&State>> {
        self.keys.get(key)?.get(&revision).map(Option::as_ref)
    }

    /// The version that counts at a revision; revision 0 stands for "never was".
    pub(super) fn at(&self, key: &str, revision: Revision) -> (Revision, Option<&State>) {
        let last = self.keys.get(key).and_then(|versions| versions.range(..=revision).next_back());
        last.map_or((0, None), |(revision, state)| (*revision, state.as_ref()))
    }

    /// The version before the one made at a revision.
    pub(super) fn before(&self, key: &str, revision: Revision) -> (Revision, Option<&State>) {
        self.at(key, revision.saturating_sub(1))
    }

    /// The removal of the object with this UID: when, and which version it ended.
    pub(super) fn removal(&self, key: &str, uid: &str) -> Option<(Revision, Revision)> {
        self.versions(key).filter(|(_, state)| state.is_none()).find_map(|(revision, _)| {
            let (before, state) = self.before(key, revision);
            (state?.uid == uid).then_some((revision, before))
        })
    }

    /// Where a token came into a field. More than one place is one too many.
    pub(super) fn introductions(&self, key: &str, field: &str, token: &str) -> Vec<Revision> {
        let holds =
            |state: Option<&State>| state.is_some_and(|state| state.fields.get(field).is_some_and(|t| t == token));
        self.versions(key)
            .filter(|(revision, state)| holds(*state) && !holds(self.before(key, *revision).1))
            .map(|(revision, _)| revision)
            .collect()
    }

    pub(super) fn lines(&self, key: &str) -> Vec<String> {
        self.versions(key).map(|(revision, state)| format!("etcd {revision}: {state:?}")).collect()
    }
}
