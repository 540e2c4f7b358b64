//! Which etcd: our own child in the instance's directory, or a cluster that somebody else runs.

use crate::instance::Instance;
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::sync::Arc;
use store::{Etcd, EtcdOptions, KeyFile, Keyring, Sealing, StoreOptions, TlsFiles};

/// Where etcd is.
#[derive(clap::Args, Clone, Debug)]
pub struct EtcdArgs {
    /// Client URLs of an etcd cluster to use, instead of an etcd of our own.
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    pub etcd_endpoints: Vec<String>,
    /// Authority that signed that etcd cluster's certificates.
    #[arg(long, value_name = "FILE", requires = "etcd_endpoints")]
    pub etcd_ca: Option<PathBuf>,
    /// Our certificate for that etcd cluster.
    #[arg(long, value_name = "FILE", requires = "etcd_ca")]
    pub etcd_cert: Option<PathBuf>,
    /// Our key for that etcd cluster.
    #[arg(long, value_name = "FILE", requires = "etcd_cert")]
    pub etcd_key: Option<PathBuf>,
    /// The etcd program, when it is not on PATH.
    #[arg(long, value_name = "FILE", env = "CLUSTERCTL_ETCD")]
    pub etcd_binary: Option<PathBuf>,
    /// Bytes that our own etcd's data may take; counts from its next start.
    #[arg(long, value_name = "BYTES", default_value_t = EtcdOptions::QUOTA)]
    pub etcd_quota: u64,
}

impl EtcdArgs {
    /// The same choice as words of a command line.
    pub fn words(&self) -> Vec<String> {
        let path = |file: &Option<PathBuf>| file.as_ref().map(|file| file.display().to_string());
        let pairs = [
            ("--etcd-endpoints", (!self.etcd_endpoints.is_empty()).then(|| self.etcd_endpoints.join(","))),
            ("--etcd-ca", path(&self.etcd_ca)),
            ("--etcd-cert", path(&self.etcd_cert)),
            ("--etcd-key", path(&self.etcd_key)),
            ("--etcd-binary", path(&self.etcd_binary)),
            ("--etcd-quota", (self.etcd_quota != EtcdOptions::QUOTA).then(|| self.etcd_quota.to_string())),
        ];
        pairs.into_iter().filter_map(|(flag, value)| Some([flag.to_owned(), value?])).flatten().collect()
    }

    /// The cluster that somebody else runs, when one was named.
    pub fn elsewhere(&self) -> Result<Option<StoreOptions>> {
        if self.etcd_endpoints.is_empty() {
            return Ok(None);
        }
        let tls = match (&self.etcd_ca, &self.etcd_cert, &self.etcd_key) {
            (Some(ca), Some(cert), Some(key)) => {
                Some(TlsFiles { ca: ca.clone(), cert: cert.clone(), key: key.clone() })
            }
            (None, None, None) => None,
            _ => bail!("--etcd-ca, --etcd-cert and --etcd-key go together"),
        };
        Ok(Some(StoreOptions::new(self.etcd_endpoints.clone(), tls)))
    }

    /// How our own etcd runs.
    pub fn own(&self, instance: &Instance) -> Result<EtcdOptions> {
        Ok(EtcdOptions {
            binary: self.etcd_binary.clone(),
            data_dir: instance.path("etcd"),
            pki_dir: instance.path("pki/etcd"),
            log: instance.log("etcd")?,
            quota: Some(self.etcd_quota),
        })
    }

    /// Adopts or starts our own etcd.
    pub async fn start(&self, instance: &Instance) -> Result<Etcd> {
        Etcd::start(self.own(instance)?).await.context("failed to start etcd")
    }
}

/// The file of the keys that encrypt Secrets.
pub fn key_file(instance: &Instance) -> KeyFile {
    KeyFile::new(instance.path("pki/encryption-keys.json"))
}

/// What is encrypted in etcd, and with which keys; the file is made when it is missing.
pub fn sealing(instance: &Instance) -> Result<Sealing> {
    let dir = instance.path("pki");
    std::fs::create_dir_all(&dir).with_context(|| format!("failed to make {}", dir.display()))?;
    let keyring = Keyring::load_or_create(&key_file(instance)).context("failed to load the encryption keys")?;
    Ok(Sealing { keyring: Arc::new(keyring), folders: apiserver::SEALED.map(str::to_owned).to_vec() })
}
