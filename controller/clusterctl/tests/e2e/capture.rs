//! `net capture` through server and agent: what passes a Port comes out, to whom may have it, and nothing stays when its caller goes.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, Result, ensure};
use crds::Port;
use kube::{Api, Client};
use process::ProcessId;
use rustix::process::Signal;
use testkit::Lab;

use crate::machines;
use crate::objects::{self, SOON, sh, until};

/// One Port on the host and one that no machine uses; somebody who works in the tenant and somebody who looks at it.
const OBJECTS: &str = "
---
apiVersion: photoncloud.dev/v1alpha1
kind: Port
metadata: {name: web}
spec: {network: blue, host: host01}
---
apiVersion: photoncloud.dev/v1alpha1
kind: Port
metadata: {name: loose}
spec: {network: blue}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: owner}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: tenant-admin}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: owner}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: viewer}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: tenant-viewer}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: viewer}]
";

/// The device of the Port. No machine makes it here, so the test does; through its other end it speaks as a guest would.
struct Device {
    netns: String,
    name: String,
}

impl Device {
    async fn of(client: &Client, port: &str) -> Result<Device> {
        let ports: Api<Port> = Api::default_namespaced(client.clone());
        let realised = |port: &Port| port.status.as_ref().is_some_and(|status| status.netns.is_some());
        let status = objects::object(&ports, port, SOON, realised).await?.status.context("no status")?;
        Ok(Device { netns: status.netns.context("no namespace")?, name: status.device.context("no device")? })
    }

    fn ip(&self, words: &str) -> Result<String> {
        let all: Vec<&str> = ["-n", &self.netns].into_iter().chain(words.split(' ')).collect();
        sh("ip", &all)
    }

    fn plug(&self) -> Result<()> {
        self.ip(&format!("link add {} type veth peer name guest", self.name))?;
        self.ip(&format!("link set {} up", self.name))?;
        self.ip("link set guest up")?;
        self.ip("address add 192.0.2.1/24 dev guest")?;
        self.ip("neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 dev guest nud permanent")?;
        Ok(())
    }

    /// The guest says something, to which nobody answers.
    fn speak(&self) -> Result<()> {
        let words = ["netns", "exec", &self.netns, "ping", "-c", "1", "-W", "1", "192.0.2.2"];
        Command::new("ip").args(words).output().context("failed to run ip")?;
        Ok(())
    }

    /// Packet sockets in the namespace.
    fn listeners(&self) -> Result<usize> {
        Ok(sh("ip", &["netns", "exec", &self.netns, "cat", "/proc/net/packet"])?.lines().count() - 1)
    }
}

/// A capture that runs, with nothing between it and the test, so that signals reach it.
struct Capture {
    child: Child,
    errors: BufReader<std::process::ChildStderr>,
}

impl Capture {
    /// Begins; it hears from here on.
    fn begin(lab: &Lab, words: &[&str]) -> Result<Capture> {
        let mut command = Command::new(lab.binary());
        command.args(["net", "capture", "web", "--as", "owner"]).args(words);
        command.env("CLUSTERCTL_DATA_DIR", lab.path()).env_remove("KUBECONFIG");
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let mut errors = BufReader::new(child.stderr.take().context("no standard error")?);
        let mut first = String::new();
        errors.read_line(&mut first)?;
        ensure!(first.starts_with("Capturing on Port web"), "{first}");
        Ok(Capture { child, errors })
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let id = ProcessId::of(i32::try_from(self.child.id())?).context("the capture has ended")?;
        Ok(id.signal(signal)?)
    }

    /// Waits for the end, and what it said last.
    async fn end(mut self) -> Result<(ExitStatus, String)> {
        let status = until("the end of a capture", SOON, async || Ok(self.child.try_wait()?)).await;
        if status.is_err() {
            self.child.kill()?;
        }
        let mut told = String::new();
        self.errors.read_to_string(&mut told)?;
        Ok((status.with_context(|| told.clone())?, told))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_a_port_comes_out_and_nothing_stays_when_its_caller_goes() -> Result<()> {
    let lab = Lab::up(&[])?;
    let client = objects::client(&lab).await?;
    lab.apply(&[machines::network("blue", "10.64.0.0/24"), OBJECTS.to_owned()].concat())?.ok()?;
    let device = Device::of(&client, "web").await?;
    for (words, told) in [
        (["web", "--as=owner"], "no device now"),
        (["loose", "--as=owner"], "bound to no host yet"),
        (["nobody", "--as=owner"], "there is no Port nobody"),
        (["web", "--as=viewer"], "cannot get resource \"ports/capture\""),
    ] {
        let all: Vec<&str> = ["net", "capture"].into_iter().chain(words).collect();
        let refused = lab.run(&all)?.fails_with(1)?;
        ensure!(refused.contains(told), "{words:?}: {refused}");
    }
    device.plug()?;

    let file = lab.files().join("web.pcapng");
    let path = file.display().to_string();
    let mut capture = Capture::begin(&lab, &["--write", &path, "--count", "3"])?;
    until("three packets", SOON, async || {
        device.speak()?;
        Ok(capture.child.try_wait()?)
    })
    .await?;
    let (status, told) = capture.end().await?;
    ensure!(status.success() && told.contains("3 packets captured, 0 lost."), "{status} {told}");
    let read = sh("tcpdump", &["-nn", "-r", &path, "icmp[icmptype] == icmp-echo and dst host 192.0.2.2"])?;
    ensure!((1..=3).contains(&read.lines().count()), "{read}");

    // ctrl-c: the last words come through both relays.
    let capture = Capture::begin(&lab, &["--write", &path])?;
    capture.signal(Signal::INT)?;
    let (status, told) = capture.end().await?;
    ensure!(status.success() && told.contains("packets captured, 0 lost."), "{status} {told}");

    // Who read it ends while nothing passes.
    let mut capture = Capture::begin(&lab, &[])?;
    drop(capture.child.stdout.take());
    let (status, told) = capture.end().await?;
    ensure!(status.success() && told.contains("packets captured."), "{status} {told}");

    // The client is killed.
    let capture = Capture::begin(&lab, &["--write", &path])?;
    ensure!(device.listeners()? > 0, "nobody hears");
    capture.signal(Signal::KILL)?;
    capture.end().await?;
    until("the end of every socket", SOON, async || Ok((device.listeners()? == 0).then_some(()))).await?;

    // The device goes, as when a machine stops or moves.
    let capture = Capture::begin(&lab, &["--write", &path])?;
    device.ip(&format!("link del {}", device.name))?;
    let (status, told) = capture.end().await?;
    ensure!(status.code() == Some(1) && told.contains("the capture ended early: the port's device went"), "{told}");
    lab.finish()
}
