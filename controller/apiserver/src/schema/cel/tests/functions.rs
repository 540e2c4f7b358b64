//! Kubernetes' libraries of functions, with the examples of their own documentation and what lies at their edges.

use serde_json::json;

use super::{kind, properties, said};

fn holds(rules: &[&str]) {
    for rule in rules {
        assert_eq!(said(json!({"rule": rule}), json!({"s": "x", "n": 3, "list": ["a", "b"]}), None), [""; 0], "{rule}");
    }
}

#[test]
fn lists_are_compared_as_sets() {
    holds(&[
        "sets.contains([], []) && !sets.contains([], [1]) && sets.contains([1, 2, 3, 4], [2, 3])",
        "sets.contains(self.list, ['b', 'b']) && !sets.contains(self.list, ['c'])",
        "sets.equivalent([], []) && sets.equivalent([1], [1, 1]) && !sets.equivalent([1, 2], [1])",
        "sets.equivalent(self.list, ['b', 'a', 'a'])",
        "!sets.intersects([1], []) && sets.intersects([1], [1, 2]) && sets.intersects([[1], [2, 3]], [[1, 2], [2, 3]])",
    ]);
}

#[test]
fn urls_are_taken_apart_as_go_does() {
    holds(&[
        "url('https://example.com:80/').getHost() == 'example.com:80' && url('https://example.com/').getHost() == 'example.com'",
        "url('https://[::1]:80/').getHost() == '[::1]:80' && url('https://[::1]:80/').getHostname() == '::1'",
        "url('https://example.com:80/').getHostname() == 'example.com' && url('/path').getHostname() == ''",
        "url('https://example.com:80/').getPort() == '80' && url('https://example.com/').getPort() == ''",
        "url('HTTPS://u:p@example.com/a').getScheme() == 'https' && url('/path').getScheme() == ''",
        "url('https://example.com').getEscapedPath() == '' && url('https://example.com/').getEscapedPath() == '/'",
        "url('https://example.com/with space').getEscapedPath() == '/with%20space'",
        "url('/a%20b/c?d').getEscapedPath() == '/a%20b/c'",
        "url('https://example.com/?k1=a&k2=b&k1=c+d').getQuery() == {'k1': ['a', 'c d'], 'k2': ['b']}",
        "url('https://example.com/path').getQuery() == {} && url('https://example.com/?k=%zz').getQuery() == {}",
        "url('mailto:a@b').getScheme() == 'mailto' && url('mailto:a@b').getHost() == ''",
        "isURL('https://user:pass@example.com:80/path?query=val#fragment') && isURL('/absolute-path')",
        "!isURL('https://a:b:c/') && !isURL('../relative-path') && !isURL('') && !isURL('https://x/%zz') && !isURL('a b://x')",
        "!isURL('https://a b/') && isURL('https://x:/') && !isURL('https://x:y/') && !isURL('https://[::1/') && !isURL(':x')",
        "url('https://a/') == url('https://a/') && url('https://a/') != url('https://b/')",
    ]);
}

#[test]
fn versions_are_ordered() {
    holds(&[
        "isSemver('1.0.0') && !isSemver('v1.0') && !isSemver('1.0') && isSemver('v1.0', true) && !isSemver('hello', true)",
        "semver('1.2.3').major() == 1 && semver('1.2.3').minor() == 2 && semver('1.2.3').patch() == 3",
        "semver('1.2.3').isLessThan(semver('1.10.0')) && semver('1.0.0').isGreaterThan(semver('1.0.0-rc.1'))",
        "semver('1.2.3').compareTo(semver('1.2.3')) == 0 && semver('1.2.3').compareTo(semver('2.0.0')) == -1",
        "semver('1.2.3+b1') == semver('1.2.3+b2') && semver('1.2.3-a') != semver('1.2.3-b')",
        "semver('v01.01', true) == semver('1.1.0') && semver('0', true) == semver('0.0.0') && !isSemver('1-rc', true)",
    ]);
}

#[test]
fn names_are_checked_by_formats() {
    holds(&[
        "!format.dns1123Label().validate('my-label-name').hasValue()",
        "format.dns1123Label().validate('contains a space').hasValue()",
        "format.dns1123Label().validate('A').value()[0].startsWith('a lowercase RFC 1123 label must consist of')",
        "format.named('dns1123Label').value() == format.dns1123Label() && !format.named('unknown').hasValue()",
        "!format.dns1123Subdomain().validate('a.b').hasValue() && format.dns1123Label().validate('a.b').hasValue()",
        "format.dns1035Label().validate('1a').hasValue() && !format.dns1035Label().validate('a1').hasValue()",
        "format.dns1123Label().validate('ab-').hasValue() && !format.dns1123LabelPrefix().validate('ab-').hasValue()",
        "!format.dns1035LabelPrefix().validate('a-').hasValue() && format.dns1123SubdomainPrefix().validate('-').hasValue()",
        "!format.qualifiedName().validate('apps.example.com/Name').hasValue() && format.qualifiedName().validate('a/b/c').hasValue()",
        "!format.labelValue().validate('').hasValue() && format.labelValue().validate('-').hasValue()",
        "format.uuid().validate('x').value() == ['does not match the UUID format'] && format.date().validate('x').hasValue()",
        "!format.datetime().validate('2026-01-02T03:04:05Z').hasValue() && !format.byte().validate('YQ==').hasValue()",
        "!format.uri().validate('http://example.com').hasValue() && format.uri().validate('no uri').hasValue()",
    ]);
}

#[test]
fn values_are_written_into_texts() {
    holds(&[
        "'%s has %d of %s'.format([self.s, self.n, self.list]) == 'x has 3 of [a, b]'",
        "'100%% %s %s %s'.format([true, null, 1.5]) == '100% true null 1.5' && ''.format([]) == ''",
        "'%.2f %f %.3e %e'.format([3.14159, 2, 1052.032911275, 0.5]) == '3.14 2.000000 1.052e+03 5.000000e-01'",
        "'%x %X %b %o %x'.format([255, 255, 5, 8, 'hi']) == 'ff FF 101 10 6869' && '%b'.format([true]) == '1'",
        "'%x %d'.format([-10, -3]) == '-a -3' && '%s'.format([{'b': 1, 'a': [2]}]) == '{a: [2], b: 1}'",
        "'%s %s'.format([timestamp('2026-01-02T03:04:05Z'), duration('90s')]) == '2026-01-02T03:04:05Z 90s'",
    ]);
    for (rule, text) in [
        ("'%d'.format(['x']) == ''", "%d does not take a value of type string"),
        ("'%s %s'.format([1]) == ''", "index out of range"),
        ("'%q'.format([1]) == ''", "unrecognized formatting clause"),
        ("'%'.format([1]) == ''", "unexpected end of string"),
        ("'%.99999f'.format([1.0]) == ''", "error while parsing precision"),
    ] {
        let errors = said(json!({"rule": rule}), json!({}), None);
        assert!(errors.len() == 1 && errors[0].contains(text), "{rule}: {errors:?}");
    }
}

#[test]
fn a_message_is_composed() {
    let rule = json!({"rule": "self.n > 5", "messageExpression": "'%d is not more than %d'.format([self.n, 5])"});
    assert_eq!(said(rule, json!({"n": 3}), None), ["spec: Invalid value: \"object\": 3 is not more than 5"]);
}

#[test]
fn namespaces_of_functions_have_no_others() {
    for rule in [
        "sets.of([1], [2])",
        "format.contains([], [])",
        "optional.intersects([], [])",
        "format.nope() == 1",
        "sets([1])",
    ] {
        let errors = kind(properties(), json!([{"rule": rule}])).expect_err("refused");
        assert!(errors[0].contains("undeclared reference to"), "{rule}: {errors:?}");
    }
}

#[test]
fn what_is_long_is_paid_for() {
    let list: Vec<String> = (0..2000).map(|n| n.to_string()).collect();
    let long = "%41".repeat(60_000);
    for rule in [
        "self.list.all(a, sets.contains(self.list, self.list))",
        "self.list.all(a, sets.equivalent(self.list, self.list))",
        "self.list.all(a, isURL('/' + self.s))",
        "self.list.all(a, format.dns1123Label().validate(self.s).hasValue())",
        "self.list.all(a, !isSemver(self.s))",
        "self.list.all(a, '%s'.format([self.s]) != '')",
        "self.list.all(a, '%s'.format([self.list]) != '')",
        "self.list.map(a, '%.900f'.format([1.0])).map(a, a + a).map(a, a + a).map(a, a + a).all(a, a + a + a != '')",
    ] {
        // What is not cut off takes longer than a test may.
        let errors = said(json!({"rule": rule}), json!({"list": list, "s": long}), None);
        assert!(errors[0].contains("running out of cost budget"), "{rule}: {errors:?}");
    }
}
