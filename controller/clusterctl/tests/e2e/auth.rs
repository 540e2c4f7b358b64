//! Who may do what, as `clusterctl auth` and `clusterctl create token` tell and give it.

use anyhow::{Result, ensure};
use serde_json::Value;
use testkit::Lab;

const RULES: &str = "
apiVersion: v1
kind: ServiceAccount
metadata: {name: robot}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: robot}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: tenant-viewer}
subjects: [{kind: ServiceAccount, name: robot, namespace: default}]
";

/// A kubeconfig that knows a token and nothing else.
fn kubeconfig(lab: &Lab, token: &str) -> Result<String> {
    let port = std::fs::read_to_string(lab.join("server/port"))?;
    let text = format!(
        "{{apiVersion: v1, kind: Config, current-context: c, contexts: [{{name: c, context: {{cluster: c, user: u}}}}], \
         clusters: [{{name: c, cluster: {{server: 'https://127.0.0.1:{}', certificate-authority: {}}}}}], \
         users: [{{name: u, user: {{token: {token}}}}}]}}",
        port.trim(),
        lab.join("pki/ca.crt").display(),
    );
    Ok(lab.write("robot.conf", text)?.display().to_string())
}

#[test]
fn rights_are_told_and_tokens_carry_them() -> Result<()> {
    let lab = Lab::up(&["--no-agent"])?;
    let ask = |line: &str| lab.run(&line.split(' ').collect::<Vec<_>>());
    lab.apply(RULES)?.ok()?;

    ensure!(ask("auth can-i delete vm/web")?.ok()? == "yes\n", "the administrator may do everything");
    let no = ask("auth can-i delete vm --as jane")?;
    ensure!(no.code == 1 && no.stdout.starts_with("no"), "{no}");
    let quiet = ask("auth can-i delete vm --as jane -q")?;
    ensure!(quiet.code == 1 && quiet.stdout.is_empty(), "{quiet}");
    let document: Value = serde_json::from_str(&ask("auth can-i get /metrics --as jane -o json")?.stdout)?;
    ensure!(document["status"]["allowed"] == false, "{document}");
    ensure!(ask("auth can-i get /metrics --as jane --as-group system:masters")?.ok()? == "yes\n");
    let unknown = ask("auth can-i get gadgets --as jane")?;
    ensure!(unknown.code == 1 && unknown.stderr.contains("doesn't have a resource type"), "{unknown}");
    let refused = ask("get vm --as jane")?.fails_with(1)?;
    ensure!(refused.contains("User \"jane\" cannot list"), "{refused}");

    let robot = "system:serviceaccount:default:robot";
    ensure!(ask(&format!("auth can-i get vm --as {robot}"))?.ok()? == "yes\n");
    ensure!(ask(&format!("auth can-i get vm --subresource exec --as {robot}"))?.code == 1, "a viewer runs nothing");
    let all = ask(&format!("auth can-i --list --as {robot}"))?.ok()?;
    ensure!(all.contains("virtualmachines.photoncloud.dev") && all.contains("[get list watch]"), "{all}");

    let token = ask("create token robot --duration=10m")?.ok()?;
    let config = kubeconfig(&lab, token.trim())?;
    let by_token = |line: &str| ask(&format!("{line} --kubeconfig {config}"));
    let who = by_token("auth whoami")?.ok()?;
    ensure!(who.contains(robot) && who.contains("system:serviceaccounts:default"), "{who}");
    by_token("get vm")?.ok()?;
    ensure!(by_token("get secrets")?.code == 1, "a viewer reads Secrets");
    ensure!(by_token("create token robot")?.code == 1, "a viewer makes tokens");
    let short = ask("create token robot --duration=1m")?.fails_with(1)?;
    ensure!(short.contains("10 minutes"), "{short}");
    let given: Value = serde_json::from_str(&ask("create token robot --audience vault -o json")?.ok()?)?;
    ensure!(given["spec"]["audiences"][0] == "vault", "{given}");

    ask("delete serviceaccount robot")?.ok()?;
    ensure!(by_token("get vm")?.code == 1, "the token outlived its account");
    lab.finish()
}
