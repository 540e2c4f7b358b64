//! Loops with two variables.

use serde_json::json;

use super::{kind, properties, said};

const LOOPS: &[&str] = &[
    "self.list.all(i, v, i < 2 && v.size() == 1) && !self.list.all(i, v, i == 0)",
    "[].all(i, v, false) && !{}.exists(k, v, true)",
    "self.list.exists(i, v, i == 1 && v == 'b') && !self.list.exists(i, v, i == 0 && v == 'b')",
    "self.list.existsOne(i, v, v == 'a') && !self.list.exists_one(i, v, v.size() == 1)",
    "self.map.all(k, v, k != v) && self.map.exists(k, v, k == 'x' && v == '1')",
    "self.list.transformList(i, v, string(i) + v) == ['0a', '1b']",
    "self.list.transformList(i, v, i > 0, v) == ['b']",
    "self.map.transformList(k, v, k + v) == ['x1', 'y2']",
    "self.map.transformMap(k, v, v + k) == {'x': '1x', 'y': '2y'}",
    "self.list.transformMap(i, v, v == 'b', v) == {1: 'b'}",
    "self.list.transformMapEntry(i, v, {v: i}) == {'a': 0, 'b': 1}",
    "self.map.transformMapEntry(k, v, k == 'y', {v: k}) == {'2': 'y'}",
    "self.objects.all(i, a, self.objects.all(j, b, i == j || a.name != b.name))",
    "self.objects.transformList(i, o, o.v + i) == [1, 3]",
    "[[1, 2], [3]].all(i, row, row.all(j, n, n == 2 * i + j + 1))",
    // An error in one element does not count where another decides.
    "[0, 1].exists(i, v, 1 / v == 1) && !['x', '1'].all(i, v, int(v) == 2)",
];

#[test]
fn indexes_keys_and_values_are_gone_through() {
    let spec = json!({"list": ["a", "b"], "map": {"x": "1", "y": "2"}, "objects": [{"name": "x", "v": 1}, {"name": "y", "v": 2}]});
    for rule in LOOPS {
        assert_eq!(said(json!({"rule": rule}), spec.clone(), None), [""; 0], "{rule}");
    }
}

#[test]
fn what_cannot_be_meant_is_refused_with_the_definition() {
    for (rule, why) in [
        ("self.list.all(i, i, true)", "duplicate variable name: i"),
        ("self.list.all(i, self.n, true)", "argument must be a simple name"),
        ("self.objects.all(i, o, o.nme == 'x')", "undefined field 'nme'"),
        ("self.objects.all(i, o, p.name == 'x')", "undeclared reference to 'p'"),
        ("self.list.all(i, v, true) && v == 'x'", "undeclared reference to 'v'"),
    ] {
        let refused = kind(properties(), json!([{"rule": rule}])).expect_err(rule);
        assert!(refused.iter().any(|error| error.contains(why)), "{rule}: {refused:?}");
    }
}

#[test]
fn what_goes_wrong_in_an_object_is_said() {
    let spec = json!({"list": ["a", "a"], "n": 3});
    for (rule, why) in [
        ("self.list.transformMapEntry(i, v, {v: i}).size() == 1", "key already exists"),
        ("self.list.transformMapEntry(i, v, i).size() == 1", "an entry is no map"),
        ("dyn(self.n).all(i, v, true)", "neither a list nor a map"),
    ] {
        let refused = said(json!({"rule": rule}), spec.clone(), None);
        assert!(refused.len() == 1 && refused[0].contains(why), "{rule}: {refused:?}");
    }
}

#[test]
fn nested_loops_are_paid_for() {
    let many: Vec<String> = (0..2000).map(|n| n.to_string()).collect();
    for rule in [
        "self.list.all(a, self.list.all(b, a != b || a == b))",
        "self.list.all(i, a, self.list.all(j, b, i == j || a != b))",
        "self.list.transformList(i, a, self.list.transformMap(j, b, a + b)).size() == 2000",
    ] {
        let refused = said(json!({"rule": rule}), json!({"list": many}), None);
        assert!(refused.len() == 1 && refused[0].contains("running out of cost budget"), "{rule}: {refused:?}");
    }
}
