//! Looks up everything that an image's key depends on, before anything is built.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::apt::Apt;
use super::cache::Cache;
use super::error::{Error, Result};
use super::guest::fingerprint;
use super::hash::key_of;
use super::import::ImportPlan;
use super::recipe::{DEFAULT_DISK_BYTES, FileEntry, Recipe, Source, Unit};
use super::rootfs::RootfsPlan;

/// What a layer takes over from its base.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct System {
    pub(super) suite: String,
    pub(super) rootfs: String,
    pub(super) files: Vec<FileEntry>,
    pub(super) units: Vec<Unit>,
    pub(super) disk_bytes: u64,
}

/// A recipe with everything looked up.
#[derive(Debug)]
pub(super) enum Plan {
    System(Box<SystemPlan>),
    Import(ImportPlan),
}

/// A system of packages, with our files and the recipe's.
#[derive(Debug)]
pub(super) struct SystemPlan {
    pub(super) key: String,
    pub(super) apt: Apt,
    pub(super) rootfs: RootfsPlan,
    pub(super) system: System,
}

/// Where things are looked up.
#[derive(Debug)]
pub(super) struct Planner<'a> {
    pub(super) cache: &'a Cache,
    pub(super) packages_dir: &'a Path,
    pub(super) lists_max_age: Duration,
}

impl Planner<'_> {
    /// Plans a recipe. `built` answers what is known of a built image: none, or its system unless it was imported.
    pub(super) fn plan(
        &self,
        recipe: &Recipe,
        built: impl FnOnce(&str) -> Result<Option<Option<System>>>,
    ) -> Result<Plan> {
        recipe.validate()?;
        match &recipe.source {
            Source::Debian { suite, packages, kernel_package } => {
                let apt = self.apt(suite)?;
                let rootfs = RootfsPlan::debian(&apt, suite, packages, kernel_package)?;
                let system = System {
                    suite: suite.clone(),
                    rootfs: rootfs.key.clone(),
                    files: recipe.files.clone(),
                    units: recipe.units.clone(),
                    disk_bytes: recipe.disk_bytes.unwrap_or(DEFAULT_DISK_BYTES),
                };
                Ok(Plan::system(apt, rootfs, system))
            }
            Source::Layer { base, packages } => {
                let below = built(base)?.ok_or_else(|| Error::BaseMissing { key: base.clone() })?;
                let below = below.ok_or_else(|| Error::BaseOpaque { key: base.clone() })?;
                self.plan_layer(recipe, below, packages)
            }
            Source::File { path, sha256, format, kernel, initrd } => {
                let plan = ImportPlan::new(path, sha256, *format, kernel.as_deref(), initrd.as_deref())?;
                Ok(Plan::Import(plan))
            }
        }
    }

    fn plan_layer(&self, recipe: &Recipe, below: System, packages: &[String]) -> Result<Plan> {
        let apt = self.apt(&below.suite)?;
        let rootfs = RootfsPlan::layer(self.cache, &apt, &below.rootfs, &below.suite, packages)?;
        let mut system = System { rootfs: rootfs.key.clone(), ..below };
        system.files.extend(recipe.files.iter().cloned());
        system.units.extend(recipe.units.iter().cloned());
        system.disk_bytes = recipe.disk_bytes.unwrap_or(system.disk_bytes);
        Ok(Plan::system(apt, rootfs, system))
    }

    fn apt(&self, suite: &str) -> Result<Apt> {
        let apt = Apt::open(self.packages_dir, suite)?;
        apt.refresh(self.lists_max_age)?;
        Ok(apt)
    }
}

impl Plan {
    fn system(apt: Apt, rootfs: RootfsPlan, system: System) -> Plan {
        let key = key_of("image", &(fingerprint(), &system));
        Plan::System(Box::new(SystemPlan { key, apt, rootfs, system }))
    }

    pub(super) fn key(&self) -> &str {
        match self {
            Plan::System(system) => &system.key,
            Plan::Import(import) => &import.key,
        }
    }
}
