//! Roles and bindings: who may, who may not, and in which words.

use anyhow::Result;
use serde_json::{Value, json};

use crate::lab::{Lab, WIDGETS, widget};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

pub fn role(name: &str, groups: &[&str], resources: &[&str], verbs: &[&str]) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": name},
        "rules": [{"apiGroups": groups, "resources": resources, "verbs": verbs}],
    })
}

pub fn cluster_role(name: &str, groups: &[&str], resources: &[&str], verbs: &[&str]) -> Value {
    let mut role = role(name, groups, resources, verbs);
    role["kind"] = json!("ClusterRole");
    role
}

pub fn binding(name: &str, role: (&str, &str), user: &str) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role.0, "name": role.1},
        "subjects": [{"kind": "User", "name": user}],
    })
}

pub fn in_namespace(namespace: &str, plural: &str) -> String {
    format!("{RBAC}/namespaces/{namespace}/{plural}")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_rule_allows_is_forbidden_before_anything_is_read() -> Result<()> {
    let lab = Lab::new().await?;
    let jane = lab.person("jane", &[]);
    lab.widget("a", json!({})).await?;
    let refused = |verb: &str, what: &str| {
        format!(
            "widgets.example.dev {what}is forbidden: User \"jane\" cannot {verb} resource \"widgets\" in API group \
             \"example.dev\" in the namespace \"default\""
        )
    };
    assert_eq!(jane.forbidden("GET", WIDGETS, &json!({})).await?, refused("list", ""));
    assert_eq!(jane.forbidden("GET", &format!("{WIDGETS}?watch=1"), &json!({})).await?, refused("watch", ""));
    assert_eq!(jane.forbidden("POST", WIDGETS, &widget("b", json!({}))).await?, refused("create", ""));
    // What is there and what is not look alike.
    for name in ["a", "missing"] {
        let path = format!("{WIDGETS}/{name}");
        assert_eq!(jane.forbidden("GET", &path, &json!({})).await?, refused("get", &format!("\"{name}\" ")));
        jane.forbidden("DELETE", &path, &json!({})).await?;
        jane.forbidden("PUT", &path, &widget(name, json!({}))).await?;
    }
    let nothing = "/apis/nothing.dev/v1/namespaces/default/things";
    assert!(jane.forbidden("GET", nothing, &json!({})).await?.starts_with("things.nothing.dev is forbidden"));
    assert_eq!(
        jane.forbidden("GET", "/metrics", &json!({})).await?,
        "forbidden: User \"jane\" cannot get path \"/metrics\""
    );
    for path in ["/api", "/apis", "/apis/example.dev/v1", "/openapi/v3", "/openapi/v2", "/version"] {
        assert_eq!(jane.get(path).await?.code, 200, "{path}");
    }
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binding_works_and_ends_with_the_next_request() -> Result<()> {
    let lab = Lab::new().await?;
    let jane = lab.person("jane", &[]);
    let (roles, bindings) = (in_namespace("default", "roles"), in_namespace("default", "rolebindings"));
    lab.call("POST", &roles, &role("r", &["example.dev"], &["widgets"], &["list"])).await?.expect(201)?;
    for round in 0..20 {
        jane.get(WIDGETS).await?.expect(403)?;
        lab.call("POST", &bindings, &binding("b", ("Role", "r"), "jane")).await?.expect(201)?;
        jane.get(WIDGETS).await?.expect(200)?;
        jane.get("/apis/example.dev/v1/widgets").await?.expect(403)?;
        lab.delete(&format!("{bindings}/b")).await?.expect(200)?;
        anyhow::ensure!(jane.get(WIDGETS).await?.code == 403, "round {round}");
    }
    // A binding may come before its role, and a role may change under it.
    lab.call("POST", &bindings, &binding("b", ("Role", "later"), "jane")).await?.expect(201)?;
    let status = jane.get(WIDGETS).await?.expect(403)?;
    let message = status["message"].as_str().unwrap_or("");
    assert!(message.ends_with(": RBAC: role.rbac.authorization.k8s.io \"later\" not found"), "{message}");
    lab.call("POST", &roles, &role("later", &["example.dev"], &["widgets"], &["get"])).await?.expect(201)?;
    jane.get(WIDGETS).await?.expect(403)?;
    let all = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]);
    lab.merge(&format!("{roles}/later"), json!({"rules": all})).await?.expect(200)?;
    jane.get(WIDGETS).await?.expect(200)?;
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_name_opens_one_object_also_in_lists() -> Result<()> {
    let lab = Lab::new().await?;
    let jane = lab.person("jane", &[]);
    for name in ["a", "b"] {
        lab.widget(name, json!({})).await?;
    }
    let mut named = role("r", &["example.dev"], &["widgets"], &["get", "list"]);
    named["rules"][0]["resourceNames"] = json!(["a"]);
    lab.call("POST", &in_namespace("default", "roles"), &named).await?.expect(201)?;
    let bound = binding("b", ("Role", "r"), "jane");
    lab.call("POST", &in_namespace("default", "rolebindings"), &bound).await?.expect(201)?;
    jane.get(&format!("{WIDGETS}/a")).await?.expect(200)?;
    jane.get(&format!("{WIDGETS}/b")).await?.expect(403)?;
    jane.get(WIDGETS).await?.expect(403)?;
    let list = jane.get(&format!("{WIDGETS}?fieldSelector=metadata.name%3Da")).await?.expect(200)?;
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1));
    for evasion in ["metadata.name%3Db", "metadata.name!%3Db", "metadata.name%3D", "metadata.namespace%3Da"] {
        jane.get(&format!("{WIDGETS}?fieldSelector={evasion}")).await?.expect(403)?;
    }
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_hands_out_what_they_do_not_have() -> Result<()> {
    let lab = Lab::new().await?;
    let jane = lab.person("jane", &["dev"]);
    let (roles, bindings) = (in_namespace("default", "roles"), in_namespace("default", "rolebindings"));
    let admin = binding("jane", ("ClusterRole", "admin"), "jane");
    lab.call("POST", &bindings, &admin).await?.expect(201)?;

    let own = role("own", &[""], &["configmaps"], &["get", "list"]);
    jane.call("POST", &roles, &own).await?.expect(201)?;
    let more = role("more", &["", "example.dev"], &["secrets", "widgets"], &["get", "list"]);
    assert_eq!(
        jane.forbidden("POST", &roles, &more).await?,
        "roles.rbac.authorization.k8s.io \"more\" is forbidden: user \"jane\" (groups=[\"dev\" \
         \"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n\
         {APIGroups:[\"\"], Resources:[\"widgets\"], Verbs:[\"get\" \"list\"]}\n\
         {APIGroups:[\"example.dev\"], Resources:[\"secrets\"], Verbs:[\"get\" \"list\"]}\n\
         {APIGroups:[\"example.dev\"], Resources:[\"widgets\"], Verbs:[\"get\" \"list\"]}"
    );
    let grown = json!({"rules": more["rules"]});
    jane.merge(&format!("{roles}/own"), grown.clone()).await?.expect(403)?;
    // What leaves the rules as they are needs nothing.
    lab.call("POST", &roles, &more).await?.expect(201)?;
    jane.merge(&format!("{roles}/more"), json!({"metadata": {"labels": {"a": "b"}}})).await?.expect(200)?;

    jane.call("POST", &bindings, &binding("ok", ("Role", "own"), "john")).await?.expect(201)?;
    jane.call("POST", &bindings, &binding("peer", ("ClusterRole", "admin"), "john")).await?.expect(201)?;
    for role in [("Role", "more"), ("ClusterRole", "cluster-admin")] {
        let message = jane.forbidden("POST", &bindings, &binding("up", role, "jane")).await?;
        assert!(message.contains("is attempting to grant RBAC permissions not currently held"), "{message}");
    }
    let missing = jane.call("POST", &bindings, &binding("none", ("Role", "none"), "jane")).await?.expect(404)?;
    assert_eq!(missing["message"], "roles.rbac.authorization.k8s.io \"none\" not found");

    let mut bind = role("bind", &["rbac.authorization.k8s.io"], &["roles"], &["bind"]);
    bind["rules"][0]["resourceNames"] = json!(["more"]);
    lab.call("POST", &roles, &bind).await?.expect(201)?;
    lab.call("POST", &bindings, &binding("bind", ("Role", "bind"), "jane")).await?.expect(201)?;
    jane.call("POST", &bindings, &binding("up", ("Role", "more"), "jane")).await?.expect(201)?;
    let escalate = role("escalate", &["rbac.authorization.k8s.io"], &["roles"], &["escalate"]);
    lab.call("POST", &roles, &escalate).await?.expect(201)?;
    lab.call("POST", &bindings, &binding("escalate", ("Role", "escalate"), "jane")).await?.expect(201)?;
    jane.merge(&format!("{roles}/own"), json!({"rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]}))
        .await?
        .expect(200)?;
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_that_make_no_sense_are_refused_by_field() -> Result<()> {
    let lab = Lab::new().await?;
    let roles = in_namespace("default", "roles");
    let table = [
        (json!([{"apiGroups": [""], "resources": ["a"], "verbs": []}]), "rules[0].verbs", "FieldValueRequired"),
        (json!([{"resources": ["a"], "verbs": ["get"]}]), "rules[0].apiGroups", "FieldValueRequired"),
        (json!([{"apiGroups": [""], "verbs": ["get"]}]), "rules[0].resources", "FieldValueRequired"),
        (json!([{"nonResourceURLs": ["/x"], "verbs": ["get"]}]), "rules[0].nonResourceURLs", "FieldValueInvalid"),
    ];
    for (rules, field, reason) in table {
        let mut document = role("r", &[], &[], &[]);
        document["rules"] = rules;
        let status = lab.call("POST", &roles, &document).await?.expect(422)?;
        assert_eq!(status["details"]["causes"][0]["field"], field, "{status}");
        assert_eq!(status["details"]["causes"][0]["reason"], reason, "{status}");
    }
    let bindings = in_namespace("default", "rolebindings");
    let made = lab.call("POST", &bindings, &binding("b", ("Role", "r"), "jane")).await?.expect(201)?;
    assert_eq!(made["subjects"][0]["apiGroup"], "rbac.authorization.k8s.io");
    let moved = lab.merge(&format!("{bindings}/b"), json!({"roleRef": {"name": "other"}})).await?.expect(422)?;
    assert!(moved["message"].as_str().unwrap_or("").contains("cannot change roleRef"), "{moved}");
    let mut account = binding("c", ("Role", "r"), "robot");
    account["subjects"] = json!([{"kind": "ServiceAccount", "name": "robot"}]);
    let status = lab.call("POST", &bindings, &account).await?.expect(422)?;
    assert_eq!(status["details"]["causes"][0]["field"], "subjects[0].namespace");
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn aggregated_roles_follow_the_labels() -> Result<()> {
    let lab = Lab::new().await?;
    let jane = lab.person("jane", &[]);
    lab.call("POST", &in_namespace("default", "rolebindings"), &binding("b", ("ClusterRole", "admin"), "jane"))
        .await?
        .expect(201)?;
    jane.get(WIDGETS).await?.expect(403)?;
    let mut widgets = cluster_role("widgets-view", &["example.dev"], &["widgets"], &["get", "list", "watch"]);
    widgets["metadata"]["labels"] = json!({"rbac.authorization.k8s.io/aggregate-to-view": "true"});
    lab.call("POST", &format!("{RBAC}/clusterroles"), &widgets).await?.expect(201)?;
    let has = |role: &Value| role["rules"].to_string().contains("example.dev");
    // Over view and edit up to admin.
    lab.until(&format!("{RBAC}/clusterroles/admin"), has).await?;
    jane.get(WIDGETS).await?.expect(200)?;
    lab.merge(&format!("{RBAC}/clusterroles/view"), json!({"rules": []})).await?.expect(200)?;
    lab.until(&format!("{RBAC}/clusterroles/view"), has).await?;
    lab.delete(&format!("{RBAC}/clusterroles/widgets-view")).await?.expect(200)?;
    lab.until(&format!("{RBAC}/clusterroles/admin"), |role| !has(role)).await?;
    jane.get(WIDGETS).await?.expect(403)?;
    lab.end().await
}

fn review(kind: &str, spec: &Value) -> Value {
    json!({"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec})
}

#[tokio::test(flavor = "multi_thread")]
async fn reviews_answer_as_the_requests_would() -> Result<()> {
    let lab = Lab::new().await?;
    let jane = lab.person("jane", &[]);
    let roles = in_namespace("default", "roles");
    lab.call("POST", &roles, &role("r", &["example.dev"], &["widgets"], &["list"])).await?.expect(201)?;
    lab.call("POST", &in_namespace("default", "rolebindings"), &binding("b", ("Role", "r"), "jane"))
        .await?
        .expect(201)?;
    let asks =
        |verb: &str| json!({"namespace": "default", "group": "example.dev", "resource": "widgets", "verb": verb});
    let own = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    for (verb, allowed) in [("list", true), ("get", false)] {
        let spec = json!({"resourceAttributes": asks(verb)});
        let answer = jane.call("POST", own, &review("SelfSubjectAccessReview", &spec)).await?.expect(201)?;
        assert_eq!(answer["status"]["allowed"], allowed, "{verb}: {answer}");
        let others = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        let spec = json!({"user": "jane", "resourceAttributes": asks(verb)});
        let answer = lab.call("POST", others, &review("SubjectAccessReview", &spec)).await?.expect(201)?;
        assert_eq!(answer["status"]["allowed"], allowed, "{verb}: {answer}");
        jane.call("POST", others, &review("SubjectAccessReview", &spec)).await?.expect(403)?;
        let here = "/apis/authorization.k8s.io/v1/namespaces/default/localsubjectaccessreviews";
        let answer = lab.call("POST", here, &review("LocalSubjectAccessReview", &spec)).await?.expect(201)?;
        assert_eq!(answer["status"]["allowed"], allowed, "{verb}: {answer}");
        let there = "/apis/authorization.k8s.io/v1/namespaces/photon-system/localsubjectaccessreviews";
        lab.call("POST", there, &review("LocalSubjectAccessReview", &spec)).await?.expect(422)?;
    }
    let path = json!({"nonResourceAttributes": {"path": "/metrics", "verb": "get"}});
    let answer = jane.call("POST", own, &review("SelfSubjectAccessReview", &path)).await?.expect(201)?;
    assert_eq!(answer["status"]["allowed"], false);
    let both = json!({"resourceAttributes": {}, "nonResourceAttributes": {}});
    jane.call("POST", own, &review("SelfSubjectAccessReview", &both)).await?.expect(422)?;
    let rules = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let spec = json!({"namespace": "default"});
    let answer = jane.call("POST", rules, &review("SelfSubjectRulesReview", &spec)).await?.expect(201)?;
    let listed = answer["status"]["resourceRules"].as_array().cloned().unwrap_or_default();
    let mine = json!({"verbs": ["list"], "apiGroups": ["example.dev"], "resources": ["widgets"]});
    assert!(listed.contains(&mine), "{answer}");
    lab.end().await
}
