//! An agent with an API, and hands to meddle with what it made.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use agent::names::Names;
use agent::{Agent, AgentOptions};
use pki::{Authority, Subject, Usage};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use testkit::FakeApi;

/// How a name server's command line begins.
const NAME_SERVER: &str = "/proc/self/exe";
const DEADLINE: Duration = Duration::from_secs(60);

/// Key of an object in the tests' namespace.
pub fn key(name: &str) -> String {
    format!("t/{name}")
}

pub struct House {
    pub api: FakeApi,
    host: String,
    dir: tempfile::TempDir,
    /// What the hosts of the instance share.
    shared: Arc<tempfile::TempDir>,
    instance: String,
    /// Where ways out end.
    pub outside: Option<String>,
    running: Option<(CancellationToken, JoinHandle<Result<(), agent::Error>>)>,
}

impl House {
    pub async fn new() -> House {
        assert!(rustix::process::geteuid().is_root(), "these tests make namespaces and machines: run them as root");
        pki::install_crypto_provider();
        // Shown with a failed test only: nextest keeps the output of the others to itself.
        let _ = tracing_subscriber::fmt().with_env_filter("info,agent=debug").with_test_writer().try_init();
        let shared = Arc::new(tempfile::tempdir().unwrap());
        House::on("host0", FakeApi::new(), shared, uuid::Uuid::new_v4().to_string())
    }

    /// Another host of the same instance.
    pub fn beside(&self, host: &str) -> House {
        House::on(host, self.api.clone(), self.shared.clone(), self.instance.clone())
    }

    fn on(host: &str, api: FakeApi, shared: Arc<tempfile::TempDir>, instance: String) -> House {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        House { api, host: host.to_owned(), dir, shared, instance, outside: None, running: None }
    }

    pub fn names(&self) -> Names {
        Names::new(&self.instance, &self.host)
    }

    pub async fn start(&mut self) {
        let names = vec![self.host.clone()];
        let subject = Subject::new(format!("system:agent:{}", self.host), ["system:agents"]);
        let authority = Authority::load_or_create(&self.shared.path().join("pki"), "test").unwrap();
        let options = AgentOptions {
            node_client: self.api.client(),
            host_name: self.host.clone(),
            instance: self.instance.clone(),
            client: self.api.client(),
            data_dir: self.dir.path().join("data"),
            underlay_dir: self.shared.path().join("underlay"),
            outside: self.outside.clone(),
            image_cache: Some(self.dir.path().join("cache")),
            name_server: ["--exact", "name_server", "--nocapture"].map(str::to_owned).to_vec(),
            identity: pki::Shown::new(&authority.issue(&subject, &Usage::Both { names }).unwrap()).unwrap(),
            ca_pem: authority.cert_pem().to_owned(),
        };
        let hosts = self.api.objects("hosts");
        let us = hosts.iter().find(|host| host["metadata"]["name"] == json!(self.host));
        let before = us.map(|host| host["status"]["endpoint"].clone());
        let shutdown = CancellationToken::new();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let task = tokio::spawn(Agent::run(options, listener, shutdown.clone()));
        self.running = Some((shutdown, task));
        // The endpoint's port changes with every start, which tells the new agent from the old.
        let ready = |host: &Value| {
            let endpoint = &host["status"]["endpoint"];
            endpoint.is_string() && Some(endpoint) != before.as_ref()
        };
        self.api.until("hosts", &format!("/{}", self.host), "registered", ready).await;
    }

    pub async fn stop(&mut self) {
        if let Some((shutdown, task)) = self.running.take() {
            shutdown.cancel();
            task.await.unwrap().unwrap();
        }
    }

    /// Ends the agent wherever it is, as a signal that nobody handles would.
    pub async fn kill(&mut self) {
        if let Some((_, task)) = self.running.take() {
            task.abort();
            let _ = task.await;
        }
    }

    /// Writes so far, once none has come for a while.
    pub async fn settled_writes(&self) -> BTreeMap<String, usize> {
        self.api.quiet_for(Duration::from_millis(1500)).await;
        self.api.all_writes()
    }

    pub async fn until(&self, holds: impl Fn() -> bool) {
        let end = tokio::time::Instant::now() + DEADLINE;
        while !holds() {
            assert!(tokio::time::Instant::now() < end, "never came true; left: {:?}", self.leftovers());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn create(&self, kind: &str, plural: &str, name: &str, mut spec: Value) {
        if !["tenantnetworks", "securitygroups", "serviceips", "loadbalancers"].contains(&plural) {
            spec["host"] = json!(self.host);
        }
        let object =
            json!({"apiVersion": "photoncloud.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec});
        self.request("POST", &format!("/{plural}"), object).await;
    }

    async fn request(&self, method: &str, path: &str, body: Value) {
        self.request_of("t", method, path, body).await;
    }

    /// A request in a tenant's namespace.
    pub async fn request_of(&self, tenant: &str, method: &str, path: &str, body: Value) {
        let uri = format!("/apis/photoncloud.dev/v1alpha1/namespaces/{tenant}{path}");
        let request = http::Request::builder().method(method).uri(uri).body(body.to_string().into_bytes()).unwrap();
        self.api.client().request::<Value>(request).await.unwrap();
    }

    pub async fn delete(&self, plural: &str, name: &str) {
        self.request("DELETE", &format!("/{plural}/{name}"), Value::Null).await;
    }

    pub async fn apply_network(&self, name: &str, subnet: &str) {
        self.create("TenantNetwork", "tenantnetworks", name, json!({"subnet": subnet})).await;
    }

    /// What the network reconciler would write.
    pub async fn number_network(&self, name: &str, vni: u32) {
        self.request("PATCH", &format!("/tenantnetworks/{name}/status"), json!({"status": {"vni": vni}})).await;
    }

    /// Something that means nothing, so that the agents look again.
    pub async fn touch_port(&self, name: &str, note: &str) {
        self.request("PATCH", &format!("/ports/{name}"), json!({"metadata": {"annotations": {"note": note}}})).await;
    }

    pub async fn apply_port(&self, name: &str, network: &str, ip: &str, number: u8) {
        let spec = json!({"network": network, "ip": ip, "mac": format!("52:54:00:00:00:{number:02x}")});
        self.create("Port", "ports", name, spec).await;
    }

    /// A port with groups.
    pub async fn apply_port_in(&self, name: &str, network: &str, number: u8, groups: &[&str]) {
        let spec = json!({
            "network": network, "ip": format!("10.77.0.{number}"), "mac": format!("52:54:00:00:00:{number:02x}"),
            "securityGroups": groups,
        });
        self.create("Port", "ports", name, spec).await;
    }

    /// Changes what a port's spec says.
    pub async fn change_port(&self, name: &str, spec: Value) {
        self.request("PATCH", &format!("/ports/{name}"), json!({ "spec": spec })).await;
    }

    /// A service address, as its reconciler would allocate it.
    pub async fn apply_service(&self, name: &str, network: &str, ip: &str) {
        self.create("ServiceIP", "serviceips", name, json!({"network": network})).await;
        self.request("PATCH", &format!("/serviceips/{name}/status"), json!({"status": {"ip": ip}})).await;
    }

    pub async fn apply_balancer(&self, name: &str, spec: Value) {
        self.create("LoadBalancer", "loadbalancers", name, spec).await;
    }

    /// Files below the host's directory whose names end so.
    pub fn files(&self, end: &str) -> Vec<PathBuf> {
        let (mut found, mut left) = (Vec::new(), vec![self.dir.path().to_owned()]);
        while let Some(dir) = left.pop() {
            for path in std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()) {
                match path.is_dir() && !path.is_symlink() {
                    true => left.push(path),
                    false if path.to_string_lossy().ends_with(end) => found.push(path),
                    false => {}
                }
            }
        }
        found
    }

    /// Puts labels on a port, or takes them off with null.
    pub async fn label_port(&self, name: &str, labels: Value) {
        self.request("PATCH", &format!("/ports/{name}"), json!({"metadata": {"labels": labels}})).await;
    }

    pub async fn apply_group(&self, name: &str, rules: Value) {
        self.create("SecurityGroup", "securitygroups", name, json!({ "rules": rules })).await;
    }

    pub async fn change_group(&self, name: &str, rules: Value) {
        self.request("PATCH", &format!("/securitygroups/{name}"), json!({"spec": {"rules": rules}})).await;
    }

    pub async fn apply_image(&self, name: &str) {
        let path = self.dir.path().join("empty.raw");
        let bytes = vec![0; 1 << 20];
        std::fs::write(&path, &bytes).unwrap();
        let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let spec = json!({"file": {"path": path, "digest": format!("sha256:{digest}")}});
        self.create("Image", "images", name, spec).await;
    }

    /// Directories of images in the cache, and whether nobody has used them for more than a week.
    pub fn images(&self) -> Vec<(PathBuf, bool)> {
        let images = std::fs::read_dir(self.dir.path().join("cache/images")).into_iter().flatten().flatten();
        let week_ago = SystemTime::now() - Duration::from_secs(7 * 24 * 3600);
        let used = |path: &Path| std::fs::metadata(path.join("used")).and_then(|found| found.modified());
        images.map(|entry| (entry.path(), used(&entry.path()).is_ok_and(|time| time < week_ago))).collect()
    }

    /// Makes all images look as if nobody had used them for a long time.
    pub fn age_images(&self) {
        for (image, _) in self.images() {
            for file in ["used", "image.json"] {
                let file = std::fs::File::options().create(true).truncate(false).write(true).open(image.join(file));
                file.unwrap().set_modified(SystemTime::now() - Duration::from_secs(30 * 24 * 3600)).unwrap();
            }
        }
    }

    pub async fn apply_volume(&self, name: &str) {
        self.create("Volume", "volumes", name, json!({"size": "16Mi", "filesystem": "ext4"})).await;
    }

    pub async fn apply_vm(&self, name: &str, image: &str, ports: &[&str], volumes: &[&str]) {
        let ports: Vec<Value> = ports.iter().map(|port| json!({"port": port})).collect();
        let volumes: Vec<Value> = volumes.iter().map(|volume| json!({"volume": volume})).collect();
        let spec = json!({
            "image": image, "memory": "32Mi", "interfaces": ports, "volumes": volumes,
            "terminationGracePeriodSeconds": 0,
        });
        self.create("VirtualMachine", "virtualmachines", name, spec).await;
    }

    pub async fn apply_fault(&self, name: &str, spec: Value) {
        self.create("Fault", "faults", name, spec).await;
    }

    pub async fn running(&self, name: &str) -> Value {
        let running = |vm: &Value| vm["status"]["phase"] == json!("Running");
        self.api.until("virtualmachines", &key(name), "running", running).await
    }

    pub fn forget_everything(&self) {
        self.api.forget_everything();
    }

    pub fn ip(&self, netns: &str, arguments: &[&str]) -> String {
        let output = Command::new("ip").args(["-n", netns]).args(arguments).output().unwrap();
        assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// As [`House::ip`], empty when it fails.
    pub fn ip_quiet(&self, netns: &str, arguments: &[&str]) -> String {
        let output = Command::new("ip").args(["-n", netns]).args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What `nft` prints in the namespace, empty when it fails.
    pub fn nft(&self, netns: &str, arguments: &[&str]) -> String {
        let output = Command::new("ip").args(["netns", "exec", netns, "nft"]).args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub async fn until_link(&self, netns: &str, name: &str, there: bool) {
        self.until(|| self.ip_quiet(netns, &["-o", "link", "show", "dev", name]).is_empty() != there).await;
    }

    pub fn bridge(&self, netns: &str) -> String {
        let text = self.ip(netns, &["-o", "link", "show", "type", "bridge"]);
        text.split(": ").nth(1).unwrap().to_owned()
    }

    pub fn dnsmasq_pids(&self) -> Vec<i32> {
        self.processes("dnsmasq")
    }

    pub fn proxies(&self) -> Vec<i32> {
        self.processes("haproxy")
    }

    pub fn name_servers(&self) -> Vec<i32> {
        self.processes(NAME_SERVER)
    }

    pub async fn kill_dnsmasq(&self) {
        // It may be on its way from one process to the next just now.
        let mut one = None;
        self.until(|| {
            let all = self.dnsmasq_pids();
            all.len() == 1 && all.first().and_then(|pid| process::ProcessId::of(*pid)).is_some()
        })
        .await;
        while one.is_none() {
            one = self.dnsmasq_pids().first().and_then(|pid| process::ProcessId::of(*pid));
            tokio::task::yield_now().await;
        }
        let id = one.unwrap();
        let _ = id.signal(rustix::process::Signal::KILL);
        id.exited().await;
    }

    /// Processes whose command line names our directory, or which work in it.
    fn processes(&self, program: &str) -> Vec<i32> {
        let dir = self.dir.path().to_str().unwrap().to_owned();
        let pids = std::fs::read_dir("/proc").unwrap().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        pids.filter(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line);
            let first = line.split('\0').next().unwrap_or_default();
            let here = std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
            first.contains(program) && (line.contains(&dir) || here.starts_with(&dir))
        })
        .collect()
    }

    /// Namespaces of this host.
    pub fn namespaces(&self) -> BTreeSet<String> {
        let prefix = self.names().namespace_prefix();
        names_in(Path::new("/run/netns")).into_iter().filter(|name| name.starts_with(&prefix)).collect()
    }

    /// Networks that have a directory here, by UID.
    pub fn networks(&self) -> BTreeSet<String> {
        names_in(&self.dir.path().join("data/networks"))
    }

    /// Everything of ours that is still on the machine.
    pub fn leftovers(&self) -> Vec<String> {
        let (prefix, switch) = (self.names().namespace_prefix(), self.names().switch());
        let names = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
        let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut left: Vec<String> = names.filter(|name| name.starts_with(&prefix) || *name == switch).collect();
        for program in ["qemu", "dnsmasq", "haproxy", NAME_SERVER] {
            left.extend(self.processes(program).iter().map(|pid| format!("{program} {pid}")));
        }
        for dir in ["vms", "volumes", "networks", "routers"] {
            let found = std::fs::read_dir(self.dir.path().join("data").join(dir)).into_iter().flatten().flatten();
            left.extend(found.map(|entry| entry.path().display().to_string()));
        }
        left
    }
}

impl Drop for House {
    /// A failed test must leave nothing either.
    fn drop(&mut self) {
        if let Some((shutdown, task)) = self.running.take() {
            // First the agent, or it repairs what is removed here. It runs on other threads of this runtime.
            shutdown.cancel();
            let end = std::time::Instant::now() + DEADLINE;
            while !task.is_finished() && std::time::Instant::now() < end {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        for program in ["qemu", "dnsmasq", "haproxy", NAME_SERVER] {
            for id in self.processes(program).into_iter().filter_map(process::ProcessId::of) {
                let _ = id.signal(rustix::process::Signal::KILL);
            }
        }
        for name in self.leftovers().iter().filter(|name| name.starts_with("photon-")) {
            let _ = Command::new("ip").args(["netns", "delete", name]).output();
        }
    }
}

fn names_in(directory: &Path) -> BTreeSet<String> {
    let all = std::fs::read_dir(directory).into_iter().flatten().flatten();
    all.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
