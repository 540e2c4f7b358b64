//! Laws that hold for any documents, tried on random ones. A failure prints its case and the seed that repeats it.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::super::definition::Definition;
use super::compare::compare;
use super::*;

fn kind() -> Definition {
    let text = json!({"type": "string"});
    let items = json!({"type": "object", "required": ["name"], "properties": {"name": text, "x": text, "y": text}});
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "a": text, "b": text, "atomic": {"type": "array", "items": text},
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": text},
        "map": {"type": "object", "additionalProperties": text},
        "list": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "items": items},
    }}}}});
    let document = json!({"metadata": {"name": "things.example.dev"}, "spec": {
        "group": "example.dev", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing", "listKind": "ThingList"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}]}});
    Definition::from_crd(&document).unwrap()
}

/// One of few words, so that managers meet.
fn word() -> impl Strategy<Value = Value> {
    prop::sample::select(vec!["p", "q", "r"]).prop_map(|word| json!(word))
}

fn names() -> impl Strategy<Value = Vec<&'static str>> {
    prop::sample::subsequence(vec!["k1", "k2", "k3"], 0..=3).prop_shuffle()
}

fn item(name: &'static str) -> impl Strategy<Value = Value> {
    (prop::option::of(word()), prop::option::of(word())).prop_map(move |(x, y)| {
        let mut item = json!({"name": name});
        x.into_iter().for_each(|x| item["x"] = x);
        y.into_iter().for_each(|y| item["y"] = y);
        item
    })
}

prop_compose! {
    fn list()(names in names())(items in names.into_iter().map(item).collect::<Vec<_>>()) -> Value {
        Value::Array(items)
    }
}

prop_compose! {
    fn spec()(
        a in prop::option::of(word()),
        b in prop::option::of(word()),
        atomic in prop::option::of(prop::collection::vec(word(), 0..3)),
        set in prop::option::of(names()),
        map in prop::option::of(prop::collection::btree_map("k[12]", word(), 0..3)),
        list in prop::option::of(list()),
    ) -> Value {
        let fields = [
            ("a", a), ("b", b), ("atomic", atomic.map(Value::Array)), ("set", set.map(|names| json!(names))),
            ("map", map.map(|map| json!(map))), ("list", list),
        ];
        let spec: Map<String, Value> =
            fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
        json!({"apiVersion": "example.dev/v1", "kind": "Thing", "metadata": {"name": "n"}, "spec": spec})
    }
}

fn set() -> impl Strategy<Value = Set> {
    let step = prop::sample::select(vec!["f:a", "f:b", "k:{\"name\":\"x\"}", "v:\"y\"", "i:1"]);
    let leaf = Just(Set::leaf());
    leaf.prop_recursive(4, 24, 4, move |inner| {
        (any::<bool>(), prop::collection::vec((step.clone(), inner), 1..4)).prop_map(|(owned, below)| {
            let mut set = Set::of(owned);
            below.into_iter().for_each(|(step, below)| set.insert(step, below));
            set
        })
    })
}

type State = (Value, Managed);

fn put(
    kind: &Definition,
    state: Option<&State>,
    manager: &str,
    config: &Value,
    force: bool,
) -> Result<State, Conflicts> {
    let wish = Wish {
        definition: kind,
        version: &kind.versions[0],
        config,
        writer: Writer { manager, api_version: "example.dev/v1", subresource: "", now: "2026-01-01T00:00:00Z" },
        force,
        yielding: None,
    };
    apply(state.map(|state| &state.0), state.map(|state| state.1.clone()).unwrap_or_default(), &wish)
}

/// What is in the object of what the configuration says.
fn holds(kind: &Definition, object: &Value, config: &Value) -> bool {
    let mut laid = object.clone();
    super::merge::merge(&kind.versions[0].schema.root, &mut laid, config);
    let root = &kind.versions[0].schema.root;
    compare(root, object, &laid).is_empty()
}

proptest! {
    #[test]
    fn sets_obey_the_laws_of_sets(a in set(), b in set(), c in set()) {
        let union = |a: &Set, b: &Set| { let mut a = a.clone(); a.add(b.clone()); a };
        let minus = |a: &Set, b: &Set| { let mut a = a.clone(); a.remove(b); a };
        prop_assert_eq!(union(&a, &b), union(&b, &a));
        prop_assert_eq!(union(&union(&a, &b), &c), union(&a, &union(&b, &c)));
        prop_assert_eq!(a.intersection(&b), b.intersection(&a));
        prop_assert_eq!(a.intersection(&union(&b, &c)), union(&a.intersection(&b), &a.intersection(&c)));
        prop_assert_eq!(minus(&a, &b), minus(&a, &a.intersection(&b)));
        prop_assert_eq!(union(&minus(&a, &b), &a.intersection(&b)), a.clone());
        prop_assert!(minus(&a, &b).intersection(&b).is_empty());
        prop_assert!(union(&a, &b).covers(&b) && a.covers(&a.intersection(&b)));
        prop_assert_eq!(a.covers(&b), minus(&b, &a).is_empty());
        prop_assert_eq!(union(&a, &b).paths().len() + a.intersection(&b).paths().len(), a.paths().len() + b.paths().len());
    }

    #[test]
    fn a_set_survives_being_written(mut a in set()) {
        a.owned = false;
        prop_assume!(!a.is_empty());
        let mut read: Set = serde_json::from_str(&serde_json::to_string(&a).unwrap()).unwrap();
        read.owned = false;
        prop_assert_eq!(read.clone().canonical().unwrap(), a.clone());
        prop_assert_eq!(read, a);
    }

    #[test]
    fn equal_states_do_not_differ_and_a_difference_names_what_to_own(old in spec(), new in spec()) {
        let kind = kind();
        let root = &kind.versions[0].schema.root;
        prop_assert!(compare(root, &old, &old).is_empty());
        let there = compare(root, &old, &new);
        let back = compare(root, &new, &old);
        prop_assert!(there.changed.covers(&back.removed), "what goes on the way back came on the way there");
        prop_assert!(there.removed.intersection(&there.changed).is_empty());
    }

    #[test]
    fn applying_twice_is_applying_once(first in spec(), other in spec(), second in spec()) {
        let kind = kind();
        let state = put(&kind, None, "one", &first, false).unwrap();
        let state = put(&kind, Some(&state), "two", &other, true).unwrap();
        let once = put(&kind, Some(&state), "one", &second, true).unwrap();
        let twice = put(&kind, Some(&once), "one", &second, false).unwrap();
        prop_assert_eq!(&once.0, &twice.0);
        prop_assert_eq!(&once.1, &twice.1);
        prop_assert!(holds(&kind, &once.0, &second), "{} holds {}", once.0, second);
    }

    #[test]
    fn what_others_own_outlives_anyones_leaving(first in spec(), other in spec()) {
        let kind = kind();
        let nothing = json!({"apiVersion": "example.dev/v1", "kind": "Thing", "metadata": {"name": "n"}});
        let state = put(&kind, None, "one", &first, false).unwrap();
        let both = put(&kind, Some(&state), "two", &other, true).unwrap();
        let left = put(&kind, Some(&both), "one", &nothing, false).unwrap();
        prop_assert!(holds(&kind, &left.0, &other), "{} holds {}", left.0, other);
        let gone = put(&kind, Some(&left), "two", &nothing, false).unwrap();
        prop_assert!(gone.1.entries.is_empty());
        prop_assert_eq!(spoken_of(&kind.versions[0].schema.root, &gone.0).paths().len(), 3, "{}", gone.0);
    }

    #[test]
    fn an_apply_is_refused_exactly_when_it_would_change_anothers_field(first in spec(), other in spec()) {
        let kind = kind();
        let state = put(&kind, None, "one", &first, false).unwrap();
        let forced = put(&kind, Some(&state), "two", &other, true).unwrap();
        let lost = spoken_of(&kind.versions[0].schema.root, &first).paths().len() - 3
            - forced.1.entries.iter().filter(|e| e.manager == "one").map(|e| e.fields.paths().len()).sum::<usize>();
        match put(&kind, Some(&state), "two", &other, false) {
            Ok(free) => {
                prop_assert_eq!(&free.0, &forced.0);
                prop_assert_eq!(lost, 0);
                prop_assert!(holds(&kind, &free.0, &first));
            }
            Err(conflicts) => prop_assert_eq!(conflicts.0.len(), lost),
        }
    }
}
