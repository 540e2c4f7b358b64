//! Care of what is stored: encrypted, saved, restored elsewhere, and helped out of a full etcd.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testkit::Lab;

const LIMIT: Duration = Duration::from_secs(60);

const OBJECTS: &str = "
apiVersion: v1
kind: Secret
metadata: {name: door}
stringData: {word: open-sesame}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: map}
data: {treasure: 'buried'}
---
apiVersion: photoncloud.dev/v1alpha1
kind: VirtualMachine
metadata: {name: web}
spec: {image: base, memory: 128Mi}
";

fn json(lab: &Lab, words: &[&str]) -> Result<Value> {
    Ok(serde_json::from_str(&lab.run(words)?.ok()?)?)
}

/// Runs a command until what it prints is as expected.
fn until(lab: &Lab, words: &[&str], settled: impl Fn(&Value) -> bool) -> Result<Value> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let now = json(lab, words)?;
        if settled(&now) {
            return Ok(now);
        }
        ensure!(Instant::now() < deadline, "{words:?} never settled: {now}");
    }
}

fn end(lab: &Lab) -> Result<()> {
    for name in ["up", "server", "etcd"] {
        if let Ok(process) = lab.process(name) {
            process.signal(rustix::process::Signal::TERM)?;
            let deadline = Instant::now() + LIMIT;
            while process.is_alive() {
                ensure!(Instant::now() < deadline, "{name} does not end");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
    Ok(())
}

#[test]
fn secrets_are_encrypted_saved_and_restored_with_their_key_only() -> Result<()> {
    let lab = Lab::up(&["--no-agent"])?;
    lab.apply(OBJECTS)?.ok()?;
    let uid = lab.run(&["get", "secret", "door", "-o", "jsonpath={.metadata.uid}"])?.ok()?;
    let file = lab.files().join("objects.jsonl").display().to_string();

    // A new key is taken up by the running server; the old one is then of no use.
    let keys = json(&lab, &["encryption", "status", "-o", "json"])?;
    let old = keys[0]["id"].as_str().context("no key")?.to_owned();
    ensure!(keys[0]["inUse"] == true && keys[0]["encrypts"] == true, "{keys}");
    lab.run(&["encryption", "rotate"])?.ok()?;
    until(&lab, &["encryption", "status", "-o", "json"], |keys| {
        keys[0]["id"] != old.as_str() && keys[0]["inUse"] == true && keys[1]["inUse"] == false
    })?;
    ensure!(lab.run(&["encryption", "prune"])?.ok()?.contains(&old));
    ensure!(lab.run(&["get", "secret", "door", "-o", "jsonpath={.data.word}"])?.ok()?.trim() == "b3Blbi1zZXNhbWU=");

    let saved = json(&lab, &["backup", &file, "-o", "json"])?;
    ensure!(saved["resources"]["secrets"]["count"] == 1, "{saved}");
    let text = std::fs::read_to_string(&file)?;
    ensure!(text.contains("buried") && !text.contains("sesame") && !text.contains("b3Blbi1zZXNhbWU"), "{text}");
    let living = lab.run(&["restore", &file])?.fails_with(1)?;
    ensure!(living.contains("already uses"), "{living}");

    let other = Lab::new()?;
    let refused = other.run(&["restore", &file])?.fails_with(1)?;
    ensure!(refused.contains("--encryption-keys"), "{refused}");
    let keys = lab.join("pki/encryption-keys.json").display().to_string();
    let restored = json(&other, &["restore", &file, "--encryption-keys", &keys, "-o", "json"])?;
    ensure!(restored["resources"] == saved["resources"], "{restored}");
    let again = other.run(&["restore", &file])?.fails_with(1)?;
    ensure!(again.contains("stored already"), "{again}");
    other.start(&["--no-agent"])?;
    ensure!(other.run(&["get", "secret", "door", "-o", "jsonpath={.metadata.uid}"])?.ok()? == uid, "another uid");
    ensure!(other.run(&["get", "secret", "door", "-o", "jsonpath={.data.word}"])?.ok()?.trim() == "b3Blbi1zZXNhbWU=");
    ensure!(other.run(&["get", "vm", "web", "-o", "jsonpath={.spec.memory}"])?.ok()?.trim() == "128Mi");

    // Nothing runs, and a backup is made all the same.
    end(&lab)?;
    lab.run(&["backup", &file])?.ok()?;
    ensure!(lab.process("etcd").is_err(), "the etcd that was started for the backup still runs");
    ensure!(lab.run(&["restore", &file, "--check"])?.ok()?.contains("readable"));
    other.finish()?;
    lab.finish()
}

/// Whether the real kubectl succeeded, and all that it said.
fn kubectl(lab: &Lab, words: &[&str]) -> Result<(bool, String)> {
    let mut command = std::process::Command::new(testkit::tool("kubectl", "KUBECTL")?);
    let done = command.args(words).env("KUBECONFIG", lab.join("kubeconfig")).env("HOME", lab.files()).output()?;
    let said = [done.stdout, done.stderr].concat();
    Ok((done.status.success(), String::from_utf8_lossy(&said).into_owned()))
}

#[test]
fn a_full_etcd_says_so_and_is_helped() -> Result<()> {
    let lab = Lab::up(&["--no-agent", "--etcd-quota", &(8 << 20).to_string()])?;
    let block = "x".repeat(900 << 10);
    let map = |number: usize| {
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: big{number}}}\ndata: {{block: {block}}}\n")
    };
    let mut made = 0;
    let refused = loop {
        let path = lab.write("big.yaml", map(made))?.display().to_string();
        let ran = lab.run(&["create", "-f", &path])?;
        if ran.code != 0 {
            break ran;
        }
        made += 1;
        ensure!(made < 30, "the quota has no effect");
    };
    ensure!(refused.stderr.contains("clusterctl store defrag"), "{refused}");
    let status = json(&lab, &["store", "status", "-o", "json"])?;
    ensure!(status[0]["alarms"][0] == "NOSPACE", "{status}");
    ensure!(lab.run(&["store", "status"])?.ok()?.contains("ALARM"));
    ensure!(lab.run(&["get", "configmap", "big0", "-o", "name"])?.code == 0, "reads go on");
    let raw = |path: &str| kubectl(&lab, &["get", "--raw", path]);
    let (alive, ready) = (raw("/livez")?, raw("/readyz")?);
    ensure!(alive.0, "{}", alive.1);
    ensure!(!ready.0 && ready.1.contains("clusterctl store defrag"), "a full server calls itself ready: {}", ready.1);
    let small = lab.write("small.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: small}\n")?;
    let small = small.display().to_string();
    let refused = kubectl(&lab, &["create", "-v=8", "--validate=false", "-f", &small])?;
    ensure!(
        refused.1.contains("507 Insufficient Storage") && refused.1.contains("(InsufficientStorage)"),
        "{}",
        refused.1
    );
    for number in 0..made {
        lab.run(&["delete", "configmap", &format!("big{number}")])?.ok()?;
    }
    let helped = json(&lab, &["store", "defrag", "-o", "json"])?;
    ensure!(helped[0]["alarms"] == serde_json::json!([]), "{helped}");
    lab.run(&["create", "-f", &small])?.ok()?;
    ensure!(raw("/readyz")?.0, "helped, and still not ready");
    lab.finish()
}
