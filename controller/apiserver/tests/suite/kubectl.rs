//! The real kubectl, over TLS.
//!
//! Found as `KUBECTL`, else in the tools directory, else on `PATH`; without one the test fails, because then nothing is
//! proved.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use anyhow::{Context, Result, ensure};
use pki::{Subject, Usage};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

use crate::lab::{Lab, SOON, widget, widget_crd};
use crate::tls::{Served, serve};

pub struct Kubectl {
    program: PathBuf,
    home: PathBuf,
}

impl Kubectl {
    pub fn new(home: &Path, served: &Served) -> Result<Kubectl> {
        Self::of(testkit::tool("kubectl", "KUBECTL")?, home, served)
    }

    /// A certain kubectl, with a home of its own.
    pub fn of(program: PathBuf, home: &Path, served: &Served) -> Result<Kubectl> {
        Self::with(program, home, served, &Subject::new("admin", ["system:masters"]))
    }

    /// kubectl as somebody with a certificate of these words.
    pub fn person(home: &Path, served: &Served, user: &str, groups: &[&str]) -> Result<Kubectl> {
        Self::with(testkit::tool("kubectl", "KUBECTL")?, home, served, &Subject::new(user, groups.iter().copied()))
    }

    fn with(program: PathBuf, home: &Path, served: &Served, subject: &Subject) -> Result<Kubectl> {
        let client = served.authority.issue(subject, &Usage::Client)?;
        std::fs::write(home.join("ca.crt"), served.authority.cert_pem())?;
        std::fs::write(home.join("client.crt"), &client.cert_pem)?;
        std::fs::write(home.join("client.key"), &client.key_pem)?;
        let server = format!("https://{}", served.address);
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "lab",
            "clusters": [{"name": "lab", "cluster": {"server": server, "certificate-authority": "ca.crt"}}],
            "users": [{"name": "lab", "user": {"client-certificate": "client.crt", "client-key": "client.key"}}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
        });
        std::fs::write(home.join("kubeconfig"), config.to_string())?;
        Ok(Kubectl { program, home: home.to_owned() })
    }

    /// kubectl with a token and no certificate.
    pub fn with_token(home: &Path, served: &Served, token: &str) -> Result<Kubectl> {
        let kubectl = Self::new(home, served)?;
        let path = home.join("kubeconfig");
        let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&path)?)?;
        config["users"][0]["user"] = json!({"token": token});
        std::fs::write(&path, config.to_string())?;
        Ok(kubectl)
    }

    pub fn command(&self, words: &str) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(words.split_whitespace())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &self.home)
            .env("KUBECONFIG", self.home.join("kubeconfig"))
            .env("KUBE_EDITOR", self.home.join("editor"))
            .env("TMPDIR", &self.home)
            .kill_on_drop(true);
        command
    }

    pub async fn output(&self, words: &str, input: &str) -> Result<Output> {
        let mut command = self.command(words);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot run {}", self.program.display()))?;
        let mut stdin = child.stdin.take().context("no stdin")?;
        stdin.write_all(input.as_bytes()).await?;
        drop(stdin);
        tokio::time::timeout(SOON, child.wait_with_output())
            .await
            .with_context(|| format!("kubectl {words} hangs"))?
            .map_err(Into::into)
    }

    /// What a succeeding command prints.
    pub async fn run(&self, words: &str, input: &str) -> Result<String> {
        let output = self.output(words, input).await?;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "kubectl {words}: {error}");
        ensure!(!error.contains("Warning: resource"), "kubectl {words}: {error}");
        Ok(String::from_utf8(output.stdout)?)
    }

    /// What a failing command complains of.
    pub async fn fails(&self, words: &str, input: &str) -> Result<String> {
        let output = self.output(words, input).await?;
        ensure!(!output.status.success(), "kubectl {words} succeeded");
        Ok(String::from_utf8(output.stderr)?)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_custom_resource_lives_its_life_through_kubectl() -> Result<()> {
    let lab = Lab::new().await?;
    let dir = tempfile::tempdir()?;
    let served = serve(&lab, dir.path()).await?;
    let kubectl = Kubectl::new(dir.path(), &served)?;
    let manifest = widget("a", json!({"size": 3, "colour": "red"})).to_string();

    assert!(kubectl.run("api-resources", "").await?.contains("widgets"));
    assert_eq!(kubectl.run("apply -f -", &manifest).await?, "widget.example.dev/a created\n");
    assert_eq!(kubectl.run("apply -f -", &manifest).await?, "widget.example.dev/a unchanged\n");
    let larger = widget("a", json!({"size": 4})).to_string();
    assert_eq!(kubectl.run("apply -f -", &larger).await?, "widget.example.dev/a configured\n");
    assert_eq!(kubectl.run("get wd a -o jsonpath={.spec}", "").await?, r#"{"size":4}"#);
    let table = kubectl.run("get widgets", "").await?;
    assert_eq!(table.split_whitespace().collect::<Vec<_>>(), ["NAME", "SIZE", "a", "4"]);
    assert!(kubectl.run("explain widget.spec", "").await?.contains("colour"));
    assert!(kubectl.run("describe wd a", "").await?.contains("Size:  4"));
    kubectl.run(r#"patch wd a --subresource=status --type=merge -p {"status":{"phase":"Ready"}}"#, "").await?;
    kubectl.run("wait --for=jsonpath={.status.phase}=Ready wd/a --timeout=10s", "").await?;
    kubectl.run("label wd a tier=front", "").await?;
    assert_eq!(kubectl.run("get wd -l tier=front -o name", "").await?, "widget.example.dev/a\n");
    let unknown = widget("b", json!({"sise": 3})).to_string();
    assert!(kubectl.fails("create -f -", &unknown).await?.contains("unknown field \"spec.sise\""));
    let large = widget("b", json!({"size": 300})).to_string();
    assert!(kubectl.fails("create -f -", &large).await?.contains("The Widget \"b\" is invalid: spec.size"));
    assert!(kubectl.fails("get wd b", "").await?.contains("(NotFound): widgets.example.dev \"b\" not found"));
    kubectl.run("delete wd a --wait=true", "").await?;
    assert!(kubectl.fails("get wd a", "").await?.contains("NotFound"));
    kubectl.run("delete crd widgets.example.dev", "").await?;
    kubectl.run("create -f -", &widget_crd().to_string()).await?;
    kubectl.run("wait --for=condition=Established crd/widgets.example.dev --timeout=10s", "").await?;
    served.stop().await?;
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn machinery_kinds_work_through_kubectl() -> Result<()> {
    let lab = Lab::new().await?;
    let dir = tempfile::tempdir()?;
    let served = serve(&lab, dir.path()).await?;
    let kubectl = Kubectl::new(dir.path(), &served)?;
    assert!(kubectl.run("get --raw /readyz", "").await?.contains("ok"));
    kubectl.run("create namespace tenant", "").await?;
    kubectl.run("-n tenant create configmap c --from-literal=k=v", "").await?;
    kubectl.run("-n tenant create secret generic s --from-literal=k=v", "").await?;
    kubectl.run("-n tenant create serviceaccount robot", "").await?;
    assert_eq!(kubectl.run("-n tenant get cm c -o jsonpath={.data.k}", "").await?, "v");
    assert_eq!(kubectl.run("-n tenant get secret s -o jsonpath={.data.k}", "").await?, "dg==");
    let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c2"}, "data": {"a": "1"}});
    kubectl.run("-n tenant apply -f -", &config.to_string()).await?;
    let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c2"}, "data": {"b": "2"}});
    kubectl.run("-n tenant apply -f -", &config.to_string()).await?;
    assert_eq!(kubectl.run("-n tenant get cm c2 -o jsonpath={.data}", "").await?, r#"{"b":"2"}"#);
    assert_eq!(kubectl.run("auth can-i create widgets", "").await?, "yes\n");
    assert!(kubectl.run("auth whoami", "").await?.contains("admin"));
    kubectl.run("delete namespace tenant --wait=true", "").await?;
    assert!(kubectl.fails("get ns tenant", "").await?.contains("NotFound"));
    served.stop().await?;
    lab.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_watches() -> Result<()> {
    let lab = Lab::new().await?;
    let dir = tempfile::tempdir()?;
    let served = serve(&lab, dir.path()).await?;
    let kubectl = Kubectl::new(dir.path(), &served)?;
    lab.widget("a", json!({"size": 1})).await?;
    let mut child = kubectl.command("get wd -w --output-watch-events").stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("no stdout")?).lines();
    let mut next = async || -> Result<Vec<String>> {
        let line = tokio::time::timeout(SOON, lines.next_line()).await??.context("kubectl ended")?;
        Ok(line.split_whitespace().map(str::to_owned).collect())
    };
    assert_eq!(next().await?, ["EVENT", "NAME", "SIZE"]);
    assert_eq!(next().await?, ["ADDED", "a", "1"]);
    lab.merge(&format!("{}/a", crate::lab::WIDGETS), json!({"spec": {"size": 2}})).await?.expect(200)?;
    assert_eq!(next().await?, ["MODIFIED", "a", "2"]);
    lab.delete(&format!("{}/a", crate::lab::WIDGETS)).await?.expect(200)?;
    assert_eq!(next().await?, ["DELETED", "a", "2"]);
    child.kill().await?;
    served.stop().await?;
    lab.end().await
}
