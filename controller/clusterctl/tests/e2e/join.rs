//! A host joins from another data directory: with a token, once, as itself.

use std::net::TcpListener;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testkit::Lab;

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
    let kubectl = std::process::Command::new(testkit::tool("kubectl", "KUBECTL")?)
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
        let output = std::process::Command::new(testkit::tool("kubectl", "KUBECTL")?)
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
