//! The checker must be able to fail: a history with each kind of violation, found and named.

use super::*;

const K: &str = "k";

fn state(uid: &str, token: &str) -> State {
    State { uid: uid.to_owned(), fields: BTreeMap::from([("spec".to_owned(), token.to_owned())]) }
}

/// `k` is made at 10, changed at 12, removed at 14 and made again at 16; `other` is made at 11.
fn chain() -> Chain {
    let mut chain = Chain::default();
    chain.add(K, 10, Some(state("u", "a")));
    chain.add("other", 11, Some(state("o", "z")));
    chain.add(K, 12, Some(state("u", "b")));
    chain.add(K, 14, None);
    chain.add(K, 16, Some(state("v", "c")));
    chain
}

fn asked(begun: Moment, ended: Moment, call: Call, outcome: Outcome) -> Operation {
    Operation { client: 0, server: 0, key: K.to_owned(), begun, ended, call, outcome }
}

fn write(token: &str, expected: Expected) -> Call {
    Call::Write { verb: "put", field: "spec", token: token.to_owned(), expected }
}

fn stored(revision: Revision, uid: &str, token: &str) -> Outcome {
    Outcome::Stored(revision, state(uid, token))
}

/// What really happened to `k`, one after the other.
fn truth() -> Vec<Operation> {
    vec![
        asked(0, 10, write("a", Expected::Absent), stored(10, "u", "a")),
        asked(20, 30, write("b", Expected::Version(10)), stored(12, "u", "b")),
        asked(40, 50, Call::Delete { expected: Expected::Anything }, Outcome::Removed("u".to_owned())),
        asked(60, 70, write("c", Expected::Absent), stored(16, "v", "c")),
    ]
}

fn kinds(operations: Vec<Operation>) -> Vec<Kind> {
    let history = History { operations, chain: chain(), ..History::default() };
    history.check().iter().map(|violation| violation.kind).collect()
}

fn with(operation: Operation) -> Vec<Kind> {
    let mut operations = truth();
    operations.push(operation);
    kinds(operations)
}

fn instead(index: usize, operation: Operation) -> Vec<Kind> {
    let mut operations = truth();
    operations[index] = operation;
    kinds(operations)
}

#[test]
fn what_really_happened_is_no_violation() {
    assert_eq!(kinds(truth()), []);
    assert_eq!(with(asked(31, 32, Call::Get, stored(12, "u", "b"))), []);
    assert_eq!(with(asked(51, 52, Call::Get, Outcome::Absent)), []);
}

#[test]
fn an_unknown_outcome_may_be_either() {
    let lost = || Outcome::Unknown("timeout".to_owned());
    assert_eq!(instead(1, asked(20, 30, write("b", Expected::Version(10)), lost())), []);
    assert_eq!(with(asked(20, 30, write("never", Expected::Version(10)), lost())), []);
    assert_eq!(instead(2, asked(40, 50, Call::Delete { expected: Expected::Anything }, lost())), []);
}

#[test]
fn a_lost_write_is_found() {
    assert_eq!(with(asked(80, 90, write("gone", Expected::Anything), stored(20, "v", "gone"))), [Kind::LostWrite]);
    let removed = Outcome::Removed("v".to_owned());
    assert_eq!(with(asked(80, 90, Call::Delete { expected: Expected::Anything }, removed)), [Kind::LostWrite]);
}

#[test]
fn a_lost_cas_is_found() {
    let call = write("b", Expected::Version(9));
    assert_eq!(instead(1, asked(20, 30, call.clone(), stored(12, "u", "b"))), [Kind::LostCas]);
    assert_eq!(instead(1, asked(20, 30, call, Outcome::Unknown(String::new()))), [Kind::LostCas], "unanswered");
    let taken = asked(20, 30, write("b", Expected::Absent), stored(12, "u", "b"));
    assert_eq!(instead(1, taken), [Kind::LostCas], "created what was there");
    let removal = |expected| asked(40, 50, Call::Delete { expected }, Outcome::Removed("u".to_owned()));
    assert_eq!(instead(2, removal(Expected::Version(10))), [Kind::LostCas]);
    assert_eq!(
        with(asked(41, 51, Call::Delete { expected: Expected::Anything }, Outcome::Removed("u".to_owned()))),
        [Kind::LostCas]
    );
}

#[test]
fn two_clients_that_both_succeed_on_one_version_are_found() {
    let mut operations = truth();
    operations.push(asked(20, 30, write("b2", Expected::Version(10)), stored(12, "u", "b2")));
    assert_eq!(kinds(operations), [Kind::LostWrite], "only one of them can be there");
}

#[test]
fn a_refused_write_that_took_effect_is_found() {
    assert_eq!(
        instead(1, asked(20, 30, write("b", Expected::Version(10)), Outcome::Refused(409))),
        [Kind::RefusedButMade]
    );
}

#[test]
fn a_write_made_twice_is_found() {
    let mut chain = chain();
    chain.add(K, 18, Some(state("v", "a")));
    let history = History { operations: truth(), chain, ..History::default() };
    assert_eq!(history.check().iter().map(|v| v.kind).collect::<Vec<_>>(), [Kind::MadeTwice]);
}

#[test]
fn a_stale_read_is_found() {
    assert_eq!(with(asked(31, 35, Call::Get, stored(10, "u", "a"))), [Kind::StaleRead]);
    assert_eq!(with(asked(71, 75, Call::Get, Outcome::Absent)), [Kind::StaleRead], "it was there");
    assert_eq!(with(asked(31, 35, Call::Get, Outcome::Absent)), [Kind::StaleRead], "it was removed later");
    assert_eq!(with(asked(25, 35, Call::Get, stored(10, "u", "a"))), [], "the write was under way");
}

#[test]
fn what_one_reader_has_seen_the_next_one_sees() {
    let mut operations = truth();
    operations[1].ended = 100;
    operations.push(asked(21, 22, Call::Get, stored(12, "u", "b")));
    operations.push(asked(23, 24, Call::Get, stored(10, "u", "a")));
    assert!(kinds(operations).contains(&Kind::StaleRead));
}

#[test]
fn an_answer_from_the_future_or_from_nowhere_is_found() {
    assert!(with(asked(11, 15, Call::Get, stored(12, "u", "b"))).contains(&Kind::EarlyRead));
    assert!(with(asked(31, 35, Call::Get, stored(12, "u", "x"))).contains(&Kind::WrongAnswer));
    assert!(with(asked(31, 35, Call::Get, stored(13, "u", "b"))).contains(&Kind::WrongAnswer));
}

fn listed(items: &[(&str, Revision, State)]) -> Listed {
    items.iter().map(|(key, revision, state)| ((*key).to_owned(), (*revision, state.clone()))).collect()
}

#[test]
fn a_torn_list_and_a_stale_one_are_found() {
    let other = ("other", 11, state("o", "z"));
    let list = |begun, revision, items: &[_]| {
        let call = Call::List { fresh: true };
        with(Operation {
            key: String::new(),
            ..asked(begun, begun + 5, call, Outcome::Listed(revision, listed(items)))
        })
    };
    assert_eq!(list(31, 12, &[(K, 12, state("u", "b")), other.clone()]), []);
    assert_eq!(list(31, 12, &[(K, 10, state("u", "a")), other.clone()]), [Kind::TornList]);
    assert_eq!(list(31, 12, &[(K, 12, state("u", "b"))]), [Kind::TornList], "one is missing");
    assert_eq!(list(31, 11, &[(K, 10, state("u", "a")), other]), [Kind::StaleRead]);
}

/// The kinds of violations of a watch of all keys that saw `k`'s changes so.
fn watch(changes: &[(Change, Revision)]) -> Vec<Kind> {
    let mut seen = vec![Seen::Listed(11, listed(&[(K, 10, state("u", "a")), ("other", 11, state("o", "z"))]))];
    for (change, revision) in changes {
        let state = chain().made_at(K, *revision).flatten().cloned().unwrap_or_default();
        seen.push(Seen::Event(*change, K.to_owned(), *revision, state));
    }
    let watches = vec![Watched { key: None, seen }];
    let history = History { watches, chain: chain(), until: 16, ..History::default() };
    history.check().iter().map(|violation| violation.kind).collect()
}

#[test]
fn a_missing_a_repeated_and_a_reordered_event_are_found() {
    use Change::{Added, Deleted, Modified};
    assert_eq!(watch(&[(Modified, 12), (Deleted, 14), (Added, 16)]), []);
    assert_eq!(watch(&[(Modified, 12), (Added, 16)]), [Kind::MissedEvent]);
    assert_eq!(watch(&[(Modified, 12), (Deleted, 14)]), [Kind::MissedEvent], "the last one");
    assert_eq!(watch(&[(Modified, 12), (Modified, 12), (Deleted, 14), (Added, 16)]), [Kind::RepeatedEvent]);
    assert!(watch(&[(Deleted, 14), (Modified, 12), (Added, 16)]).iter().all(|kind| *kind == Kind::ReorderedEvent));
    assert!(!watch(&[(Deleted, 14), (Modified, 12), (Added, 16)]).is_empty());
    assert_eq!(watch(&[(Added, 12), (Deleted, 14), (Added, 16)]), [Kind::WrongEvent]);
    assert!(watch(&[(Modified, 12), (Modified, 13), (Deleted, 14), (Added, 16)]).contains(&Kind::WrongEvent));
}

#[test]
fn a_bookmark_says_that_nothing_is_missing() {
    let seen = vec![Seen::Listed(11, listed(&[(K, 10, state("u", "a"))])), Seen::Bookmark(13)];
    let watches = vec![Watched { key: Some(K.to_owned()), seen }];
    let history = History { watches, chain: chain(), until: 13, ..History::default() };
    assert_eq!(history.check().iter().map(|violation| violation.kind).collect::<Vec<_>>(), [Kind::MissedEvent]);
}

#[test]
fn a_list_in_between_excuses_what_it_shows() {
    let seen = vec![
        Seen::Listed(11, listed(&[(K, 10, state("u", "a"))])),
        Seen::Listed(16, listed(&[(K, 16, state("v", "c"))])),
    ];
    let watches = vec![Watched { key: Some(K.to_owned()), seen }];
    let history = History { watches, chain: chain(), until: 16, ..History::default() };
    assert!(history.check().is_empty());
}

#[test]
fn a_stale_leaders_write_is_found() {
    let terms = vec![Term { revision: 5, server: 0 }, Term { revision: 20, server: 1 }];
    let by = |revision, server| LeaderWrite { revision, server, what: "status of net".to_owned() };
    let found = |leader_writes| {
        let history = History { terms: terms.clone(), leader_writes, ..History::default() };
        history.check().iter().map(|violation| violation.kind).collect::<Vec<_>>()
    };
    assert_eq!(found(vec![by(6, 0), by(19, 0), by(21, 1)]), []);
    assert_eq!(found(vec![by(21, 0)]), [Kind::StaleLeader]);
    assert_eq!(found(vec![by(4, 0)]), [Kind::StaleLeader], "before any term");
}

#[test]
fn the_history_of_a_key_names_versions_and_requests() {
    let history = History { operations: truth(), chain: chain(), ..History::default() };
    let text = history.of(K);
    assert!(text.contains("etcd 14: None") && text.contains("client 0 at server 0"), "{text}");
    assert_eq!(text.lines().count(), 4 + 4);
}
