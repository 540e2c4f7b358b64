//! The oldest kubectl in use: Debian 12's, of Kubernetes 1.20.
//!
//! It knows no aggregated discovery, no OpenAPI v3 and no field validation on the server, and asks for Tables of v1beta1.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use serde_json::json;

use crate::kubectl::Kubectl;
use crate::lab::{Lab, widget};
use crate::tls::serve;

fn program() -> Result<PathBuf> {
    if let Some(given) = std::env::var_os("KUBECTL_OLDEST") {
        return Ok(given.into());
    }
    let tools =
        std::env::var_os("CLUSTERCTL_TOOLS").map_or_else(|| "/var/cache/clusterctl/tools".into(), PathBuf::from);
    let file = tools.join("usr/bin/kubectl");
    ensure!(file.is_file(), "{} is missing: run `.ci/install test`, or set KUBECTL_OLDEST", file.display());
    Ok(file)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_kubectl_still_does_its_work() -> Result<()> {
    let lab = Lab::new().await?;
    let home = tempfile::tempdir()?;
    let served = serve(&lab, home.path()).await?;
    let kubectl = Kubectl::of(program()?, home.path(), &served)?;
    ensure!(kubectl.run("version --short", "").await?.contains("Client Version: v1.20"), "this is another kubectl");
    let manifest = widget("a", json!({"size": 3, "colour": "red"})).to_string();
    kubectl.run("apply -f -", &manifest).await?;
    assert_eq!(kubectl.run("apply -f -", &manifest).await?, "widget.example.dev/a unchanged\n");
    let changed = widget("a", json!({"size": 4})).to_string();
    assert_eq!(kubectl.output("diff -f -", &changed).await?.status.code(), Some(1));
    assert_eq!(kubectl.run("apply -f -", &changed).await?, "widget.example.dev/a configured\n");
    assert_eq!(kubectl.run("get wd a -o jsonpath={.spec}", "").await?, r#"{"size":4}"#);
    // It checks against OpenAPI v2 before it asks.
    let unknown = kubectl.fails("create -f -", &widget("b", json!({"sise": 3})).to_string()).await?;
    ensure!(unknown.contains("unknown field \"sise\""), "{unknown}");
    for (words, expected) in [
        ("get widgets", "a      4"),
        ("describe wd a", "Size:  4"),
        ("explain wd.spec", "colour"),
        ("explain subjectaccessreview.spec", "resourceAttributes"),
        ("api-resources", "widgets"),
        ("auth can-i create widgets", "yes"),
    ] {
        let shown = kubectl.run(words, "").await?;
        ensure!(shown.contains(expected), "kubectl {words}: {shown}");
    }
    kubectl.run("create ns tenant", "").await?;
    kubectl.run("create cm m -n tenant --from-literal=a=1", "").await?;
    kubectl.run("create secret generic s -n tenant --from-literal=a=1", "").await?;
    kubectl.run("create sa robot -n tenant", "").await?;
    kubectl.run(r#"patch cm m -n tenant -p {"data":{"b":"2"}}"#, "").await?;
    assert_eq!(kubectl.run("get cm m -n tenant -o jsonpath={.data}", "").await?, r#"{"a":"1","b":"2"}"#);
    kubectl.run("label wd a tier=front", "").await?;
    kubectl.run("wait --for=jsonpath={.spec.size}=4 wd/a --timeout=1s", "").await.expect_err("it learned that in 1.23");
    kubectl.run("delete wd -l tier=front", "").await?;
    kubectl.run("delete ns tenant --timeout=15s", "").await?;
    ensure!(kubectl.fails("get ns tenant", "").await?.contains("NotFound"));
    served.stop().await?;
    lab.end().await
}
