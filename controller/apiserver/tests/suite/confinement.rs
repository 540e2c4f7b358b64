//! A confined caller reaches its own objects and no others, whatever the rules allow it.

use anyhow::{Result, ensure};
use apiserver::{CallerKind, Confined, Confinement, Options, Reads, Step, Tie};
use serde_json::json;

use crate::access::{binding, in_namespace, role};
use crate::lab::{JSON, Lab, MERGE, WIDGETS, read, widget};

fn options() -> Options {
    let own = |group: &str, resource: &str, tie: Tie, finalizers_only: bool| Confined {
        group: group.to_owned(),
        resource: resource.to_owned(),
        tie,
        reads: Reads::Own,
        finalizers_only,
    };
    let mut resources = vec![
        own("example.dev", "widgets", Tie::Field("spec.host".to_owned()), true),
        own("coordination.k8s.io", "leases", Tie::Name, false),
        own("events.k8s.io", "events", Tie::Field("reportingInstance".to_owned()), false),
    ];
    resources[0].reads = Reads::Sharing("spec.note".to_owned());
    // A secret is for whoever has a widget with a note that a configuration maps the secret to.
    let step = |group: &str, resource: &str, from: &str, to: &str| Step {
        group: group.to_owned(),
        resource: resource.to_owned(),
        from: from.to_owned(),
        to: to.to_owned(),
    };
    let steps = vec![
        step("", "configmaps", "data.secret", "data.note"),
        step("example.dev", "widgets", "spec.note", "spec.host"),
    ];
    resources.push(own("", "secrets", Tie::Led(steps), true));
    let confinement =
        Confinement { group: "agents".to_owned(), user_prefix: "agent:".to_owned(), namespaced: false, resources };
    // Widgets call as themselves, and reach what bears their name in their namespace.
    let own = ["widgets", "leases"].map(|resource| Confined {
        group: if resource == "widgets" { "example.dev" } else { "coordination.k8s.io" }.to_owned(),
        resource: resource.to_owned(),
        tie: Tie::Name,
        reads: Reads::Own,
        finalizers_only: resource == "widgets",
    });
    let nodes = Confinement {
        group: "nodes".to_owned(),
        user_prefix: "node:".to_owned(),
        namespaced: true,
        resources: own.to_vec(),
    };
    let callers = vec![CallerKind {
        group: "example.dev".to_owned(),
        resource: "widgets".to_owned(),
        user_prefix: "node:".to_owned(),
        groups: vec!["nodes".to_owned()],
    }];
    Options { confinements: vec![confinement, nodes], callers, ..Options::default() }
}

/// A server where agents may do everything, as far as the rules go.
async fn lab() -> Result<Lab> {
    let lab = Lab::with(options()).await?;
    lab.call("POST", &in_namespace("default", "roles"), &role("all", &["*"], &["*"], &["*"])).await?.expect(201)?;
    let mut everyone = binding("all", ("Role", "all"), "");
    everyone["subjects"] = json!([{"kind": "Group", "name": "agents"}]);
    lab.call("POST", &in_namespace("default", "rolebindings"), &everyone).await?.expect(201)?;
    lab.widget("mine", json!({"host": "h1"})).await?;
    lab.widget("theirs", json!({"host": "h2"})).await?;
    lab.widget("nobodys", json!({})).await?;
    Ok(lab)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_reads_only_what_is_bound_to_its_host() -> Result<()> {
    let lab = lab().await?;
    let agent = lab.person("agent:h1", &["agents"]);
    agent.get(&format!("{WIDGETS}/mine")).await?.expect(200)?;
    let refusal = agent.forbidden("GET", &format!("{WIDGETS}/theirs"), &json!({})).await?;
    assert!(refusal.ends_with(": spec.host of the object is not \"h1\""), "{refusal}");
    agent.get(&format!("{WIDGETS}/nobodys")).await?.expect(403)?;
    agent.get(&format!("{WIDGETS}/none")).await?.expect(404)?;
    for query in ["", "?watch=1", "?fieldSelector=spec.host%3Dh2", "?fieldSelector=spec.host!%3Dh1", "?labelSelector=a"]
    {
        agent.get(&format!("{WIDGETS}{query}")).await?.expect(403)?;
    }
    let list = agent.get(&format!("{WIDGETS}?fieldSelector=spec.host%3Dh1")).await?.expect(200)?;
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1));
    let everything = agent.raw("DELETE", WIDGETS, "application/json", "").await?;
    everything.expect(403)?;
    // Who bears no host's name has no host; who is no agent is not confined.
    for stranger in ["agent:", "jane"] {
        lab.person(stranger, &["agents"]).get(&format!("{WIDGETS}/mine")).await?.expect(403)?;
    }
    lab.get(WIDGETS).await?.expect(200)?;
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_may_know_who_shares_a_network_with_what_is_its_own() -> Result<()> {
    let lab = lab().await?;
    let agent = lab.person("agent:h1", &["agents"]);
    let on = |note: &str| format!("{WIDGETS}?fieldSelector=spec.note%3D{note}");
    lab.widget("far", json!({"host": "h2", "note": "net"})).await?;
    agent.get(&on("net")).await?.expect(403)?;
    lab.widget("near", json!({"host": "h1", "note": "net"})).await?;
    let list = agent.get(&on("net")).await?.expect(200)?;
    assert_eq!(list["items"].as_array().map(Vec::len), Some(2));
    agent.get(&on("other")).await?.expect(403)?;
    agent.get("/apis/example.dev/v1/widgets?fieldSelector=spec.note%3Dnet").await?.expect(403)?;
    agent.raw("DELETE", &on("net"), "application/json", "").await?.expect(403)?;
    agent.get(&format!("{WIDGETS}/far")).await?.expect(403)?;
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_writes_status_and_finalizers_of_its_own() -> Result<()> {
    let lab = lab().await?;
    let agent = lab.person("agent:h1", &["agents"]);
    let (mine, theirs) = (format!("{WIDGETS}/mine"), format!("{WIDGETS}/theirs"));
    agent.merge(&mine, json!({"metadata": {"finalizers": ["example.dev/agent"]}})).await?.expect(200)?;
    agent.merge(&format!("{mine}/status"), json!({"status": {"phase": "Ready"}})).await?.expect(200)?;
    for patch in [
        json!({"spec": {"host": "h2"}}),
        json!({"spec": {"size": 7}}),
        json!({"metadata": {"labels": {"a": "b"}}}),
        json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "X", "name": "x", "uid": "u"}]}}),
    ] {
        agent.merge(&mine, patch.clone()).await?.expect(403)?;
        agent.merge(&theirs, patch).await?.expect(403)?;
    }
    agent.merge(&theirs, json!({"metadata": {"finalizers": ["example.dev/agent"]}})).await?.expect(403)?;
    agent.merge(&format!("{theirs}/status"), json!({"status": {"phase": "Ready"}})).await?.expect(403)?;
    agent.raw("DELETE", &theirs, "application/json", "").await?.expect(403)?;
    agent.call("POST", WIDGETS, &widget("new", json!({"host": "h2"}))).await?.expect(403)?;
    // Taking over what is bound to another host, or to none.
    lab.widget("free", json!({})).await?;
    agent.merge(&format!("{WIDGETS}/free"), json!({"spec": {"host": "h1"}})).await?.expect(403)?;
    // The last finalizer goes, and with it the object.
    lab.delete(&mine).await?.expect(200)?;
    agent.merge(&mine, json!({"metadata": {"finalizers": []}})).await?.expect(200)?;
    lab.get(&mine).await?.expect(404)?;
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_bears_the_agents_name_is_its_own() -> Result<()> {
    let lab = lab().await?;
    let agent = lab.person("agent:h1", &["agents"]);
    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    let lease =
        |name: &str| json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}});
    agent.call("POST", leases, &lease("h1")).await?.expect(201)?;
    agent.call("POST", leases, &lease("h2")).await?.expect(403)?;
    lab.call("POST", leases, &lease("h2")).await?.expect(201)?;
    agent.merge(&format!("{leases}/h1"), json!({"spec": {"holderIdentity": "h1"}})).await?.expect(200)?;
    agent.merge(&format!("{leases}/h2"), json!({"spec": {"holderIdentity": "h1"}})).await?.expect(403)?;
    agent.get(leases).await?.expect(403)?;
    agent.get(&format!("{leases}?fieldSelector=metadata.name%3Dh1")).await?.expect(200)?;

    let events = "/apis/events.k8s.io/v1/namespaces/default/events";
    for (name, host, code) in [("e1", "h1", 201), ("e2", "h2", 403)] {
        let event = json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": name}, "action": "A",
            "reason": "R", "type": "Normal", "note": "n", "eventTime": "2026-01-01T00:00:00.000000Z",
            "reportingController": "agent", "reportingInstance": host,
            "regarding": {"kind": "Widget", "namespace": "default", "name": "mine"},
        });
        let answer = agent.call("POST", events, &event).await?;
        ensure!(answer.code == code, "{name}: {} {}", answer.code, answer.body);
    }
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_leads_to_an_agent_it_may_read_by_name_and_nothing_else() -> Result<()> {
    let lab = lab().await?;
    let agent = lab.person("agent:h1", &["agents"]);
    let (secrets, maps) = ("/api/v1/namespaces/default/secrets", "/api/v1/namespaces/default/configmaps");
    // The last bears the agent's name, which leads nowhere.
    for name in ["a", "b", "h1"] {
        let secret =
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"k": "v"}});
        lab.call("POST", secrets, &secret).await?.expect(201)?;
    }
    let map = |name: &str, secret: &str, note: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"secret": secret, "note": note}});
    lab.call("POST", maps, &map("leads", "a", "net")).await?.expect(201)?;
    let refusal = agent.forbidden("GET", &format!("{secrets}/a"), &json!({})).await?;
    assert!(refusal.ends_with(": nothing that is of \"h1\" leads to the object"), "{refusal}");
    lab.widget("near", json!({"host": "h1", "note": "net"})).await?;
    agent.get(&format!("{secrets}/a")).await?.expect(200)?;
    lab.person("agent:h2", &["agents"]).get(&format!("{secrets}/a")).await?.expect(403)?;
    for path in ["/b", "/h1", "", "?watch=1", "?fieldSelector=metadata.name%3Da", "?fieldSelector=metadata.name%3Dh1"] {
        agent.get(&format!("{secrets}{path}")).await?.expect(403)?;
    }
    agent.get("/api/v1/secrets").await?.expect(403)?;
    agent.merge(&format!("{secrets}/a"), json!({"metadata": {"finalizers": ["example.dev/x"]}})).await?.expect(403)?;
    agent.raw("DELETE", secrets, "application/json", "").await?.expect(403)?;
    agent.raw("DELETE", &format!("{secrets}/a"), "application/json", "").await?.expect(403)?;
    agent
        .call("POST", secrets, &json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "c"}}))
        .await?
        .expect(403)?;
    // Where the way ends, so does the right; and no way crosses namespaces.
    lab.merge(&format!("{maps}/leads"), json!({"data": {"note": "other"}})).await?.expect(200)?;
    agent.get(&format!("{secrets}/a")).await?.expect(403)?;
    lab.merge(&format!("{maps}/leads"), json!({"data": {"note": "net"}})).await?.expect(200)?;
    agent.get(&format!("{secrets}/a")).await?.expect(200)?;
    lab.delete(&format!("{WIDGETS}/near")).await?.expect(200)?;
    agent.get(&format!("{secrets}/a")).await?.expect(403)?;
    lab.end().await
}

/// A request of somebody whom only a token proves.
async fn by_token(lab: &Lab, method: &str, path: &str, token: &str, body: &str) -> Result<u16> {
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", if method == "PATCH" { MERGE } else { JSON })
        .body(axum::body::Body::from(body.to_owned()))?;
    let Ok(response) = tower::ServiceExt::oneshot(lab.api.router(), request).await;
    Ok(read(response).await?.code)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_calls_as_itself_reaches_itself_and_ends_with_itself() -> Result<()> {
    let lab = lab().await?;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}});
    lab.call("POST", "/api/v1/namespaces", &namespace).await?.expect(201)?;
    let elsewhere = WIDGETS.replace("/default/", "/other/");
    lab.call("POST", &elsewhere, &widget("mine", json!({}))).await?.expect(201)?;
    let mut all = role("nodes", &["*"], &["*"], &["*"]);
    all["kind"] = json!("ClusterRole");
    lab.call("POST", "/apis/rbac.authorization.k8s.io/v1/clusterroles", &all).await?.expect(201)?;
    let mut bound = binding("nodes", ("ClusterRole", "nodes"), "");
    bound["kind"] = json!("ClusterRoleBinding");
    bound["subjects"] = json!([{"kind": "Group", "name": "nodes"}]);
    lab.call("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", &bound).await?.expect(201)?;

    let ask = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    let agent = lab.person("agent:h1", &["agents"]);
    agent.call("POST", &format!("{WIDGETS}/theirs/token"), &ask).await?.expect(403)?;
    lab.person("jane", &[]).call("POST", &format!("{WIDGETS}/mine/token"), &ask).await?.expect(403)?;
    lab.call("POST", &format!("{WIDGETS}/none/token"), &ask).await?.expect(404)?;
    lab.call("POST", "/api/v1/namespaces/default/configmaps/mine/token", &ask).await?.expect(405)?;
    let given = agent.call("POST", &format!("{WIDGETS}/mine/token"), &ask).await?.expect(201)?;
    let token = given["status"]["token"].as_str().unwrap_or_default();

    let (list, cluster) = ("?fieldSelector=metadata.name%3Dmine", "/apis/example.dev/v1/widgets");
    for (method, path, body, code) in [
        ("GET", format!("{WIDGETS}/mine"), "", 200),
        ("GET", format!("{WIDGETS}{list}"), "", 200),
        ("GET", format!("{WIDGETS}/theirs"), "", 403),
        ("GET", WIDGETS.to_owned(), "", 403),
        // Of the same name, and another tenant's.
        ("GET", format!("{elsewhere}/mine"), "", 403),
        ("GET", format!("{elsewhere}/none"), "", 403),
        ("GET", format!("{elsewhere}{list}"), "", 403),
        ("GET", format!("{cluster}{list}"), "", 403),
        ("PATCH", format!("{WIDGETS}/mine"), r#"{"spec": {"note": "x"}}"#, 403),
        ("PATCH", format!("{WIDGETS}/mine"), r#"{"metadata": {"finalizers": ["a.b/c"]}}"#, 200),
        ("PATCH", format!("{WIDGETS}/mine"), r#"{"metadata": {"finalizers": []}}"#, 200),
        ("PATCH", format!("{elsewhere}/mine"), r#"{"metadata": {"finalizers": ["a.b/c"]}}"#, 403),
    ] {
        ensure!(by_token(&lab, method, &path, token, body).await? == code, "{method} {path} {body} is not {code}");
    }
    for (namespace, name, code) in [("default", "mine", 201), ("default", "theirs", 403), ("other", "mine", 403)] {
        let path = format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases");
        let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}});
        let found = by_token(&lab, "POST", &path, token, &lease.to_string()).await?;
        ensure!(found == code, "a lease {namespace}/{name}: {found}");
    }
    lab.delete(&format!("{WIDGETS}/mine")).await?.expect(200)?;
    lab.widget("mine", json!({"host": "h1"})).await?;
    ensure!(by_token(&lab, "GET", &format!("{WIDGETS}/mine"), token, "").await? == 401, "its successor is another one");
    // A name that says no namespace is nobody's.
    lab.person("node:mine", &["nodes"]).get(&format!("{WIDGETS}/mine")).await?.expect(403)?;
    lab.end().await
}
