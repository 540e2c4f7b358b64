//! Anything may arrive: whatever the bytes, the answer is a Status in the 400s or the request makes sense.
//!
//! Requests go through the whole server, so every parser meets them: paths, queries, selectors, continue tokens, JSON,
//! YAML, protobuf and the three patch languages. `SEED` repeats a run, `PROPTEST_CASES` makes it longer (`make fuzz`).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use http::Request;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use serde_json::{Value, json};

use crate::lab::{JSON, Lab, MERGE, WIDGETS, read, widget};

/// A request takes at most this long, however it looks; generous, as tests run beside each other.
pub const LONGEST: Duration = Duration::from_secs(10);

pub fn runner(cases: u32) -> TestRunner {
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
pub fn nearly(document: Value) -> impl Strategy<Value = Value> {
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
pub fn damaged(bytes: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
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

pub fn full_widget() -> Value {
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
    let (accepted, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let ran = tokio::task::block_in_place(|| {
        runner(1000)
            .run(&strategy, |(method, path, query, accept, (media, content))| {
                let request = Request::builder()
                    .method(method)
                    .uri(format!("{path}?{query}"))
                    .header("accept", accept)
                    .header("content-type", media)
                    .body(content.into());
                // What is no HTTP never reaches the server.
                let Ok(request) = request else { return Ok(()) };
                // Whatever the last request did to it, there is an object to be changed.
                handle
                    .block_on(lab.call("POST", WIDGETS, &widget("a", json!({"size": 3, "host": "h"}))))
                    .map_err(|error| TestCaseError::fail(error.to_string()))?;
                let began = Instant::now();
                let answer = handle
                    .block_on(async { read(lab.send(request).await?).await })
                    .map_err(|error| TestCaseError::fail(error.to_string()))?;
                prop_assert!(began.elapsed() < LONGEST, "it took {:?}", began.elapsed());
                let future =
                    answer.code == 504 && answer.body["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge";
                prop_assert!(answer.code < 500 || future, "{} {}", answer.code, answer.body);
                let count = if answer.code < 400 { &accepted } else { &refused };
                count.fetch_add(1, Ordering::Relaxed);
                if answer.code >= 400 && method != "HEAD" {
                    prop_assert_eq!(&answer.body["kind"], "Status");
                    prop_assert_eq!(&answer.body["code"], answer.code);
                }
                Ok(())
            })
            .map_err(|error| error.to_string())
    });
    ran.map_err(anyhow::Error::msg)?;
    // Requests that all make sense, or none of which does, would prove little.
    let (accepted, refused) = (accepted.into_inner(), refused.into_inner());
    println!("{accepted} were accepted, {refused} refused");
    anyhow::ensure!(accepted > refused / 50 && refused > accepted / 50, "{accepted} accepted, {refused} refused");
    lab.get("/readyz").await?.expect(200)?;
    lab.end().await
}
