//! The way to an instance's etcd, whether its server runs or not.

use crate::control::etcd::EtcdArgs;
use crate::instance::Instance;
use anyhow::{Context, Result};
use std::path::Path;
use store::{Etcd, Keeper};

/// A keeper, and the etcd that was started for it alone.
pub struct Reached {
    /// The way in.
    pub keeper: Keeper,
    started: Option<Etcd>,
}

/// Connects to the etcd named, to the running one of the instance, or to one started for this purpose.
pub async fn reach(dir: &Path, args: &EtcdArgs) -> Result<Reached> {
    if let Some(options) = args.elsewhere()? {
        return Ok(Reached { keeper: connect(&options).await?, started: None });
    }
    let instance = Instance::open(dir)?;
    if let Some(options) = Etcd::running(&args.own(&instance)?).context("failed to look for etcd")? {
        return Ok(Reached { keeper: connect(&options).await?, started: None });
    }
    let etcd = args.start(&instance).await?;
    Ok(Reached { keeper: connect(&etcd.store_options()).await?, started: Some(etcd) })
}

async fn connect(options: &store::StoreOptions) -> Result<Keeper> {
    Keeper::connect(options).await.context("failed to reach etcd")
}

impl Reached {
    /// Ends what was started.
    pub async fn done(self) -> Result<()> {
        match self.started {
            Some(etcd) => etcd.stop().await.context("failed to stop the etcd that was started for this"),
            None => Ok(()),
        }
    }
}
