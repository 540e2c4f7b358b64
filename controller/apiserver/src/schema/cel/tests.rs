mod functions;
mod loops;

use serde_json::{Value, json};

use crate::schema::Definition;

/// A kind whose `spec` has the given properties and rules.
fn kind(properties: Value, rules: Value) -> Result<Definition, Vec<String>> {
    let spec = json!({"type": "object", "properties": properties, "x-kubernetes-validations": rules});
    let crd = json!({
        "metadata": {"name": "things.test.dev"},
        "spec": {
            "group": "test.dev", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "properties": {"spec": spec},
            }}}],
        },
    });
    Definition::from_crd(&crd).map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

fn properties() -> Value {
    json!({
        "n": {"type": "integer"}, "f": {"type": "number"}, "s": {"type": "string"}, "a-b": {"type": "string"},
        "flag": {"type": "boolean"}, "when": {"type": "string", "format": "date-time"},
        "list": {"type": "array", "items": {"type": "string"}},
        "objects": {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string"}, "v": {"type": "integer"}}}},
        "map": {"type": "object", "additionalProperties": {"type": "string"}},
        "any": {"x-kubernetes-int-or-string": true},
    })
}

/// What one rule says about a spec (and an old one).
fn said(rule: Value, spec: Value, old: Option<Value>) -> Vec<String> {
    let definition = kind(properties(), json!([rule])).expect("rule compiles");
    let wrap =
        |spec: Value| json!({"apiVersion": "test.dev/v1", "kind": "Thing", "metadata": {"name": "x"}, "spec": spec});
    let old = old.map(wrap);
    definition.storage().schema.validate(&wrap(spec), old.as_ref()).iter().map(ToString::to_string).collect()
}

#[test]
fn rules_hold_over_every_type() {
    let spec = json!({
        "n": 3, "f": 2, "s": "héllo", "a-b": "x", "flag": true, "when": "2024-05-01T00:00:00Z", "list": ["a", "b"],
        "objects": [{"name": "x", "v": 1}, {"name": "y", "v": 2}], "map": {"k.1": "v"}, "any": "50%",
    });
    for rule in [
        "self.n == 3 && self.n + 1 > 3 && self.n % 2 == 1",
        "self.f == 2.0 && self.f / 4.0 == 0.5",
        "self.s.size() == 5 && self.s.startsWith('h') && self.s.endsWith('o') && self.s.contains('llo')",
        "self.s.matches('^h.+o$') && !self.s.matches('^x')",
        "self.s + '!' == 'héllo!'",
        "self.a__dash__b == 'x' && has(self.a__dash__b)",
        "self.flag && has(self.s) && !(self.n > 5 || false)",
        "self.when > timestamp('2024-01-01T00:00:00Z') && self.when.getFullYear() == 2024",
        "self.list.size() == 2 && 'a' in self.list && self.list[1] == 'b' && self.list == ['a', 'b']",
        "self.list.all(x, x.size() == 1) && self.list.exists(x, x == 'b') && self.list.exists_one(x, x == 'a')",
        "self.list.map(x, x + x) == ['aa', 'bb'] && self.list.filter(x, x != 'a') == ['b']",
        "self.list + ['c'] == ['a', 'b', 'c'] && self.list.join(',') == 'a,b'",
        "self.objects.all(o, o.v > 0 && o.name.size() == 1) && self.objects.map(o, o.v).sum() == 3",
        "self.objects.all(x, self.objects.exists_one(y, x.name == y.name))",
        "self.objects[0] == {'name': 'x', 'v': 1}",
        "'k.1' in self.map && self.map['k.1'] == 'v' && self.map.all(k, k.startsWith('k'))",
        "type(self.any) == string ? self.any == '50%' : self.any == 50",
        "'10.0.0.0/8'.split('/')[1] == '8' && 'AbC'.lowerAscii() == 'abc' && ' x '.trim() == 'x'",
        "'a,b'.replace(',', ';') == 'a;b' && 'abc'.substring(1) == 'bc' && 'abc'.indexOf('c') == 2",
        "isIP('10.0.0.1') && !isIP('x') && ip('fe80::1').family() == 6 && isCIDR('10.0.0.0/8')",
        "cidr('10.1.0.0/16').containsIP('10.1.2.3') && !cidr('10.1.0.0/16').containsIP(ip('10.2.0.1'))",
        "cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16') && cidr('10.1.2.3/16').masked() == cidr('10.1.0.0/16')",
        "cidr('10.0.0.0/8').prefixLength() == 8 && string(cidr('10.0.0.0/8').ip()) == '10.0.0.0'",
        "quantity('1Gi').isGreaterThan(quantity('1G')) && quantity('1500m').compareTo(quantity('1.5')) == 0",
        "isQuantity('10Ki') && quantity('2k').asInteger() == 2000 && !isQuantity('x')",
        "[3, 1, 2].max() == 3 && [1, 2].isSorted() && 'a1b22'.findAll('[0-9]+') == ['1', '22']",
        "duration('90s') > duration('1m') && int('5') == 5 && string(self.n) == '3'",
        "self.?s.orValue('none') == 'héllo' && optional.none().orValue(1) == 1",
    ] {
        assert_eq!(said(json!({"rule": rule}), spec.clone(), None), [""; 0], "{rule}");
    }
}

#[test]
fn refusals_read_as_the_official_server_words_them() {
    let spec = json!({"n": 3, "s": "x"});
    for (rule, text) in [
        (json!({"rule": "self.n > 5"}), "spec: Invalid value: \"object\": failed rule: self.n > 5"),
        (json!({"rule": "self.n > 5", "message": "too few"}), "spec: Invalid value: \"object\": too few"),
        (
            json!({"rule": "self.n > 5", "messageExpression": "'n is ' + string(self.n)", "message": "unused"}),
            "spec: Invalid value: \"object\": n is 3",
        ),
        (
            json!({"rule": "self.n > 5", "messageExpression": "self.s + self.f", "message": "kept"}),
            "spec: Invalid value: \"object\": kept",
        ),
        (json!({"rule": "self.n > 5", "reason": "FieldValueForbidden", "message": "no"}), "spec: Forbidden: no"),
        (json!({"rule": "self.n > 5", "reason": "FieldValueRequired", "message": "no"}), "spec: Required value: no"),
        (json!({"rule": "self.n > 5", "fieldPath": ".n", "message": "no"}), "spec.n: Invalid value: \"object\": no"),
        (
            json!({"rule": "self.f > 5.0"}),
            "spec: Invalid value: \"object\": no such key: f evaluating rule: self.f > 5.0",
        ),
        (
            json!({"rule": "1 / (self.n - 3) == 1"}),
            "spec: Invalid value: \"object\": division by zero evaluating rule: 1 / (self.n - 3) == 1",
        ),
    ] {
        assert_eq!(said(rule, spec.clone(), None), [text]);
    }
}

#[test]
fn transition_rules_compare_with_the_stored_object() {
    let fixed = json!({"rule": "self.s == oldSelf.s", "message": "field is immutable"});
    assert_eq!(said(fixed.clone(), json!({"s": "a"}), None), [""; 0]);
    assert_eq!(said(fixed.clone(), json!({"s": "a"}), Some(json!({"s": "a"}))), [""; 0]);
    assert_eq!(
        said(fixed, json!({"s": "b"}), Some(json!({"s": "a"}))),
        ["spec: Invalid value: \"object\": field is immutable"]
    );
    let whole = json!({"rule": "self == oldSelf"});
    assert_eq!(said(whole.clone(), json!({"s": "a", "list": ["x"]}), Some(json!({"s": "a", "list": ["x"]}))), [""; 0]);
    assert_eq!(said(whole, json!({"list": ["y"]}), Some(json!({"list": ["x"]}))).len(), 1);
    let optional =
        json!({"rule": "oldSelf.hasValue() ? self.n >= oldSelf.value().n : self.n == 0", "optionalOldSelf": true});
    assert_eq!(said(optional.clone(), json!({"n": 0}), None), [""; 0]);
    assert_eq!(said(optional.clone(), json!({"n": 1}), None).len(), 1);
    assert_eq!(said(optional.clone(), json!({"n": 2}), Some(json!({"n": 1}))), [""; 0]);
    assert_eq!(said(optional, json!({"n": 1}), Some(json!({"n": 2}))).len(), 1);
}

#[test]
fn mistakes_in_rules_are_found_when_the_crd_arrives() {
    for (rule, text) in [
        (json!({"rule": "self.nope == 1"}), "undefined field 'nope'"),
        (json!({"rule": "self.objects.all(o, o.nope == 1)"}), "undefined field 'nope'"),
        (json!({"rule": "other == 1"}), "undeclared reference to 'other'"),
        (json!({"rule": "frobnicate(self.n)"}), "undeclared reference to 'frobnicate'"),
        (json!({"rule": "self.n =="}), "compilation failed"),
        (json!({"rule": ""}), "must not be empty"),
        (json!({"rule": "self.n == 1", "reason": "Odd"}), "unsupported reason"),
        (json!({"rule": "self.n == 1", "fieldPath": "n"}), "fieldPath must be"),
        (json!({"rule": "self.n == 1", "optionalOldSelf": true}), "may not be set if oldSelf is not used"),
        (json!({"rule": "self.n ==\n 1"}), "message must be specified if rule contains line breaks"),
        (json!({"rule": format!("{}true{}", "(".repeat(5000), ")".repeat(5000))}), "compilation failed"),
        (json!({"rule": format!("{}1 == 1", "1 + ".repeat(1000))}), "nested deeper than"),
        (json!({"rule": format!("self.s == '{}'", "x".repeat(20_000))}), "longer than"),
    ] {
        let errors = kind(properties(), json!([rule])).expect_err("refused");
        assert!(errors[0].contains(text), "{rule}: {errors:?}");
        assert!(
            errors[0].starts_with("spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0]."),
            "{errors:?}"
        );
    }
}

#[test]
fn no_nesting_overflows_the_stack() {
    let nested = |open: &str, inner: &str, close: &str, times: usize| {
        format!("{}{inner}{} == true", open.repeat(times), close.repeat(times))
    };
    let mut refused = 0;
    for times in [90, 150, 2000] {
        for source in [
            nested("(", "true", ")", times),
            nested("!", "true", "", times),
            nested("-", "1", "", times),
            nested("[", "1", "]", times),
            nested("{1: ", "1", "}", times),
            nested("true ? ", "true", " : false", times),
            nested("1 + ", "1", "", times),
            nested("self.s", "", ".trim()", times),
            nested("self.list", "", ".map(x, x)", times),
            nested("self.list.all(x, ", "true", ")", times),
            nested("size(", "self.s", ")", times),
            nested("self", "", ".a", times),
        ] {
            // Refused, or compiled and run; whoever gets here again is still alive.
            match kind(properties(), json!([{"rule": source}])) {
                Err(_) => refused += 1,
                Ok(definition) => {
                    let object = json!({"apiVersion": "test.dev/v1", "kind": "Thing", "metadata": {"name": "x"},
                        "spec": {"s": "x", "list": ["a"]}});
                    definition.storage().schema.validate(&object, None);
                }
            }
        }
    }
    assert!((10..30).contains(&refused), "{refused} of 36 were refused");
}

#[test]
fn hostile_rules_are_cut_off() {
    let list: Vec<String> = (0..2000).map(|n| n.to_string()).collect();
    let long = "x".repeat(200_000);
    let doubling = format!("['x']{}.size() == 1", ".map(x, x + x)".repeat(60));
    let squaring = "[self.s].map(x, x.replace('', x)).map(x, x.replace('', x)).map(x, x.replace('', x)).size() == 1";
    for rule in [
        "self.list.all(a, self.list.all(b, self.list.all(c, a + b + c != '')))",
        "self.list.all(a, self.list.all(b, self.list.exists(c, c == b)))",
        "self.list.all(a, self.s.split('').size() > 0)",
        "self.list.exists(a, self.s == self.s + a)",
        doubling.as_str(),
        squaring,
    ] {
        // What is not cut off does not end within the time that a test has.
        let errors = said(json!({"rule": rule}), json!({"list": list, "s": long}), None);
        assert!(errors[0].contains("running out of cost budget"), "{rule}: {errors:?}");
    }
}
