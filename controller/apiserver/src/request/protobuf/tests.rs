use proptest::prelude::*;
use serde_json::json;

use super::*;

/// A field of bytes.
fn part(tag: u8, content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    let mut out = vec![tag << 3 | 2];
    let mut length = content.len();
    while length > 0x7f {
        out.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    out.push(u8::try_from(length).unwrap());
    out.extend_from_slice(content);
    out
}

fn number(tag: u8, value: u8) -> Vec<u8> {
    vec![tag << 3, value]
}

fn body(api_version: &str, kind: &str, parts: &[Vec<u8>]) -> Bytes {
    let what = [part(1, api_version), part(2, kind)].concat();
    [MAGIC, &part(1, what), &part(2, parts.concat())].concat().into()
}

#[test]
fn a_secret_is_read_as_its_json() {
    let entry = [part(1, "k"), part(2, b"v")].concat();
    // As Go writes it: unset texts are there and empty, and so is the time of creation.
    let metadata = [part(1, "s"), part(2, ""), part(8, "")].concat();
    let secret = body("v1", "Secret", &[part(1, metadata), part(2, entry), part(3, "Opaque"), number(5, 0)]);
    assert_eq!(
        decode(&secret).unwrap(),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"k": "dg=="}, "type": "Opaque",
            "immutable": false})
    );
}

#[test]
fn access_rules_are_read_as_their_json() {
    let group = "rbac.authorization.k8s.io/v1";
    let rule = [part(1, "get"), part(1, "list"), part(2, ""), part(3, "secrets")].concat();
    let role = body(group, "Role", &[part(1, part(1, "r")), part(2, rule)]);
    assert_eq!(
        decode(&role).unwrap(),
        json!({"apiVersion": group, "kind": "Role", "metadata": {"name": "r"},
            "rules": [{"verbs": ["get", "list"], "apiGroups": [""], "resources": ["secrets"]}]})
    );
    let label = [part(1, "a"), part(2, "b")].concat();
    let everything = part(1, "");
    let role = body(group, "ClusterRole", &[part(3, [part(1, part(1, label)), everything].concat())]);
    assert_eq!(
        decode(&role).unwrap()["aggregationRule"],
        json!({"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}, {}]})
    );
    let subject = [part(1, "User"), part(2, "rbac.authorization.k8s.io"), part(3, "eve"), part(4, "")].concat();
    let to = [part(1, "rbac.authorization.k8s.io"), part(2, "Role"), part(3, "r")].concat();
    let binding = body(group, "RoleBinding", &[part(1, part(1, "b")), part(2, subject), part(3, to)]);
    let read = decode(&binding).unwrap();
    assert_eq!(read["subjects"], json!([{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "eve"}]));
    assert_eq!(read["roleRef"], json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"}));
}

#[test]
fn questions_are_read_as_their_json() {
    let group = "authorization.k8s.io/v1";
    let attributes = [part(1, "ns"), part(2, "get"), part(5, "secrets")].concat();
    let extra = [part(1, "scope"), part(2, [part(1, "a"), part(1, "b")].concat())].concat();
    let spec = [part(1, attributes), part(3, "eve"), part(4, "devs"), part(5, extra)].concat();
    let review = decode(&body(group, "SubjectAccessReview", &[part(1, ""), part(2, spec)])).unwrap();
    assert_eq!(
        review,
        json!({"apiVersion": group, "kind": "SubjectAccessReview", "metadata": {}, "spec": {"user": "eve",
            "groups": ["devs"], "extra": {"scope": ["a", "b"]},
            "resourceAttributes": {"namespace": "ns", "verb": "get", "resource": "secrets"}}})
    );
    let bound = [part(1, "Secret"), part(3, "s"), part(4, "u")].concat();
    let spec = [part(1, "api"), part(3, bound), vec![4 << 3, 0x90, 0x1c]].concat();
    let request = decode(&body("authentication.k8s.io/v1", "TokenRequest", &[part(2, spec)])).unwrap();
    assert_eq!(
        request["spec"],
        json!({"audiences": ["api"], "expirationSeconds": 3600,
            "boundObjectRef": {"kind": "Secret", "name": "s", "uid": "u"}})
    );
}

#[test]
fn moments_and_pointers_keep_their_meaning() {
    // 1970-01-02T00:00:00.5Z: 86,400 s and 500,000,000 ns.
    let moment = [vec![1 << 3, 0x80, 0xa3, 0x05], vec![2 << 3, 0x80, 0xca, 0xb5, 0xee, 0x01]].concat();
    let spec = [part(1, ""), number(2, 0), part(3, moment.clone()), part(4, "")].concat();
    let lease = decode(&body("coordination.k8s.io/v1", "Lease", &[part(2, spec)])).unwrap();
    assert_eq!(
        lease["spec"],
        json!({"holderIdentity": "", "leaseDurationSeconds": 0, "acquireTime": "1970-01-02T00:00:00.500000Z"})
    );
    let event = decode(&body("v1", "Event", &[part(6, moment)])).unwrap();
    assert_eq!(event["firstTimestamp"], "1970-01-02T00:00:00Z");
    let options = decode(&body("example.dev/v1", "DeleteOptions", &[number(1, 0), part(2, part(1, "u"))])).unwrap();
    assert_eq!((&options["gracePeriodSeconds"], &options["preconditions"]), (&json!(0), &json!({"uid": "u"})));
}

#[test]
fn what_is_not_ours_is_refused() {
    let not_utf8 = body("v1", "ConfigMap", &[part(1, part(1, b"\xff"))]);
    let wrong_type = body("v1", "ConfigMap", &[number(1, 1)]);
    let far_future = body("v1", "Event", &[part(6, [vec![1 << 3], vec![0xff; 8], vec![0x7f]].concat())]);
    for broken in
        [Bytes::from_static(b"k8s\0\xff\xff"), b"nonsense".as_slice().into(), not_utf8, wrong_type, far_future]
    {
        assert_eq!(decode(&broken).unwrap_err().code(), 400, "{broken:?}");
    }
    assert_eq!(decode(&body("v1", "Pod", &[])).unwrap_err().code(), 415);
    assert_eq!(decode(&body("example.dev/v1", "Widget", &[])).unwrap_err().code(), 415);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn any_bytes_are_read_or_refused(raw in proptest::collection::vec(any::<u8>(), 0..200), which in 0usize..16) {
        let kinds = [
            ("v1", "Namespace"), ("v1", "ConfigMap"), ("v1", "Secret"), ("v1", "ServiceAccount"), ("v1", "Event"),
            ("events.k8s.io/v1", "Event"), ("coordination.k8s.io/v1", "Lease"), ("v1", "DeleteOptions"),
            ("rbac.authorization.k8s.io/v1", "Role"), ("rbac.authorization.k8s.io/v1", "ClusterRole"),
            ("rbac.authorization.k8s.io/v1", "RoleBinding"), ("authorization.k8s.io/v1", "SelfSubjectAccessReview"),
            ("authorization.k8s.io/v1", "SubjectAccessReview"), ("authorization.k8s.io/v1", "SelfSubjectRulesReview"),
            ("authentication.k8s.io/v1", "TokenReview"), ("authentication.k8s.io/v1", "TokenRequest"),
        ];
        let (api_version, kind) = kinds[which];
        match decode(&body(api_version, kind, &[raw])) {
            Ok(document) => prop_assert_eq!(&document["kind"], kind),
            Err(error) => prop_assert_eq!(error.code(), 400),
        }
    }

    #[test]
    fn any_body_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let bytes = Bytes::from([MAGIC, &bytes].concat());
        if let Err(error) = decode(&bytes) {
            prop_assert!((400..500).contains(&error.code()));
        }
    }
}
