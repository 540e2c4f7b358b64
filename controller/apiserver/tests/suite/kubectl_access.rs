//! kubectl's own commands for roles, bindings and questions about rights.

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::kubectl::Kubectl;
use crate::lab::{Lab, widget};
use crate::tls::serve;

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_hands_out_rights_and_asks_for_them() -> Result<()> {
    let lab = Lab::new().await?;
    let (admin_home, jane_home) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let served = serve(&lab, admin_home.path()).await?;
    let admin = Kubectl::new(admin_home.path(), &served)?;
    let jane = Kubectl::person(jane_home.path(), &served, "jane", &["dev"])?;
    lab.widget("a", json!({"size": 1})).await?;

    let refused = jane.fails("get widgets", "").await?;
    assert_eq!(
        refused.trim(),
        "Error from server (Forbidden): widgets.example.dev is forbidden: User \"jane\" cannot list resource \"widgets\" \
         in API group \"example.dev\" in the namespace \"default\""
    );
    assert_eq!(jane.output("auth can-i list widgets", "").await?.stdout, b"no\n");
    admin.run("create role reader --verb=get,list,watch --resource=widgets.example.dev", "").await?;
    admin.run("create rolebinding jane --role=reader --user=jane", "").await?;
    assert_eq!(jane.run("get widgets -o name", "").await?, "widget.example.dev/a\n");
    assert_eq!(jane.run("auth can-i list widgets", "").await?, "yes\n");
    assert_eq!(jane.output("auth can-i delete widgets", "").await?.stdout, b"no\n");
    assert_eq!(jane.output("auth can-i list widgets -A", "").await?.stdout, b"no\n");
    let list = jane.run("auth can-i --list", "").await?;
    assert!(
        list.lines().any(|line| line.starts_with("widgets.example.dev") && line.contains("[get list watch]")),
        "{list}"
    );
    let me = jane.run("auth whoami", "").await?;
    assert!(me.contains("jane") && me.contains("dev"), "{me}");

    admin.run("create clusterrole nodes --verb=* --resource=namespaces", "").await?;
    admin.run("create clusterrole probe --verb=get --non-resource-url=/metrics", "").await?;
    admin.run("create clusterrolebinding probe --clusterrole=probe --group=dev", "").await?;
    assert!(jane.run("get --raw /metrics", "").await?.contains("clusterctl_apiserver_authorizations_total"));
    admin.run("create serviceaccount robot", "").await?;
    admin.run("create rolebinding robot --clusterrole=view --serviceaccount=default:robot", "").await?;
    let wide = admin.run("get rolebindings -o wide --no-headers", "").await?;
    let row = |name: &str| wide.lines().find(|line| line.starts_with(name)).unwrap_or("").to_owned();
    assert!(row("jane").contains("Role/reader") && row("jane").contains("jane"), "{wide}");
    assert!(row("robot").contains("ClusterRole/view") && row("robot").contains("default/robot"), "{wide}");
    assert!(admin.run("describe rolebinding jane", "").await?.contains("reader"));
    assert!(admin.run("describe clusterrole admin", "").await?.contains("rolebindings"));
    let up = jane.fails("create rolebinding up --clusterrole=cluster-admin --user=jane", "").await?;
    assert!(up.contains("User \"jane\" cannot create resource \"rolebindings\""), "{up}");

    admin.run("delete rolebinding jane", "").await?;
    assert!(jane.fails("get widgets", "").await?.contains("(Forbidden)"));
    assert!(jane.fails("create -f -", &widget("b", json!({})).to_string()).await?.contains("(Forbidden)"));
    let manifest = crate::access::role("applied", &["example.dev"], &["widgets"], &["get"]).to_string();
    assert_eq!(admin.run("apply -f -", &manifest).await?, "role.rbac.authorization.k8s.io/applied created\n");
    assert_eq!(admin.run("apply -f -", &manifest).await?, "role.rbac.authorization.k8s.io/applied unchanged\n");
    served.stop().await?;
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_about_access_are_found_and_asked_as_documents() -> Result<()> {
    let lab = Lab::new().await?;
    let dir = tempfile::tempdir()?;
    let served = serve(&lab, dir.path()).await?;
    let kubectl = Kubectl::new(dir.path(), &served)?;
    let kinds = kubectl.run("api-resources --no-headers -o wide", "").await?;
    for kind in ["selfsubjectaccessreviews", "localsubjectaccessreviews", "subjectaccessreviews", "tokenreviews"] {
        let line = kinds.lines().find(|line| line.starts_with(kind)).context(kind)?;
        ensure!(line.contains(" create"), "{line}");
    }
    // What cannot be listed is in nobody's way.
    ensure!(!kubectl.run("api-resources --verbs=list -o name", "").await?.contains("reviews"), "{kinds}");
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {
        "user": "nobody", "resourceAttributes": {"verb": "list", "resource": "secrets", "namespace": "default"}}});
    let allowed = kubectl.run("create -f - -o jsonpath={.status.allowed}", &review.to_string()).await?;
    ensure!(allowed == "false", "{allowed}");
    served.stop().await?;
    lab.end().await
}
