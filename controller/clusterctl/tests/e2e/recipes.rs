//! What the documents tell people to type, typed.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use testkit::Lab;

/// The first indented block below a heading of a document.
fn block(document: &str, heading: &str) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(document);
    let text = std::fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
    let mut lines = text.lines().skip_while(|line| *line != heading).skip(1);
    let mut block = String::new();
    for line in lines.by_ref().skip_while(|line| !line.starts_with("    ")) {
        match line.strip_prefix("    ") {
            Some(line) => block.push_str(line),
            None if line.is_empty() => {}
            None => break,
        }
        block.push('\n');
    }
    ensure!(block.lines().count() > 3, "{heading} has no recipe");
    Ok(block)
}

#[test]
fn a_tenant_gets_a_kubeconfig_as_the_page_on_access_says() -> Result<()> {
    let lab = Lab::up(&["--no-agent"])?;
    let recipe =
        block("access.md", "### Give a tenant a kubeconfig")?.replace("DIR/", &format!("{}/", lab.path().display()));
    let kubectl = testkit::tool("kubectl", "KUBECTL")?;
    let tools = kubectl.parent().context("kubectl is in no directory")?.display().to_string();
    let path = format!("{tools}:{}", std::env::var("PATH").unwrap_or_default());
    let type_in = |script: &str| {
        Command::new("bash")
            .args(["-euo", "pipefail", "-c", script])
            .current_dir(lab.files())
            .env("PATH", &path)
            .env("HOME", lab.files())
            .env("KUBECONFIG", lab.join("kubeconfig"))
            .output()
            .context("failed to run bash")
    };
    let typed = type_in(&recipe)?;
    ensure!(typed.status.success(), "{}\n{recipe}", String::from_utf8_lossy(&typed.stderr));
    let jane = |words: &str| type_in(&format!("kubectl --kubeconfig jane.conf {words}"));
    let who = jane("auth whoami -o jsonpath='{.status.userInfo.username}'")?;
    ensure!(who.stdout == b"jane", "{who:?}");
    for (words, allowed) in [
        ("get virtualmachines", true),
        ("create configmap notes --from-literal=a=b", true),
        ("get hosts", false),
        ("get virtualmachines -n default", false),
    ] {
        let answered = jane(words)?;
        ensure!(answered.status.success() == allowed, "{words}: {}", String::from_utf8_lossy(&answered.stderr));
    }
    lab.finish()
}
