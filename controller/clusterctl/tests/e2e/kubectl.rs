//! The real kubectl on the real kinds: what it makes, explains, watches and deletes, and what is refused and why.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testkit::{Lab, Ran};

const MACHINE: &str = "
apiVersion: photoncloud.dev/v1alpha1
kind: VirtualMachine
metadata: {name: web}
spec: {image: base, memory: 128Mi}
";

/// kubectl, with a home of its own for its caches.
fn kubectl(lab: &Lab, words: &str) -> Result<Command> {
    let mut command = Command::new("timeout");
    command.arg("60").arg(testkit::tool("kubectl", "KUBECTL")?).args(words.split_whitespace());
    command.env("KUBECONFIG", lab.join("kubeconfig")).env("HOME", lab.files()).stdin(Stdio::null());
    Ok(command)
}

fn run(lab: &Lab, words: &str) -> Result<Ran> {
    let output = kubectl(lab, words)?.output().context("failed to run kubectl")?;
    Ok(Ran {
        words: format!("kubectl {words}"),
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

fn file(lab: &Lab, name: &str, text: &str) -> Result<String> {
    Ok(lab.write(name, text)?.display().to_string())
}

#[test]
fn kubectl_makes_explains_watches_and_deletes_a_machine() -> Result<()> {
    let lab = Lab::up(&["--no-agent"])?;
    let path = file(&lab, "vm.yaml", MACHINE)?;
    let made = run(&lab, &format!("create -f {path}"))?.ok()?;
    ensure!(made.contains("virtualmachine.photoncloud.dev/web created"), "{made}");
    let taken = run(&lab, &format!("create -f {path}"))?.fails_with(1)?;
    ensure!(taken.contains("AlreadyExists"), "{taken}");

    let listed = run(&lab, "get vm")?.ok()?;
    let heading = listed.lines().next().unwrap_or_default();
    ensure!(["NAME", "READY", "STATUS", "IP", "AGE"].iter().all(|c| heading.contains(c)), "{listed}");
    ensure!(listed.contains("web"), "{listed}");
    ensure!(run(&lab, "get photon -A")?.ok()?.contains("virtualmachine.photoncloud.dev/web"), "the category lists it");
    ensure!(run(&lab, "get vm web -o jsonpath={.spec.cpus}")?.ok()? == "1", "a default is filled in");
    let explained = run(&lab, "explain virtualmachine.spec.memory")?.ok()?;
    ensure!(explained.contains("VERSION:") && explained.contains("Memory"), "{explained}");
    ensure!(run(&lab, "explain vm.spec --recursive")?.ok()?.contains("runStrategy"), "fields are listed");

    let changed = file(&lab, "changed.yaml", &MACHINE.replace("128Mi", "192Mi"))?;
    run(&lab, &format!("apply -f {path}"))?.ok()?;
    let mut watch = Watch::start(&lab)?;
    watch.line_with(&["web"])?;
    ensure!(run(&lab, &format!("diff -f {changed}"))?.code == 1, "diff shows the change");
    ensure!(run(&lab, &format!("apply -f {changed}"))?.ok()?.contains("configured"), "the change is applied");
    ensure!(run(&lab, &format!("apply -f {changed}"))?.ok()?.contains("unchanged"), "twice is once");
    watch.line_with(&["MODIFIED", "192Mi"])?;
    ensure!(
        run(&lab, "get vm web -o jsonpath={.metadata.generation}")?.ok()? == "2",
        "a change of spec is a generation"
    );

    run(&lab, "wait vm/web --for=jsonpath={.spec.memory}=192Mi --timeout=20s")?.ok()?;
    let late = run(&lab, "wait vm/web --for=condition=Ready --timeout=1s")?.fails_with(1)?;
    ensure!(late.contains("timed out"), "{late}");
    ensure!(run(&lab, "delete vm web")?.ok()?.contains("deleted"), "it is deleted");
    watch.line_with(&["DELETED", "web"])?;
    run(&lab, "wait vm/web --for=delete --timeout=20s")?;
    ensure!(run(&lab, "get vm web")?.fails_with(1)?.contains("NotFound"), "it is gone");
    drop(watch);
    lab.finish()
}

/// `kubectl get -w` at work.
struct Watch {
    child: std::process::Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Watch {
    fn start(lab: &Lab) -> Result<Watch> {
        let columns = "-o custom-columns=TYPE:.type,NAME:.object.metadata.name,MEMORY:.object.spec.memory";
        let mut child =
            kubectl(lab, &format!("get vm -w --output-watch-events {columns}"))?.stdout(Stdio::piped()).spawn()?;
        let lines = BufReader::new(child.stdout.take().context("no output")?);
        Ok(Watch { child, lines })
    }

    /// Reads until a line has all these words; the command itself is ended after a minute.
    fn line_with(&mut self, words: &[&str]) -> Result<()> {
        let mut seen = String::new();
        loop {
            let mut line = String::new();
            ensure!(self.lines.read_line(&mut line)? > 0, "the watch ended without {words:?}: {seen}");
            if words.iter().all(|word| line.contains(word)) {
                return Ok(());
            }
            seen.push_str(&line);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A manifest that is refused, what is said of it, and the field whose path is named.
const REFUSED: [(&str, &str, &[&str]); 9] = [
    ("bad YAML", "kind: VirtualMachine\n  spec: {", &["error"]),
    ("an unknown kind", "apiVersion: photoncloud.dev/v1alpha1\nkind: Unicorn\nmetadata: {name: x}", &["Unicorn"]),
    (
        "an unknown field",
        "apiVersion: photoncloud.dev/v1alpha1\nkind: VirtualMachine\nmetadata: {name: x}\nspec: {image: a, memroy: 1Gi}",
        &["spec.memroy", "unknown field"],
    ),
    (
        "a wrong type",
        "apiVersion: photoncloud.dev/v1alpha1\nkind: VirtualMachine\nmetadata: {name: x}\nspec: {image: a, cpus: many}",
        &["spec.cpus"],
    ),
    (
        "a value out of range",
        "apiVersion: photoncloud.dev/v1alpha1\nkind: VirtualMachine\nmetadata: {name: x}\nspec: {image: a, cpus: 1000}",
        &["spec.cpus", "64"],
    ),
    (
        "a missing field",
        "apiVersion: photoncloud.dev/v1alpha1\nkind: VirtualMachine\nmetadata: {name: x}\nspec: {}",
        &["spec.image", "Required"],
    ),
    (
        "two of exactly one",
        "apiVersion: photoncloud.dev/v1alpha1\nkind: Image\nmetadata: {name: x}\nspec: {debian: {}, layer: {image: other}}",
        &["spec", "exactly one of debian, layer or file"],
    ),
    (
        "an address that is none",
        "apiVersion: photoncloud.dev/v1alpha1\nkind: TenantNetwork\nmetadata: {name: x}\nspec: {subnet: 10.0.0.0/99}",
        &["spec.subnet"],
    ),
    (
        "a fault on no machine",
        "apiVersion: photoncloud.dev/v1alpha1\nkind: Fault\nmetadata: {name: x}\nspec: {action: Kill, target: {kind: Port, name: p}}",
        &["spec.target.kind", "Node or VirtualMachine"],
    ),
];

#[test]
fn what_makes_no_sense_is_refused_with_the_fields_path() -> Result<()> {
    let lab = Lab::up(&["--no-agent"])?;
    for (what, manifest, said) in REFUSED {
        let path = file(&lab, "bad.yaml", manifest)?;
        let by_kubectl = run(&lab, &format!("create --validate=false -f {path}"))?;
        let strict = run(&lab, &format!("apply --validate=strict -f {path}"))?.fails_with(1)?;
        let by_us = lab.run(&["apply", "-f", &path])?.fails_with(1)?;
        for word in said {
            ensure!(strict.contains(word), "kubectl on {what}: {word:?} is missing in: {strict}");
            ensure!(by_us.contains(word), "clusterctl on {what}: {word:?} is missing in: {by_us}");
        }
        // Only an unknown field may be overlooked, and only when a client asks for that.
        ensure!(by_kubectl.code == 1 || what == "an unknown field", "{what} was stored: {by_kubectl}");
        if by_kubectl.code == 0 {
            run(&lab, "delete vm x")?.ok()?;
        }
    }
    let all = run(&lab, "get photon -A -o name")?.ok()?;
    ensure!(all.trim().is_empty(), "something was stored: {all}");
    lab.finish()
}

#[test]
fn what_must_not_change_does_not() -> Result<()> {
    let lab = Lab::up(&["--no-agent"])?;
    let network = "apiVersion: photoncloud.dev/v1alpha1\nkind: TenantNetwork\nmetadata: {name: net}\nspec: {subnet: 10.9.0.0/24}\n";
    let path = file(&lab, "network.yaml", network)?;
    run(&lab, &format!("apply -f {path}"))?.ok()?;
    let path = file(&lab, "moved.yaml", &network.replace("10.9.", "10.8."))?;
    for said in
        [run(&lab, &format!("apply -f {path}"))?.fails_with(1)?, lab.run(&["apply", "-f", &path])?.fails_with(1)?]
    {
        ensure!(said.contains("spec.subnet") && said.contains("immutable"), "{said}");
    }
    ensure!(run(&lab, "get tnet net -o jsonpath={.spec.subnet}")?.ok()? == "10.9.0.0/24", "it is as it was");
    lab.finish()
}

#[test]
fn a_broken_reference_is_told_in_the_objects_condition() -> Result<()> {
    let lab = Lab::up(&["--no-agent"])?;
    let port = "apiVersion: photoncloud.dev/v1alpha1\nkind: Port\nmetadata: {name: p}\nspec: {network: nowhere}\n";
    let path = file(&lab, "port.yaml", port)?;
    let applied = lab.run(&["apply", "-f", &path])?;
    if applied.code == 0 {
        let ready = "{.status.conditions[?(@.type==\"Ready\")].message}";
        run(&lab, "wait port/p --for=condition=Ready=False --timeout=30s")?.ok()?;
        let said = run(&lab, &format!("get port p -o jsonpath={ready}"))?.ok()?;
        ensure!(said.contains("nowhere"), "the condition does not name what is missing: {said:?}");
    } else {
        ensure!(applied.stderr.contains("spec.network") && applied.stderr.contains("nowhere"), "{applied}");
    }
    lab.finish()
}

#[test]
fn each_of_several_documents_is_reported() -> Result<()> {
    let lab = Lab::up(&["--no-agent"])?;
    let several = "
apiVersion: photoncloud.dev/v1alpha1
kind: TenantNetwork
metadata: {name: good}
spec: {subnet: 10.7.0.0/24}
---
apiVersion: photoncloud.dev/v1alpha1
kind: TenantNetwork
metadata: {name: bad}
spec: {subnet: here}
---
apiVersion: photoncloud.dev/v1alpha1
kind: Port
metadata: {name: fine}
spec: {network: good}
";
    let path = file(&lab, "several.yaml", several)?;
    let applied = lab.run(&["apply", "-f", &path])?;
    ensure!(applied.code == 1, "{applied}");
    ensure!(applied.stdout.contains("tenantnetwork.photoncloud.dev/good created"), "{applied}");
    ensure!(applied.stdout.contains("port.photoncloud.dev/fine created"), "{applied}");
    ensure!(applied.stderr.contains("several.yaml") && applied.stderr.contains("spec.subnet"), "{applied}");
    ensure!(run(&lab, "get tnet bad")?.fails_with(1)?.contains("NotFound"), "the bad one is not stored");
    let again = run(&lab, &format!("apply -f {path}"))?;
    ensure!(again.code == 1 && again.stdout.contains("good") && again.stderr.contains("spec.subnet"), "{again}");
    // The kubeconfig is a key to everything.
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(lab.join("kubeconfig"))?.permissions());
    ensure!(mode & 0o777 == 0o600, "{mode:o}");
    let waited =
        lab.run_within(Duration::from_secs(30), &["wait", "port/fine", "--for=condition=Ready", "--timeout=1s"])?;
    ensure!(waited.code == 4, "{waited}");
    lab.finish()
}

#[test]
fn on_the_servers_side_two_managers_share_one_machine() -> Result<()> {
    let lab = Lab::up(&["--no-agent"])?;
    let path = file(&lab, "vm.yaml", MACHINE)?;
    let made = lab.run(&["apply", "--server-side", "-f", &path])?.ok()?;
    ensure!(made.contains("virtualmachine.photoncloud.dev/web serverside-applied"), "{made}");
    let changed = file(&lab, "changed.yaml", &MACHINE.replace("128Mi", "192Mi"))?;
    let refused = run(&lab, &format!("apply --server-side -f {changed}"))?.fails_with(1)?;
    ensure!(refused.contains("conflict with \"clusterctl\": .spec.memory"), "{refused}");
    let by_us = lab.run(&["apply", "--server-side", "--field-manager", "ci", "-f", &changed])?;
    ensure!(by_us.code == 1 && by_us.stderr.contains("conflict with \"clusterctl\": .spec.memory"), "{by_us}");
    lab.run(&["apply", "--server-side", "--field-manager=ci", "--force-conflicts", "-f", &changed])?.ok()?;
    ensure!(run(&lab, "get vm web -o jsonpath={.spec.memory}")?.ok()? == "192Mi", "force takes the field");
    // What the reconcilers set is theirs, and stays when the manifest is applied again.
    let managers =
        run(&lab, "get vm web --show-managed-fields -o jsonpath={.metadata.managedFields[*].manager}")?.ok()?;
    ensure!(managers.contains("clusterctl") && managers.contains("ci"), "{managers}");
    let usage = lab.run(&["apply", "--server-side", "--dry-run=client", "-f", &path])?;
    ensure!(usage.code == 2, "{usage}");
    lab.finish()
}
