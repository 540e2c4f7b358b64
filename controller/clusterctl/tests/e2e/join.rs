//! A host joins from another data directory: with a token, once, as itself.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use testkit::Lab;

use crate::replicas::Process;

fn free() -> Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

fn token(lab: &Lab, url: &str, more: &[&str]) -> Result<(String, String)> {
    let words = [&["join-token", "create", "--host", "edge", "--url", url, "-o", "json"], more].concat();
    let told: Value = serde_json::from_str(&lab.run(&words)?.ok()?)?;
    let text = |field: &str| told[field].as_str().map(str::to_owned).context("not told");
    Ok((text("token")?, text("secret")?))
}

#[test]
fn a_token_lets_one_host_in_once() -> Result<()> {
    let door = free()?;
    let lab = Lab::up(&["--no-agent", "--join-listen", &door])?;
    let url = format!("https://{door}");
    let host = Lab::new()?;
    let (good, secret) = token(&lab, &url, &[])?;

    let stored = lab.run(&["get", "secret", &secret, "-n", "photon-system", "-o", "json"])?.ok()?;
    let stored: Value = serde_json::from_str(&stored)?;
    ensure!(
        stored["data"]["word"].is_null() && stored["data"]["digest"].is_string(),
        "the word itself is stored: {stored}"
    );

    let (late, _) = token(&lab, &url, &["--minutes", "0"])?;
    let refused = host.run(&["join", "--token", &late])?.fails_with(1)?;
    ensure!(refused.contains("past its end"), "{refused}");
    let own = lab.run(&["join", "--token", &good])?.fails_with(1)?;
    ensure!(own.contains("authority of its own"), "{own}");

    host.run(&["join", "--token", &good])?.ok()?;
    let key = std::fs::read_to_string(host.join("pki/agent-edge.key"))?;
    ensure!(key.contains("PRIVATE KEY") && !host.join("pki/ca.key").exists());
    let gone = lab.run(&["get", "secret", &secret, "-n", "photon-system"])?;
    ensure!(gone.code != 0, "the token is good for another time");
    let again = host.run(&["join", "--token", &good])?.fails_with(1)?;
    ensure!(again.contains("used"), "{again}");

    // What it got is the identity of this host's agent, and nothing more.
    let port = std::fs::read_to_string(lab.join("server/port"))?;
    let kubeconfig = format!(
        "{{apiVersion: v1, kind: Config, current-context: c, contexts: [{{name: c, context: {{cluster: c, user: u}}}}], \
         clusters: [{{name: c, cluster: {{server: 'https://127.0.0.1:{}', certificate-authority: {}}}}}], \
         users: [{{name: u, user: {{client-certificate: {}, client-key: {}}}}}]}}",
        port.trim(),
        host.join("pki/ca.crt").display(),
        host.join("pki/agent-edge.crt").display(),
        host.join("pki/agent-edge.key").display(),
    );
    let path = host.write("kubeconfig", kubeconfig)?;
    let kubectl = Command::new(testkit::tool("kubectl", "KUBECTL")?)
        .args(["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"])
        .env("KUBECONFIG", &path)
        .env("HOME", host.files())
        .output()?;
    let who = String::from_utf8_lossy(&kubectl.stdout).into_owned();
    ensure!(who == "system:agent:edge", "{who} {}", String::from_utf8_lossy(&kubectl.stderr));

    // It is renewed for the host itself, and for nobody in its name.
    for name in ["edge", "other"] {
        let manifest =
            format!("{{apiVersion: photoncloud.dev/v1alpha1, kind: Host, metadata: {{name: {name}}}, spec: {{}}}}");
        lab.apply(&manifest)?.ok()?;
    }
    let request = pki::request_for(&std::fs::read_to_string(host.join("pki/agent-edge.key"))?)?;
    let wanted = lab.write("request.json", serde_json::json!({"request": request}).to_string())?;
    let nonsense = lab.write("nonsense.json", r#"{"request": "nonsense"}"#)?;
    let renew = |config: &std::path::Path, name: &str, body: &std::path::Path| -> Result<(bool, String)> {
        let url = format!("/apis/photoncloud.dev/v1alpha1/hosts/{name}/certificate");
        let output = Command::new(testkit::tool("kubectl", "KUBECTL")?)
            .args(["create", "--raw", &url, "-f"])
            .arg(body)
            .env("KUBECONFIG", config)
            .env("HOME", host.files())
            .output()?;
        Ok((output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()))
    };
    let (renewed, said) = renew(&path, "edge", &wanted)?;
    ensure!(renewed && said.contains("BEGIN CERTIFICATE"), "{said}");
    let given: Value = serde_json::from_str(&said)?;
    let again = pki::renew_at(given["certificate"].as_str().context("no certificate")?)?;
    let ahead = again.duration_since(std::time::SystemTime::now())?.as_secs();
    ensure!((230 * 86_400..245 * 86_400).contains(&ahead), "two thirds of a year are not {ahead} s");
    for (config, name, body) in [
        (path.as_path(), "other", wanted.as_path()),
        (&lab.join("kubeconfig"), "edge", &wanted),
        (&path, "edge", &nonsense),
    ] {
        let (done, said) = renew(config, name, body)?;
        ensure!(!done && !said.contains("BEGIN"), "{}: {said}", config.display());
    }
    host.finish()?;
    lab.finish()
}

/// Life of a certificate: an agent asks for the next one 20 s after it got one, and may then be kept from it for 10 s.
const LIFE: &str = "30s";

#[test]
fn a_joined_agent_goes_on_when_its_first_certificates_have_ended() -> Result<()> {
    let door = free()?;
    let lab = Lab::up(&["--no-agent", "--join-listen", &door, "--host-certificate-life", LIFE])?;
    let host = Lab::new()?;
    host.run(&["join", "--token", &token(&lab, &format!("https://{door}"), &[])?.0])?.ok()?;
    let port = std::fs::read_to_string(lab.join("server/port"))?;
    let mut command = Command::new(host.binary());
    command.arg("--data-dir").arg(host.path()).args(["agent", "--host-name", "edge"]);
    command.args(["--server", &format!("https://127.0.0.1:{}", port.trim())]);
    command.arg("--image-cache").arg(host.files().join("images"));
    let agent = Process::start(&mut command, &host.files().join("agent.log"))?;
    lab.run(&["wait", "host/edge", "--for", "create", "--timeout", "60s"])?.ok()?;
    wait(&lab, "host/edge")?;
    lab.apply("{apiVersion: photoncloud.dev/v1alpha1, kind: TenantNetwork, metadata: {name: net}, spec: {subnet: 10.63.0.0/24}}")?
        .ok()?;
    plug(&lab, "before")?;

    // The third is given out when the first has ended, and by the second.
    let file = host.join("pki/agent-edge.crt");
    let (began, mut seen) = (Instant::now(), BTreeSet::new());
    while seen.len() < 3 {
        if began.elapsed() > Duration::from_secs(150) {
            let log = std::fs::read_to_string(host.files().join("agent.log"))?;
            bail!("only {} certificates in {:?}: {log}", seen.len(), began.elapsed());
        }
        seen.insert(std::fs::read_to_string(&file)?);
        std::thread::sleep(Duration::from_millis(200));
    }

    // The server hears it, and reaches its door: who answers that nothing can be captured of a port without a machine is the agent.
    plug(&lab, "after")?;
    let refused = lab.run(&["net", "capture", "after"])?.fails_with(1)?;
    ensure!(refused.contains("no device now"), "the server does not reach the agent: {refused}");
    drop(agent);
    host.finish()?;
    lab.finish()
}

fn plug(lab: &Lab, name: &str) -> Result<()> {
    let meta = format!("kind: Port, metadata: {{name: {name}}}, spec: {{network: net, host: edge}}");
    lab.apply(&format!("{{apiVersion: photoncloud.dev/v1alpha1, {meta}}}"))?.ok()?;
    wait(lab, &format!("port/{name}"))
}

fn wait(lab: &Lab, what: &str) -> Result<()> {
    lab.run(&["wait", what, "--for", "condition=Ready", "--timeout", "60s"])?.ok().map(drop)
}
