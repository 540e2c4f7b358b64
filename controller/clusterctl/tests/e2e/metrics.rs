//! The numbers, as the real Prometheus and its checker take them.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use crds::{Host, TestRun};
use http::Request;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::Value;
use testkit::Lab;

use crate::machines;
use crate::objects::{self, SOON, until};

/// A test that needs no machine and records a number.
const COUNTED: &str = "
apiVersion: photoncloud.dev/v1alpha1
kind: TenantNetwork
metadata: {name: net}
spec: {subnet: 10.62.0.0/24}
---
apiVersion: photoncloud.dev/v1alpha1
kind: TestRun
metadata: {name: counted}
spec:
  steps:
    - name: vni
      attempts: 20
      durationMetric: allocation_seconds
      assert: {object: {kind: TenantNetwork, name: net}, jsonPath: .status.vni, atLeast: 1, metric: vni, unit: \"1\"}
";

/// What the control plane and the test engine look at.
const KINDS: [&str; 9] =
    ["Cluster", "Node", "TenantNetwork", "Port", "VirtualMachine", "Image", "Fault", "Host", "TestRun"];

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_scrapes_the_server_and_its_checker_finds_nothing() -> Result<()> {
    let lab = Lab::up(&["--no-agent"])?;
    lab.run(&["run", &lab.write("counted.yaml", COUNTED)?.display().to_string()])?.ok()?;
    let client = objects::client(&lab).await?;
    let run: TestRun = Api::default_namespaced(client.clone()).get("counted").await?;
    let vni = run.status.context("no status")?.metrics.iter().find(|m| m.name == "vni").context("no vni")?.value;

    let text = client.request_text(Request::get("/metrics").body(Vec::new())?).await?;
    check(&text)?;
    for name in [
        "clusterctl_reconcile",
        "clusterctl_store_request_duration_seconds",
        "clusterctl_store_writes_total",
        "clusterctl_testrun_phase",
        "clusterctl_testrun_metric",
    ] {
        ensure!(text.contains(name), "{name} is not there:\n{text}");
    }

    // Every loop tells from its start how much waits for it; in the end nothing does, and these two have been looked at.
    let mut wanted: Vec<String> =
        KINDS.iter().map(|kind| format!("clusterctl_reconcile_queue_depth{{kind=\"{kind}\"}} 0\n")).collect();
    wanted.extend(
        ["TenantNetwork", "TestRun"]
            .map(|kind| format!("clusterctl_reconcile_total{{kind=\"{kind}\",result=\"ok\"}} ")),
    );
    let told = async || {
        let text = client.request_text(Request::get("/metrics").body(Vec::new())?).await?;
        let missing: Vec<_> = wanted.iter().filter(|line| !text.contains(*line)).collect();
        ensure!(missing.is_empty(), "missing: {missing:?}");
        Ok(Some(()))
    };
    until("a look at everything", SOON, told).await?;

    let prometheus = Prometheus::start(&lab)?;
    until("a scrape", SOON, async || Ok((prometheus.ask("up")? == ["1"]).then_some(()))).await?;
    let asked = prometheus.ask("clusterctl_testrun_metric{testrun=\"counted\",metric=\"vni\",unit=\"1\"}")?;
    ensure!(asked == [vni.to_string()], "Prometheus says {asked:?}, the run {vni}");
    ensure!(prometheus.ask("clusterctl_testrun_phase{phase=\"Passed\"} == 1")?.len() == 1, "the verdict is not there");
    drop(prometheus);
    lab.finish()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agents_numbers_are_clean_and_for_the_server_alone() -> Result<()> {
    let lab = Lab::up(&[])?;
    let hosts: Api<Host> = Api::all(objects::client(&lab).await?);
    let host = hosts.get("host01").await?;
    let endpoint = host.status.and_then(|status| status.endpoint).context("the host tells no endpoint")?;
    let as_server = door(&lab, &endpoint, "server").await?;
    // An agent that has done nothing has nothing to count.
    lab.apply(&machines::standstill(&lab)?)?.ok()?;
    let counted = async || {
        let text = as_server.request_text(Request::get("/metrics").body(Vec::new())?).await?;
        Ok(Some(text).filter(|text| text.contains("clusterctl_agent_")))
    };
    check(&until("the agent's own numbers", SOON, counted).await?)?;
    let as_admin = door(&lab, &endpoint, "admin").await?;
    let refused = as_admin.request_text(Request::get("/metrics").body(Vec::new())?).await;
    ensure!(refused.is_err(), "the administrator's certificate opened the agent's door");
    lab.finish()
}

/// A client of the agent's door with one of the instance's certificates.
async fn door(lab: &Lab, endpoint: &str, name: &str) -> Result<Client> {
    let path = |file: &str| lab.join("pki").join(file).display().to_string();
    let kubeconfig: Kubeconfig = serde_json::from_value(serde_json::json!({
        "current-context": "door",
        "clusters": [{"name": "door", "cluster": {
            "server": format!("https://{endpoint}"), "certificate-authority": path("ca.crt"), "tls-server-name": "host01",
        }}],
        "users": [{"name": "door", "user": {
            "client-certificate": path(&format!("{name}.crt")), "client-key": path(&format!("{name}.key")),
        }}],
        "contexts": [{"name": "door", "context": {"cluster": "door", "user": "door"}}],
    }))?;
    Ok(Client::try_from(Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?)?)
}

/// Prometheus' own checker.
fn check(text: &str) -> Result<()> {
    let promtool = testkit::tool("promtool", "PROMTOOL")?;
    let mut child = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("failed to run promtool")?;
    child.stdin.take().context("no stdin")?.write_all(text.as_bytes())?;
    let output = child.wait_with_output()?;
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success() && said.trim().is_empty(), "promtool check metrics: {said}");
    Ok(())
}

/// The real Prometheus on a free port of this machine.
struct Prometheus {
    child: Child,
    port: u16,
}

impl Prometheus {
    fn start(lab: &Lab) -> Result<Prometheus> {
        let target = std::fs::read_to_string(lab.join("server/port"))?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let config = config(&lab.join("pki"), target.trim());
        let child = Command::new(testkit::tool("prometheus", "PROMETHEUS")?)
            .arg(format!("--config.file={}", lab.write("prometheus.yml", config)?.display()))
            .arg(format!("--storage.tsdb.path={}", lab.files().join("prometheus").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("failed to run prometheus")?;
        Ok(Prometheus { child, port })
    }

    /// The values that a query finds.
    fn ask(&self, query: &str) -> Result<Vec<String>> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        write!(stream, "GET /api/v1/query?query={encoded} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (_, body) = answer.split_once("\r\n\r\n").context("no body")?;
        let answer: Value = serde_json::from_str(body).with_context(|| format!("not JSON: {body}"))?;
        let Some(found) = answer["data"]["result"].as_array() else { bail!("{answer}") };
        Ok(found.iter().filter_map(|one| one["value"][1].as_str().map(str::to_owned)).collect())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn config(pki: &Path, port: &str) -> String {
    let pki = pki.display();
    format!(
        "
global: {{scrape_interval: 1s}}
scrape_configs:
  - job_name: photoncloud
    scheme: https
    tls_config: {{ca_file: {pki}/ca.crt, cert_file: {pki}/admin.crt, key_file: {pki}/admin.key}}
    static_configs: [{{targets: [\"127.0.0.1:{port}\"]}}]
"
    )
}
