//! What arrives from outside may be anything: it gets a 4xx and costs little.

use anyhow::Result;
use serde_json::json;

use crate::lab::{JSON, Lab, MERGE, WIDGETS};

#[tokio::test(flavor = "multi_thread")]
async fn hostile_bodies_are_refused() -> Result<()> {
    let lab = Lab::new().await?;
    lab.widget("a", json!({})).await?;
    let deep = format!("{}1{}", "{\"a\":".repeat(5000), "}".repeat(5000));
    let long_list = format!(
        r#"{{"apiVersion":"example.dev/v1","kind":"Widget","metadata":{{"name":"b","finalizers":[{}"x"]}}}}"#,
        "\"x\",".repeat(100_000)
    );
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
                d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n";
    let doubling: Vec<_> =
        (0..60).map(|n| json!({"op": "copy", "from": "/spec", "path": format!("/spec/n{n}")})).collect();
    let doubling = serde_json::to_string(&doubling)?;
    let item = format!("{WIDGETS}/a");
    let table: [(&str, &str, &str, Vec<u8>, &[u16]); 10] = [
        ("POST", WIDGETS, JSON, vec![b' '; 4 << 20], &[413]),
        ("POST", WIDGETS, JSON, deep.clone().into_bytes(), &[400]),
        ("PATCH", &item, MERGE, deep.into_bytes(), &[400]),
        ("POST", WIDGETS, JSON, long_list.into_bytes(), &[413, 422]),
        ("POST", WIDGETS, "application/yaml", bomb.as_bytes().to_vec(), &[400]),
        ("PATCH", &item, "application/json-patch+json", doubling.into_bytes(), &[400, 413, 422]),
        ("POST", WIDGETS, "application/vnd.kubernetes.protobuf", vec![0; 100], &[400]),
        ("POST", WIDGETS, "text/plain", b"hello".to_vec(), &[415]),
        ("POST", WIDGETS, JSON, b"[1,2".to_vec(), &[400]),
        ("POST", WIDGETS, JSON, b"\xff\xfe".to_vec(), &[400]),
    ];
    for (method, path, media, body, codes) in table {
        let answer = lab.raw(method, path, media, body).await?;
        assert!(codes.contains(&answer.code), "{method} {media}: {} {}", answer.code, answer.body);
        assert_eq!(answer.body["kind"], "Status");
    }
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn names_cannot_leave_their_folder() -> Result<()> {
    let lab = Lab::new().await?;
    for name in ["../secrets/x", "a/b", "..", "A", "a\u{0}", "a b", &"a".repeat(300)] {
        let made = json!({"apiVersion": "example.dev/v1", "kind": "Widget", "metadata": {"name": name}, "spec": {}});
        lab.call("POST", WIDGETS, &made).await?.expect(422)?;
    }
    for path in ["/api/v1/namespaces/default%2f..%2f/secrets", "/apis/example.dev/v1/namespaces/../widgets"] {
        lab.get(path).await?.expect(404)?;
    }
    let labels = json!({"metadata": {"name": "a", "labels": {"bad key!": "x"}},
        "apiVersion": "example.dev/v1", "kind": "Widget", "spec": {}});
    lab.call("POST", WIDGETS, &labels).await?.expect(422)?;
    for metadata in [json!([]), json!("x"), json!(7)] {
        let body = json!({"apiVersion": "example.dev/v1", "kind": "Widget", "metadata": metadata, "spec": {}});
        lab.call("POST", WIDGETS, &body).await?.expect(400)?;
    }
    lab.end().await
}
