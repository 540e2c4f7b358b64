//! The instance that is measured: started from nothing, cleaned away at the end.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, ResourceExt};
use process::{ProcessId, Record};
use serde_json::Value;

use crate::manifest;
use crate::watch::{Watch, has};

/// Building an image from nothing takes minutes, of which most is the network's.
const IMAGES: Duration = Duration::from_secs(1800);
/// Machines that end when told so are gone well before this.
const GONE: Duration = Duration::from_secs(180);

/// A running instance.
pub struct Lab {
    binary: PathBuf,
    dir: PathBuf,
    /// The administrator's client, over TLS.
    pub client: Client,
}

impl Lab {
    /// Starts an instance from nothing.
    pub async fn start(binary: &Path, dir: &Path) -> Result<Lab> {
        let binary =
            binary.canonicalize().with_context(|| format!("no program {}: run `make build`", binary.display()))?;
        eprintln!("bench: starting an instance in {}", dir.display());
        call(&binary, dir, &["clean"]).await?;
        call(&binary, dir, &["up", "--detach"]).await?;
        let client = client(&dir.join("kubeconfig")).await?;
        Ok(Lab { binary, dir: dir.to_owned(), client })
    }

    /// Deletes everything but the image cache.
    pub async fn clean(&self) -> Result<()> {
        eprintln!("bench: cleaning up");
        let _ = std::fs::remove_dir_all(self.scratch());
        call(&self.binary, &self.dir, &["clean"]).await
    }

    /// The instance's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A directory for what is done by hand.
    pub fn scratch(&self) -> PathBuf {
        self.dir.join("by-hand")
    }

    /// One of the instance's own processes.
    pub fn process(&self, name: &str) -> Result<ProcessId> {
        self.recorded(&format!("server/{name}.json"))
    }

    /// The instance's own etcd.
    pub fn etcd(&self) -> Result<ProcessId> {
        self.recorded("etcd/process.json")
    }

    fn recorded(&self, file: &str) -> Result<ProcessId> {
        let path = self.dir.join(file);
        let record = Record::load(&path).with_context(|| format!("failed to read {}", path.display()))?;
        record.and_then(|record| record.running()).with_context(|| format!("the process of {file} does not run"))
    }

    /// What the server's metrics page says.
    pub async fn metrics(&self) -> Result<String> {
        let request = http::Request::get("/metrics").body(Vec::new()).context("failed to make a request")?;
        self.client.request_text(request).await.context("failed to read the metrics")
    }

    /// Objects of a kind in the default namespace.
    pub fn api(&self, kind: &str) -> Result<Api<DynamicObject>> {
        Ok(Api::namespaced_with(self.client.clone(), "default", &resource(kind)?))
    }

    /// Creates an object, whose kind it says itself.
    pub async fn create(&self, object: &Value) -> Result<DynamicObject> {
        let kind = object["kind"].as_str().unwrap_or_default();
        let typed = serde_json::from_value(object.clone()).with_context(|| format!("a {kind} is no object"))?;
        let made = self.api(kind)?.create(&PostParams::default(), &typed).await;
        made.with_context(|| format!("failed to create {kind} {}", object["metadata"]["name"]))
    }

    /// Has the smoke manifest's images built, or found in the cache.
    pub async fn images(&self) -> Result<()> {
        let images = manifest::of_kinds(&["Image"])?;
        let mut watch = self.watch(&["Image"]).await?;
        let mut waiting = Vec::new();
        for image in &images {
            let name = image["metadata"]["name"].as_str().unwrap_or_default();
            let found = match self.api("Image")?.get_opt(name).await? {
                Some(found) => found,
                None => self.create(image).await?,
            };
            if !has(&found.data, "Ready") {
                waiting.push(name.to_owned());
            }
        }
        if waiting.is_empty() {
            return Ok(());
        }
        eprintln!("bench: waiting for {} images (built when the cache has none, which takes minutes)", waiting.len());
        watch
            .until(IMAGES, "ready images", |seen| {
                waiting.retain(|name| !(seen.is("Image", name) && seen.has("Ready")));
                waiting.is_empty()
            })
            .await?;
        Ok(())
    }

    /// Watches over these kinds.
    pub async fn watch(&self, kinds: &[&str]) -> Result<Watch> {
        let resources = kinds.iter().map(|kind| resource(kind)).collect::<Result<Vec<_>>>()?;
        Watch::open(&self.client, &resources).await
    }

    /// Deletes an object and waits until no object of these kinds is left.
    pub async fn delete(&self, kind: &str, name: &str, then_none_of: &[&str]) -> Result<()> {
        let mut watch = self.watch(then_none_of).await?;
        self.api(kind)?
            .delete(name, &DeleteParams::default())
            .await
            .with_context(|| format!("failed to delete {name}"))?;
        let mut left = Vec::new();
        for kind in then_none_of {
            let all = self.api(kind)?.list(&ListParams::default()).await?;
            left.extend(all.iter().map(|object| (*kind, object.name_any())));
        }
        if left.is_empty() {
            return Ok(());
        }
        watch
            .until(GONE, "end of what was deleted", |seen| {
                left.retain(|(kind, name)| !(seen.gone && seen.is(kind, name)));
                left.is_empty()
            })
            .await?;
        Ok(())
    }
}

/// How the API serves a kind.
pub fn resource(kind: &str) -> Result<ApiResource> {
    use crds::{Cluster, Image, Node, Port, TenantNetwork, VirtualMachine, Volume};
    Ok(match kind {
        "Cluster" => ApiResource::erase::<Cluster>(&()),
        "Image" => ApiResource::erase::<Image>(&()),
        "Node" => ApiResource::erase::<Node>(&()),
        "Port" => ApiResource::erase::<Port>(&()),
        "TenantNetwork" => ApiResource::erase::<TenantNetwork>(&()),
        "VirtualMachine" => ApiResource::erase::<VirtualMachine>(&()),
        "Volume" => ApiResource::erase::<Volume>(&()),
        "ConfigMap" => ApiResource {
            group: String::new(),
            version: "v1".to_owned(),
            api_version: "v1".to_owned(),
            kind: "ConfigMap".to_owned(),
            plural: "configmaps".to_owned(),
        },
        other => bail!("nothing is measured of the kind {other}"),
    })
}

/// Sum of a counter's samples whose labels hold all of `labels`.
pub fn counter(metrics: &str, name: &str, labels: &[&str]) -> f64 {
    let samples = metrics.lines().filter_map(|line| {
        let (head, value) = line.rsplit_once(' ')?;
        let (found, rest) = head.split_once('{').unwrap_or((head, ""));
        (found == name && labels.iter().all(|label| rest.contains(label))).then(|| value.parse::<f64>().ok())?
    });
    samples.sum()
}

async fn call(binary: &Path, dir: &Path, arguments: &[&str]) -> Result<()> {
    let mut command = tokio::process::Command::new(binary);
    command
        .arg("--data-dir")
        .arg(dir)
        .args(arguments)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null());
    let status = command.status().await.with_context(|| format!("failed to start {}", binary.display()))?;
    if !status.success() {
        bail!("`clusterctl {}` ended with {status}", arguments.join(" "));
    }
    Ok(())
}

/// A client of the administrator, with a connection of its own.
pub async fn client(kubeconfig: &Path) -> Result<Client> {
    let read = Kubeconfig::read_from(kubeconfig).context("failed to read the kubeconfig")?;
    let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await;
    Client::try_from(config.context("the kubeconfig is not usable")?).context("failed to set up the client")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_summed_over_the_labels_that_match() {
        let text = "# TYPE a counter\na{kind=\"Port\",result=\"ok\"} 3\na{kind=\"Port\",result=\"error\"} 1\na{kind=\"Node\",result=\"ok\"} 5\nab 7\n";
        assert_eq!(counter(text, "a", &["kind=\"Port\""]), 4.0);
        assert_eq!(counter(text, "a", &["kind=\"Port\"", "result=\"ok\""]), 3.0);
        assert_eq!(counter(text, "ab", &[]), 7.0);
    }
}
