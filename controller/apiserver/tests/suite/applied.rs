//! Server-side apply and `managedFields`, asked raw and through the real kubectl.

use anyhow::Result;
use serde_json::{Value, json};

use crate::kubectl::Kubectl;
use crate::lab::{Answer, Lab, WIDGETS, revision, widget};
use crate::tls::serve;

const APPLY: &str = "application/apply-patch+yaml";
const CONFIGS: &str = "/api/v1/namespaces/default/configmaps";

fn config(name: &str, data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

async fn apply(lab: &Lab, path: &str, query: &str, body: &Value) -> Result<Answer> {
    lab.raw("PATCH", &format!("{path}?{query}"), APPLY, body.to_string()).await
}

/// The entries as `MANAGER OPERATION SUBRESOURCE`.
fn managers(object: &Value) -> Vec<String> {
    let text = |v: &Value| v.as_str().unwrap_or("").to_owned();
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let mut all: Vec<String> = entries
        .iter()
        .map(|e| {
            format!("{} {} {}", text(&e["manager"]), text(&e["operation"]), text(&e["subresource"])).trim().to_owned()
        })
        .collect();
    all.sort();
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn an_apply_makes_changes_and_prunes_and_writes_nothing_twice() -> Result<()> {
    let lab = Lab::new().await?;
    let path = format!("{CONFIGS}/c");
    let both = config("c", &json!({"a": "1", "b": "2"}));
    let made = apply(&lab, &path, "fieldManager=one", &both).await?.expect(201)?;
    assert_eq!(managers(&made), ["one Apply"]);
    assert_eq!(made["metadata"]["managedFields"][0]["fieldsV1"], json!({"f:data": {"f:a": {}, "f:b": {}}}));
    let again = apply(&lab, &path, "fieldManager=one", &both).await?.expect(200)?;
    assert_eq!(again, made, "an apply that changes nothing writes nothing");
    let yaml = "apiVersion: v1\nkind: ConfigMap\ndata: {c: '3'}\n";
    lab.raw("PATCH", &format!("{path}?fieldManager=two"), APPLY, yaml).await?.expect(200)?;
    let dry = apply(&lab, &path, "fieldManager=one&dryRun=All", &config("c", &json!({}))).await?.expect(200)?;
    assert_eq!(dry["data"], json!({"c": "3"}));
    let pruned = apply(&lab, &path, "fieldManager=one", &config("c", &json!({"b": "2"}))).await?.expect(200)?;
    assert_eq!(pruned["data"], json!({"b": "2", "c": "3"}));
    assert_eq!(lab.get(&path).await?.expect(200)?, pruned, "what is answered is what is stored");
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_names_the_manager_and_the_field_and_force_takes_it() -> Result<()> {
    let lab = Lab::new().await?;
    let path = format!("{CONFIGS}/c");
    lab.call("POST", &format!("{CONFIGS}?fieldManager=kubectl-client-side-apply"), &config("c", &json!({"key": "1"})))
        .await?
        .expect(201)?;
    let other = config("c", &json!({"key": "2"}));
    let refused = apply(&lab, &path, "fieldManager=one", &other).await?.expect(409)?;
    let text = "Apply failed with 1 conflict: conflict with \"kubectl-client-side-apply\" using v1: .data.key";
    assert_eq!((refused["message"].as_str(), refused["reason"].as_str()), (Some(text), Some("Conflict")));
    let cause = json!([{"reason": "FieldManagerConflict", "field": ".data.key",
        "message": "conflict with \"kubectl-client-side-apply\" using v1"}]);
    assert_eq!(refused["details"]["causes"], cause);
    let forced = apply(&lab, &path, "fieldManager=one&force=true", &other).await?.expect(200)?;
    assert_eq!(forced["data"]["key"], "2");
    let rest = json!({"f:data": {}});
    let updater = forced["metadata"]["managedFields"].as_array().unwrap().iter().find(|e| e["operation"] == "Update");
    assert_eq!(updater.unwrap()["fieldsV1"], rest, "the map itself is still the first one's");
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_write_notes_its_manager_and_the_time_alone_is_no_change() -> Result<()> {
    let lab = Lab::new().await?;
    let path = format!("{WIDGETS}/a");
    let made = lab
        .call("POST", &format!("{WIDGETS}?fieldManager=maker"), &widget("a", json!({"size": 3})))
        .await?
        .expect(201)?;
    assert_eq!(managers(&made), ["maker Update"]);
    let status = json!({"status": {"phase": "Ready"}});
    let media = crate::lab::MERGE;
    let url = format!("{path}/status?fieldManager=watcher");
    let ready = lab.raw("PATCH", &url, media, status.to_string()).await?.expect(200)?;
    assert_eq!(managers(&ready), ["maker Update", "watcher Update status"]);
    let same = lab.raw("PATCH", &url, media, status.to_string()).await?.expect(200)?;
    assert_eq!(revision(&same), revision(&ready));
    let mut put = ready.clone();
    put["spec"]["size"] = json!(4);
    let put = lab.call("PUT", &format!("{path}?fieldManager=editor"), &put).await?.expect(200)?;
    assert_eq!(managers(&put), ["editor Update", "maker Update", "watcher Update status"]);
    let named = lab.merge(&path, json!({"spec": {"note": "n"}})).await?.expect(200)?;
    assert!(managers(&named).contains(&"tester Update".to_owned()), "without a name and a program it is the user");
    // A client that knows nothing of the entries does not remove them; one empty entry does.
    let mut bare = named.clone();
    bare["metadata"].as_object_mut().unwrap().remove("managedFields");
    let kept = lab.call("PUT", &path, &bare).await?.expect(200)?;
    assert_eq!(kept["metadata"]["managedFields"], named["metadata"]["managedFields"]);
    let reset = lab.merge(&path, json!({"metadata": {"managedFields": [{}]}})).await?.expect(200)?;
    assert_eq!(reset["metadata"].get("managedFields"), None);
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn spec_and_status_are_applied_through_doors_of_their_own() -> Result<()> {
    let lab = Lab::new().await?;
    let path = format!("{WIDGETS}/a");
    let mut both = widget("a", json!({"size": 3}));
    both["status"] = json!({"phase": "Ready"});
    let made = apply(&lab, &path, "fieldManager=one", &both).await?.expect(201)?;
    assert_eq!((made.get("status"), managers(&made)), (None, vec!["one Apply".to_owned()]));
    both["spec"]["size"] = json!(9);
    let door = format!("{path}/status");
    let ready = apply(&lab, &door, "fieldManager=one", &both).await?.expect(200)?;
    assert_eq!((&ready["spec"]["size"], &ready["status"]["phase"]), (&json!(3), &json!("Ready")));
    assert_eq!(managers(&ready), ["one Apply", "one Apply status"]);
    assert_eq!(ready["metadata"]["generation"], 1);
    let gone = apply(&lab, &door, "fieldManager=one", &widget("a", json!({}))).await?.expect(200)?;
    assert_eq!(gone.get("status"), None);
    apply(&lab, &format!("{WIDGETS}/b/status"), "fieldManager=one", &widget("b", json!({}))).await?.expect(404)?;
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_apply_that_makes_no_sense_is_refused_with_the_reason() -> Result<()> {
    let lab = Lab::new().await?;
    let path = format!("{WIDGETS}/a");
    let good = widget("a", json!({"size": 3}));
    let made = apply(&lab, &path, "fieldManager=one", &good).await?.expect(201)?;
    let with = |field: &str, value: Value| {
        let mut body = good.clone();
        body["metadata"][field] = value;
        body
    };
    let table = [
        (path.as_str(), "", good.clone(), 422, "fieldManager: Required value: is required for apply patch"),
        (
            &path,
            "fieldManager=one",
            widget("a", json!({"sise": 3})),
            400,
            "failed to create typed patch object (default/a; example.dev/v1, Kind=Widget): .spec.sise: field not declared in schema",
        ),
        (&path, "fieldManager=one", with("managedFields", json!([])), 400, "metadata.managedFields must be nil"),
        (
            &path,
            "fieldManager=one",
            with("uid", json!("other")),
            422,
            "metadata.uid: Invalid value: \"other\": field is immutable",
        ),
        (&path, "fieldManager=one", with("resourceVersion", json!("1")), 409, "the object has been modified"),
        (&path, "fieldManager=one", with("name", json!("b")), 400, "does not match the name on the URL"),
        (&path, "fieldManager=one", widget("a", json!({"size": 300})), 422, "spec.size"),
        (
            &path,
            "fieldManager=one",
            with("finalizers", json!(["x/a", "x/a"])),
            422,
            "metadata.finalizers[1]: Duplicate value",
        ),
    ];
    for (path, query, body, code, why) in table {
        let answer = apply(&lab, path, query, &body).await?.expect(code)?;
        assert!(answer["message"].as_str().unwrap_or("").contains(why), "{why}: {answer}");
    }
    let mut absent = with("uid", json!("other"));
    absent["metadata"]["name"] = json!("new");
    let answer = apply(&lab, &format!("{WIDGETS}/new"), "fieldManager=one", &absent).await?.expect(409)?;
    assert!(answer["message"].as_str().unwrap_or("").contains("uid mismatch"));
    let refused = lab.raw("PATCH", &format!("{path}?force=true"), crate::lab::MERGE, "{}").await?.expect(422)?;
    assert!(refused["message"].as_str().unwrap_or("").contains("force: Forbidden"));
    let answer = lab.raw("PATCH", &format!("{path}?fieldManager=one"), APPLY, "a: [").await?.expect(400)?;
    assert!(answer["message"].as_str().unwrap_or("").contains("error decoding YAML"));
    assert_eq!(lab.get(&path).await?.expect(200)?, made, "nothing of all that was written");
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_applies_on_the_servers_side() -> Result<()> {
    let lab = Lab::new().await?;
    let dir = tempfile::tempdir()?;
    let served = serve(&lab, dir.path()).await?;
    let kubectl = Kubectl::new(dir.path(), &served)?;
    let manifest = widget("a", json!({"size": 3, "colour": "red"})).to_string();
    assert_eq!(kubectl.run("apply --server-side -f -", &manifest).await?, "widget.example.dev/a serverside-applied\n");
    kubectl.run("apply --server-side -f -", &manifest).await?;
    let shown = kubectl.run("get wd a -o yaml --show-managed-fields", "").await?;
    assert!(shown.contains("manager: kubectl") && shown.contains("f:colour: {}"), "{shown}");
    assert!(!kubectl.run("get wd a -o yaml", "").await?.contains("managedFields"));
    let other = widget("a", json!({"size": 4})).to_string();
    let refused = kubectl.fails("apply --server-side --field-manager=other -f -", &other).await?;
    assert!(refused.contains("Apply failed with 1 conflict: conflict with \"kubectl\": .spec.size"), "{refused}");
    let differs = kubectl.output("diff --server-side --force-conflicts --field-manager=other -f -", &other).await?;
    assert_eq!(differs.status.code(), Some(1), "{}", String::from_utf8_lossy(&differs.stderr));
    assert!(String::from_utf8_lossy(&differs.stdout).contains("+  size: 4"));
    kubectl.run("apply --server-side --force-conflicts --field-manager=other -f -", &other).await?;
    let less = widget("a", json!({})).to_string();
    kubectl.run("apply --server-side -f -", &less).await?;
    assert_eq!(kubectl.run("get wd a -o jsonpath={.spec}", "").await?, r#"{"size":4}"#);
    let unknown = widget("b", json!({"sise": 3})).to_string();
    assert!(kubectl.fails("apply --server-side -f -", &unknown).await?.contains("sise"));
    kubectl.run("apply --server-side --dry-run=server -f -", &widget("c", json!({})).to_string()).await?;
    assert!(kubectl.fails("get wd c", "").await?.contains("NotFound"));
    served.stop().await?;
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_moves_from_the_clients_side_to_the_servers() -> Result<()> {
    let lab = Lab::new().await?;
    let dir = tempfile::tempdir()?;
    let served = serve(&lab, dir.path()).await?;
    let kubectl = Kubectl::new(dir.path(), &served)?;
    let before = config("c", &json!({"a": "1", "b": "2"})).to_string();
    kubectl.run("apply -f -", &before).await?;
    let path = format!("{CONFIGS}/c");
    assert_eq!(managers(&lab.get(&path).await?.expect(200)?), ["kubectl-client-side-apply Update"]);
    let after = config("c", &json!({"a": "9"})).to_string();
    assert_eq!(kubectl.run("apply --server-side -f -", &after).await?, "configmap/c serverside-applied\n");
    let moved = lab.get(&path).await?.expect(200)?;
    assert_eq!(moved["data"], json!({"a": "9"}), "what the client's side applied is pruned by the server's");
    let all = managers(&moved);
    assert!(all.contains(&"kubectl Apply".to_owned()), "{all:?}");
    assert!(!all.iter().any(|m| m.starts_with("kubectl-client-side-apply")), "{all:?}");
    kubectl.run("apply --server-side -f -", &after).await?;
    assert_eq!(revision(&lab.get(&path).await?.expect(200)?), revision(&moved), "a second time it is settled");
    // And back: the annotation was kept true.
    kubectl.run("apply -f -", &config("c", &json!({"z": "0"})).to_string()).await?;
    assert_eq!(lab.get(&path).await?.expect(200)?["data"], json!({"z": "0"}));
    served.stop().await?;
    lab.end().await
}
