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
    type Row<'a> = (&'a str, &'a str, &'a str, Vec<u8>, &'a [u16]);
    let table: [Row<'_>; 10] = [
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
async fn hostile_selectors_queries_and_heads_are_refused() -> Result<()> {
    let lab = Lab::new().await?;
    lab.widget("a", json!({})).await?;
    let nested = "(".repeat(20_000);
    let many = vec!["a"; 20_000].join(",");
    for (query, codes) in [
        (format!("labelSelector=a%20in%20{nested}"), &[400][..]),
        (format!("labelSelector=a%20in%20({many})"), &[200, 400]),
        (format!("labelSelector={}", "!a,".repeat(15_000)), &[400]),
        (format!("fieldSelector={}", "metadata.name%3Da,".repeat(3_000)), &[200, 400]),
        (format!("fieldSelector={}", "%5C".repeat(15_000)), &[400]),
        (format!("continue={}", "A".repeat(60_000)), &[400]),
        ("limit=99999999999999999999".to_owned(), &[400]),
        ("limit=-5".to_owned(), &[200, 400]),
        (format!("{}limit=1", "x=y&".repeat(12_000)), &[200]),
    ] {
        let answer = lab.get(&format!("{WIDGETS}?{query}")).await?;
        let shown: String = query.chars().take(60).collect();
        assert!(codes.contains(&answer.code), "{shown}: {} {}", answer.code, answer.body);
    }
    for accept in [";".repeat(60_000), "a/b,".repeat(15_000), "application/json;as=Table;g=x;v=v9".to_owned()] {
        assert_eq!(lab.get_as(WIDGETS, &accept).await?.code, 406);
    }
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_definitions_are_refused_and_hostile_rules_cut_off() -> Result<()> {
    let lab = Lab::new().await?;
    let rule = |rule: &str| {
        let mut crd = crate::lab::widget_crd();
        crd["metadata"]["name"] = json!("bombs.example.dev");
        crd["spec"]["names"] = json!({"plural": "bombs", "kind": "Bomb"});
        let schema = &mut crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        schema["properties"]["spec"]["properties"]["list"] = json!({"type": "array", "items": {"type": "string"}});
        schema["properties"]["spec"]["x-kubernetes-validations"] = json!([{"rule": rule}]);
        crd
    };
    let crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    for bomb in [format!("{}true{}", "(".repeat(7000), ")".repeat(7000)), "x".repeat(1 << 20), "[".repeat(16_000)] {
        lab.call("POST", crds, &rule(&bomb)).await?.expect(422)?;
    }
    let mut deep = json!({"type": "string"});
    for _ in 0..40 {
        deep = json!({"type": "object", "properties": {"a": deep}});
    }
    let mut crd = rule("true");
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["deep"] = deep;
    let answer = lab.call("POST", &format!("{crds}?dryRun=All"), &crd).await?;
    assert!([201, 400, 422].contains(&answer.code), "{}", answer.body);

    let cubic = "self.list.all(a, self.list.all(b, self.list.all(c, a + b + c != '')))";
    lab.call("POST", crds, &rule(cubic)).await?.expect(201)?;
    let list: Vec<String> = (0..3000).map(|n| n.to_string()).collect();
    let object =
        json!({"apiVersion": "example.dev/v1", "kind": "Bomb", "metadata": {"name": "b"}, "spec": {"list": list}});
    let refused = lab.call("POST", "/apis/example.dev/v1/namespaces/default/bombs", &object).await?.expect(422)?;
    assert!(refused.to_string().contains("cost budget"), "{refused}");
    lab.get("/readyz").await?.expect(200)?;
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
