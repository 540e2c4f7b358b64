//! A Namespace is a tenant: nothing of one can be seen, named or touched from another without a binding.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::access::{binding, cluster_role, in_namespace};
use crate::lab::{Lab, Person, widget};

/// Two tenants with the same things in both; jane is the administrator of the first.
async fn lab() -> Result<Lab> {
    let lab = Lab::new().await?;
    let mut widgets = cluster_role("widgets", &["example.dev"], &["widgets"], &["*"]);
    widgets["metadata"]["labels"] = json!({"rbac.authorization.k8s.io/aggregate-to-edit": "true"});
    lab.call("POST", "/apis/rbac.authorization.k8s.io/v1/clusterroles", &widgets).await?.expect(201)?;
    let admin = "/apis/rbac.authorization.k8s.io/v1/clusterroles/admin";
    lab.until(admin, |role| role["rules"].to_string().contains("example.dev")).await?;
    for tenant in ["a", "b"] {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": tenant}});
        lab.call("POST", "/api/v1/namespaces", &namespace).await?.expect(201)?;
        lab.call("POST", &widgets_of(tenant), &widget("there", json!({}))).await?.expect(201)?;
        let secret =
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "there"}, "stringData": {"k": "v"}});
        lab.call("POST", &format!("/api/v1/namespaces/{tenant}/secrets"), &secret).await?.expect(201)?;
    }
    let jane = binding("jane", ("ClusterRole", "admin"), "jane");
    lab.call("POST", &in_namespace("a", "rolebindings"), &jane).await?.expect(201)?;
    Ok(lab)
}

fn widgets_of(tenant: &str) -> String {
    format!("/apis/example.dev/v1/namespaces/{tenant}/widgets")
}

/// Every served kind: the path of its version, its plural, whether it lives in namespaces.
async fn kinds(lab: &Lab) -> Result<Vec<(String, String, bool)>> {
    let mut versions = vec!["/api/v1".to_owned()];
    let groups = lab.get("/apis").await?.expect(200)?;
    for group in groups["groups"].as_array().into_iter().flatten() {
        for version in group["versions"].as_array().into_iter().flatten() {
            versions.push(format!("/apis/{}", version["groupVersion"].as_str().unwrap_or("")));
        }
    }
    let mut kinds = Vec::new();
    for version in versions {
        let list = lab.get(&version).await?.expect(200)?;
        for resource in list["resources"].as_array().into_iter().flatten() {
            let name = resource["name"].as_str().unwrap_or("").to_owned();
            kinds.push((version.clone(), name, resource["namespaced"] == true));
        }
    }
    ensure!(kinds.len() > 12, "too few kinds: {kinds:?}");
    Ok(kinds)
}

/// Everything that can be asked of a path's collection and of one object in it.
fn requests(collection: &str) -> Vec<(&'static str, String)> {
    let (plural, subresource) = match collection.rsplit_once('/') {
        Some((start, last)) if start.ends_with("widgets") || start.ends_with("namespaces") => {
            (start, format!("/{last}"))
        }
        _ => (collection, String::new()),
    };
    let mut all = vec![];
    if subresource.is_empty() {
        all.extend([("GET", plural.to_owned()), ("GET", format!("{plural}?watch=1")), ("POST", plural.to_owned())]);
        all.extend([("GET", format!("{plural}?limit=1")), ("GET", format!("{plural}?resourceVersion=0"))]);
        all.push(("DELETE", plural.to_owned()));
    }
    for name in ["there", "missing"] {
        for method in ["GET", "PUT", "PATCH", "DELETE"] {
            all.push((method, format!("{plural}/{name}{subresource}")));
        }
    }
    all
}

async fn refused(person: &Person<'_>, method: &str, path: &str) -> Result<()> {
    let media = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let answer = person.raw(method, path, media, "{}").await?;
    ensure!(answer.code == 403, "{method} {path}: {} {}", answer.code, answer.body);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_verb_on_any_kind_reaches_another_tenant() -> Result<()> {
    let lab = lab().await?;
    let jane = lab.person("jane", &[]);
    let mut asked = 0;
    for (version, plural, namespaced) in kinds(&lab).await? {
        let base = if namespaced { format!("{version}/namespaces/b/{plural}") } else { format!("{version}/{plural}") };
        for (method, path) in requests(&base) {
            // What may be asked about oneself is everybody's to ask.
            if method == "POST" && plural.starts_with("selfsubject") {
                continue;
            }
            refused(&jane, method, &path).await?;
            asked += 1;
        }
        if namespaced && !plural.contains('/') {
            for query in ["", "?watch=1", "?fieldSelector=metadata.namespace%3Da", "?limit=1"] {
                refused(&jane, "GET", &format!("{version}/{plural}{query}")).await?;
                asked += 1;
            }
        }
    }
    ensure!(asked > 150, "only {asked} requests");
    // The same requests are answered where they are hers to make.
    for plural in ["configmaps", "secrets", "serviceaccounts", "events"] {
        jane.get(&format!("/api/v1/namespaces/a/{plural}")).await?.expect(200)?;
    }
    for path in [widgets_of("a"), in_namespace("a", "roles"), in_namespace("a", "rolebindings")] {
        jane.get(&path).await?.expect(200)?;
    }
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_does_not_tell_what_is_there() -> Result<()> {
    let lab = lab().await?;
    let jane = lab.person("jane", &[]);
    for plural in ["secrets", "configmaps"] {
        let path = |name: &str| format!("/api/v1/namespaces/b/{plural}/{name}");
        let there = jane.forbidden("GET", &path("there"), &json!({})).await?;
        let missing = jane.forbidden("GET", &path("missing"), &json!({})).await?;
        assert_eq!(there.replace("\"there\"", "\"missing\""), missing);
    }
    // Neither does a namespace that does not exist look different from one that does.
    let of = |tenant: &str| format!("/api/v1/namespaces/{tenant}");
    let b = jane.forbidden("GET", &of("b"), &json!({})).await?;
    assert_eq!(b.replace("\"b\"", "\"none\""), jane.forbidden("GET", &of("none"), &json!({})).await?);
    let list = jane.forbidden("GET", "/api/v1/namespaces", &json!({})).await?;
    assert_eq!(
        list,
        "namespaces is forbidden: User \"jane\" cannot list resource \"namespaces\" in API group \"\" at the cluster scope"
    );
    jane.get(&of("a")).await?.expect(200)?;
    jane.merge(&of("a"), json!({"metadata": {"labels": {"x": "y"}}})).await?.expect(403)?;
    jane.raw("DELETE", &of("a"), "application/json", "").await?.expect(403)?;
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_body_and_no_token_leads_into_another_tenant() -> Result<()> {
    let lab = lab().await?;
    let jane = lab.person("jane", &[]);
    let mut elsewhere = widget("new", json!({}));
    elsewhere["metadata"]["namespace"] = json!("b");
    jane.call("POST", &widgets_of("a"), &elsewhere).await?.expect(400)?;
    jane.merge(&format!("{}/there", widgets_of("a")), json!({"metadata": {"namespace": "b"}})).await?.expect(400)?;
    jane.call("POST", &widgets_of("a"), &widget("second", json!({}))).await?.expect(201)?;
    let page = jane.get(&format!("{}?limit=1", widgets_of("a"))).await?.expect(200)?;
    let token = page["metadata"]["continue"].as_str().unwrap_or("").to_owned();
    ensure!(!token.is_empty(), "{page}");
    jane.get(&format!("{}?limit=1&continue={token}", widgets_of("b"))).await?.expect(403)?;
    for path in
        ["/api/v1/namespaces/a/../b/secrets", "/api/v1/namespaces/a%2F..%2Fb/secrets", "/api/v1/namespaces//secrets"]
    {
        let answer = jane.get(path).await?;
        ensure!(matches!(answer.code, 403 | 404), "{path}: {} {}", answer.code, answer.body);
    }
    lab.end().await
}

fn owned_by(owner: &Value, name: &str) -> Value {
    let mut object = widget(name, json!({}));
    object["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "example.dev/v1", "kind": "Widget", "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"], "blockOwnerDeletion": true, "controller": true,
    }]);
    object
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_in_another_tenant_is_no_owner() -> Result<()> {
    let lab = lab().await?;
    let jane = lab.person("jane", &[]);
    let theirs = lab.get(&format!("{}/there", widgets_of("b"))).await?.expect(200)?;
    // As in Kubernetes, the owner is looked for beside the object; it is not there, so the object is garbage.
    jane.call("POST", &widgets_of("a"), &owned_by(&theirs, "claims")).await?.expect(201)?;
    lab.until_code(&format!("{}/claims", widgets_of("a")), 404).await?;
    let kept = lab.get(&format!("{}/there", widgets_of("b"))).await?.expect(200)?;
    assert_eq!(
        kept["metadata"]["resourceVersion"], theirs["metadata"]["resourceVersion"],
        "the other tenant notices nothing"
    );
    // Nor can a claim from here hold up a deletion there.
    let mut held = owned_by(&theirs, "holds");
    held["metadata"]["finalizers"] = json!(["example.dev/never"]);
    jane.call("POST", &widgets_of("a"), &held).await?.expect(201)?;
    let path = format!("{}/there?propagationPolicy=Foreground", widgets_of("b"));
    lab.delete(&path).await?.expect(200)?;
    lab.until_code(&format!("{}/there", widgets_of("b")), 404).await?;
    jane.merge(&format!("{}/holds", widgets_of("a")), json!({"metadata": {"finalizers": []}})).await?;
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_of_one_tenant_tells_nothing_of_another() -> Result<()> {
    let lab = lab().await?;
    let identity = apiserver::Identity::new("jane", &[]);
    let request =
        http::Request::get(format!("{}?watch=1&resourceVersion=0", widgets_of("a"))).body(axum::body::Body::empty())?;
    let response = lab.send_as(&identity, request).await?;
    let mut events = crate::lab::Events::of(response)?;
    assert_eq!(events.word().await?, "ADDED there");
    for name in ["x", "y"] {
        lab.call("POST", &widgets_of("b"), &widget(name, json!({}))).await?.expect(201)?;
    }
    lab.call("POST", &widgets_of("a"), &widget("last", json!({}))).await?.expect(201)?;
    assert_eq!(events.word().await?, "ADDED last");
    lab.end().await
}
