//! Anything may arrive: whatever the bytes, the answer is a Status in the 400s or the request makes sense.
//!
//! Requests go through the whole server, so every parser meets them: paths, queries, selectors, continue tokens, JSON,
//! YAML, protobuf and the three patch languages. `SEED` repeats a run, `PROPTEST_CASES` makes it longer (`make fuzz`).

use std::time::{Duration, Instant};

use anyhow::Result;
use apiserver::schema::Definition;
use http::Request;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use serde_json::{Value, json};

use crate::lab::{JSON, Lab, MERGE, WIDGETS, read, widget, widget_crd};

/// A request takes at most this long, however it looks; generous, as tests run beside each other.
const LONGEST: Duration = Duration::from_secs(10);

fn runner(cases: u32) -> TestRunner {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(0, |since| since.as_secs() ^ u64::from(since.subsec_nanos()))
    });
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(cases);
    println!("SEED={seed} PROPTEST_CASES={cases}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 2000, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

/// Words that mean something somewhere, so that nonsense gets past the first door.
const WORDS: [&str; 40] = [
    "apiVersion",
    "kind",
    "metadata",
    "spec",
    "status",
    "name",
    "generateName",
    "namespace",
    "labels",
    "annotations",
    "finalizers",
    "ownerReferences",
    "managedFields",
    "resourceVersion",
    "uid",
    "size",
    "colour",
    "host",
    "note",
    "phase",
    "data",
    "binaryData",
    "stringData",
    "immutable",
    "op",
    "path",
    "value",
    "from",
    "test",
    "replace",
    "copy",
    "/spec/size",
    "/metadata",
    "$patch",
    "$retainKeys",
    "$setElementOrder/finalizers",
    "default",
    "a",
    "-1",
    "",
];

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        select(WORDS.as_slice()).prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 60, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            proptest::collection::btree_map(select(WORDS.as_slice()).prop_map(str::to_owned), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// A document that is nearly right: a real one with some values replaced by anything.
fn nearly(document: Value) -> impl Strategy<Value = Value> {
    let mut places = Vec::new();
    pointers(&document, String::new(), &mut places);
    proptest::collection::vec((select(places), any_value()), 0..3).prop_map(move |changes| {
        let mut document = document.clone();
        for (place, value) in changes {
            if let Some(at) = document.pointer_mut(&place) {
                *at = value;
            }
        }
        document
    })
}

fn pointers(value: &Value, at: String, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| pointers(value, format!("{at}/{key}"), found)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(key, value)| pointers(value, format!("{at}/{key}"), found));
        }
        _ => {}
    }
    found.push(at);
}

/// Bytes with a few of them changed, cut out, or put twice.
fn damaged(bytes: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let most = bytes.len().max(1);
    proptest::collection::vec((0..most, any::<u8>(), 0u8..4), 0..6).prop_map(move |harms| {
        let mut bytes = bytes.clone();
        for (at, byte, how) in harms {
            let at = at.min(bytes.len());
            match how {
                0 if at < bytes.len() => bytes[at] = byte,
                1 => bytes.truncate(at),
                2 => bytes.insert(at, byte),
                _ => bytes.extend_from_within(at..),
            }
        }
        bytes
    })
}

fn full_widget() -> Value {
    let mut it = widget("a", json!({"size": 3, "colour": "red", "host": "h", "note": "n"}));
    it["metadata"] = json!({"name": "a", "namespace": "default", "labels": {"a": "b"}, "annotations": {"a.b/c": "d"},
        "finalizers": ["a.b/c"], "ownerReferences": [{"apiVersion": "v1", "kind": "X", "name": "x", "uid": "u"}]});
    it
}

fn body() -> impl Strategy<Value = (&'static str, Vec<u8>)> {
    let medias = [
        JSON,
        "application/yaml",
        "application/vnd.kubernetes.protobuf",
        MERGE,
        "application/json-patch+json",
        "application/strategic-merge-patch+json",
        "application/apply-patch+yaml",
        "text/plain",
        "",
    ];
    let patch = json!([{"op": "replace", "path": "/spec/size", "value": 4}, {"op": "copy", "from": "/spec", "path": "/spec/note"}]);
    let yaml =
        b"apiVersion: example.dev/v1\nkind: Widget\nmetadata: {name: a}\nspec: &s\n  size: 3\n  note: |\n    x\n"
            .to_vec();
    let protobuf =
        b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x12\x0a\x03\x0a\x01m\x12\x06\x0a\x01k\x12\x01v\x22\0".to_vec();
    let content = prop_oneof![
        3 => nearly(full_widget()).prop_map(|value| value.to_string().into_bytes()),
        2 => nearly(patch).prop_map(|value| value.to_string().into_bytes()),
        2 => any_value().prop_map(|value| value.to_string().into_bytes()),
        1 => damaged(full_widget().to_string().into_bytes()),
        1 => damaged(yaml),
        1 => damaged(protobuf),
        1 => proptest::collection::vec(any::<u8>(), 0..200),
    ];
    (select(medias.to_vec()), content)
}

fn path() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        4 => select(["widgets", "configmaps", "secrets", "namespaces", "a", "default", "status", "scale", "finalize",
            "..", "%2e%2e", "%2f", "%00", "%zz", "%ff", ""].as_slice()).prop_map(str::to_owned),
        1 => "[!-~]{0,8}".prop_map(|text| text.replace(['#', '?', '<', '>', '"', '`', '{', '}', '|', '\\', '^'], "")),
    ];
    let rest = proptest::collection::vec(part, 0..5).prop_map(|parts| parts.join("/"));
    let root = select(
        ["/api/v1", "/apis/example.dev/v1", "/apis", "/openapi/v3", "/api", "/apis/authorization.k8s.io/v1"].as_slice(),
    );
    prop_oneof![
        4 => Just(format!("{WIDGETS}/a")),
        2 => Just(WIDGETS.to_owned()),
        1 => Just(format!("{WIDGETS}/a/status")),
        1 => Just("/api/v1/namespaces/default/configmaps".to_owned()),
        1 => Just("/api/v1/namespaces/default/configmaps/m".to_owned()),
        3 => (root, rest).prop_map(|(root, rest)| format!("{root}/{rest}")),
    ]
}

fn query() -> impl Strategy<Value = String> {
    let names = [
        "labelSelector",
        "fieldSelector",
        "limit",
        "continue",
        "resourceVersion",
        "resourceVersionMatch",
        "dryRun",
        "fieldValidation",
        "fieldManager",
        "force",
        "propagationPolicy",
        "includeObject",
        "sendInitialEvents",
        "pretty",
        "gracePeriodSeconds",
        "orphanDependents",
        "allowWatchBookmarks",
    ];
    let token = damaged(br#"{"rv":3,"after":"default/a"}"#.to_vec())
        .prop_map(|bytes| base64::Engine::encode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, bytes));
    let value = prop_oneof![
        select(
            [
                "",
                "0",
                "1",
                "true",
                "All",
                "Exact",
                "NotOlderThan",
                "Strict",
                "99999999999999999999",
                "Orphan",
                "Metadata"
            ]
            .as_slice()
        )
        .prop_map(str::to_owned),
        token,
        "[a-z=!<>(), .%/]{0,20}",
        "(a|b|!a|x in (a,b)|x notin (c)|x>1|metadata.name=a|spec.host!=h)(,(a=b|!c|y in (a)|metadata.name=b)){0,3}",
        "\\PC{0,10}",
    ];
    proptest::collection::vec((select(names.to_vec()), value), 0..4).prop_map(|pairs| {
        let escape = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
        pairs.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect::<Vec<_>>().join("&")
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn any_request_is_answered_or_refused() -> Result<()> {
    let lab = Lab::new().await?;
    lab.widget("a", json!({})).await?;
    let handle = tokio::runtime::Handle::current();
    let methods = select(["GET", "POST", "PUT", "PATCH", "PATCH", "DELETE", "HEAD", "OPTIONS"].as_slice());
    let accepts = select(
        [
            JSON,
            "application/yaml",
            "*/*",
            "application/json;as=Table;v=v1;g=meta.k8s.io",
            "text/html",
            "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
            ";;=,as=Table",
        ]
        .as_slice(),
    );
    let strategy = (methods, path(), query(), accepts, body());
    let ran = tokio::task::block_in_place(|| {
        runner(400).run(&strategy, |(method, path, query, accept, (media, content))| {
            let request = Request::builder()
                .method(method)
                .uri(format!("{path}?{query}"))
                .header("accept", accept)
                .header("content-type", media)
                .body(content.into());
            // What is no HTTP never reaches the server.
            let Ok(request) = request else { return Ok(()) };
            let began = Instant::now();
            let answer = handle
                .block_on(async { read(lab.send(request).await?).await })
                .map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert!(began.elapsed() < LONGEST, "it took {:?}", began.elapsed());
            let future =
                answer.code == 504 && answer.body["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge";
            prop_assert!(answer.code < 500 || future, "{} {}", answer.code, answer.body);
            if answer.code >= 400 && method != "HEAD" {
                prop_assert_eq!(&answer.body["kind"], "Status");
                prop_assert_eq!(&answer.body["code"], answer.code);
            }
            Ok(())
        })
    });
    ran.map_err(|error| anyhow::anyhow!("{error}"))?;
    lab.get("/readyz").await?.expect(200)?;
    lab.end().await
}

fn rule() -> impl Strategy<Value = String> {
    let token = select(
        [
            "self",
            "oldSelf",
            ".size",
            ".note",
            "[0]",
            "(",
            ")",
            " + ",
            " - ",
            " * ",
            " / ",
            " % ",
            " && ",
            " || ",
            " == ",
            " < ",
            " in ",
            "!",
            "-",
            "1",
            "0",
            "9223372036854775807",
            "1.5",
            "'x'",
            "\"\\u{1F600}\"",
            "b'\\xff'",
            "[]",
            "[1, 2]",
            "{}",
            "{'a': 1}",
            " ? ",
            " : ",
            ".map(x, x)",
            ".all(x, x > 1)",
            ".exists_one(x, true)",
            ".matches('(a+)+$')",
            "size(self.note)",
            "string(1)",
            "int('x')",
            "duration('1s')",
            "timestamp('2020-01-01T00:00:00Z')",
            "has(self.note)",
            "self.list.map(x, self.list.map(y, x + y))",
            ".replace('', 'xx')",
            ".split('')",
            "quantity('1Gi')",
            "\u{e9}",
        ]
        .as_slice(),
    );
    prop_oneof![
        4 => proptest::collection::vec(token, 0..12).prop_map(|tokens| tokens.concat()),
        1 => "\\PC{0,40}",
        1 => (1usize..4000).prop_map(|deep| format!("{}1{} == 1", "(".repeat(deep), ")".repeat(deep))),
        1 => (1usize..4000).prop_map(|deep| format!("{}true", "!".repeat(deep))),
    ]
}

#[test]
fn any_definition_and_rule_is_compiled_or_refused_and_no_object_is_too_much() {
    let mut crd = widget_crd();
    let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
    crd.pointer_mut(spec).unwrap()["properties"]["list"] = json!({"type": "array", "items": {"type": "string"}});
    let documents = prop_oneof![
        3 => rule().prop_map({
            let crd = crd.clone();
            move |rule| {
                let mut crd = crd.clone();
                crd.pointer_mut(spec).unwrap()["x-kubernetes-validations"] = json!([{"rule": rule}]);
                crd
            }
        }),
        1 => nearly(crd),
    ];
    let mut object = full_widget();
    object["spec"]["list"] = (0..100).map(|n| n.to_string()).collect();
    let objects = nearly(object).boxed();
    let ran = runner(300).run(&(documents, objects.clone(), objects), |(document, new, old)| {
        let began = Instant::now();
        if let Ok(definition) = Definition::from_crd(&document) {
            let schema = &definition.storage().schema;
            let mut new = new;
            schema.prune(&mut new);
            schema.default(&mut new);
            let _ = schema.validate(&new, Some(&old));
        }
        prop_assert!(began.elapsed() < LONGEST, "it took {:?}", began.elapsed());
        Ok(())
    });
    assert!(ran.is_ok(), "{ran:?}");
}
