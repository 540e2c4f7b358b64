//! Objects as tests see them: a client of a lab, and waiting for a state with a deadline.

use std::fmt::Debug;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, Resource};
use serde::de::DeserializeOwned;
use testkit::Lab;

/// For what takes an instant on an idle machine.
pub const SOON: Duration = Duration::from_secs(60);
/// For what includes an image build and a boot under emulation on a machine that does other things, too.
pub const BOOT: Duration = Duration::from_secs(600);

/// How often a state is looked at that nobody announces.
const LOOK: Duration = Duration::from_millis(100);

/// A client with the administrator's identity.
pub async fn client(lab: &Lab) -> Result<Client> {
    pki::install_crypto_provider();
    let kubeconfig = Kubeconfig::read_from(lab.join("kubeconfig")).context("failed to read the kubeconfig")?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.connect_timeout = Some(Duration::from_secs(5));
    config.read_timeout = Some(Duration::from_secs(20));
    Ok(Client::try_from(config)?)
}

/// Looks until `seen` answers, or says what was seen last. An error of `seen` is a state like others: the server may be
/// on its way back.
pub async fn until<T>(what: &str, limit: Duration, mut seen: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let begun = Instant::now();
    let mut trouble = None;
    loop {
        tick.tick().await;
        match seen().await {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => {}
            Err(error) => trouble = Some(error),
        }
        if begun.elapsed() > limit {
            bail!(
                "{what} did not come in {} s{}",
                limit.as_secs(),
                trouble.map_or(String::new(), |e| format!("; last: {e:#}"))
            );
        }
    }
}

/// Waits until the object is as wanted.
pub async fn object<K>(api: &Api<K>, name: &str, limit: Duration, wanted: impl Fn(&K) -> bool) -> Result<K>
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    let found =
        until(&format!("the wanted state of {name}"), limit, async || Ok(api.get_opt(name).await?.filter(&wanted)))
            .await;
    match found {
        Ok(found) => Ok(found),
        Err(error) => bail!("{error:#}; it is {:#?}", api.get_opt(name).await),
    }
}

/// What a program of the system prints, when it succeeds.
pub fn sh(program: &str, words: &[&str]) -> Result<String> {
    let output = Command::new(program).args(words).output().with_context(|| format!("failed to run {program}"))?;
    if !output.status.success() {
        bail!("{program} {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
