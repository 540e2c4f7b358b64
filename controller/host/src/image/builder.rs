//! Builds images: plans, coalesces equal ones, and answers what is there.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::cache::Cache;
use super::contain::Contained;
use super::disk::make_disk;
use super::error::{Error, Result};
use super::guest::make_lean;
use super::hash::digest_of;
use super::import::ImportPlan;
use super::lock::Lock;
use super::plan::{Plan, Planner, System, SystemPlan};
use super::progress::{Progress, Report};
use super::recipe::{DiskFormat, Recipe};
use super::rootfs::installed;
use super::sources::render_sources;
use super::tree::Tree;
use super::units::apply_unit;
use super::uses::{Uses, idle};

/// Space that unpacking a root and making a disk of it takes for a while.
const SPACE_BYTES: u64 = 1 << 30;

/// What a builder is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// Directory for images, and for what is under way.
    pub cache_dir: PathBuf,
    /// Directory for package lists and files, which several builders may share; `cache_dir` when none.
    pub packages_dir: Option<PathBuf>,
    /// User and group that parse imported disks; they should own nothing else.
    pub converter: (u32, u32),
    /// Age at which package lists are fetched again.
    pub lists_max_age: Duration,
    /// How long an image is kept that nobody uses.
    pub keep_unused: Duration,
}

impl Options {
    /// Usual options for a cache directory.
    pub fn new(cache_dir: impl Into<PathBuf>) -> Options {
        Options {
            cache_dir: cache_dir.into(),
            packages_dir: None,
            // Debian leaves this range to nobody (Policy §9.2.2 ends at 59999 for packages).
            converter: (62_180, 62_180),
            lists_max_age: Duration::from_secs(6 * 3600),
            // Whoever tests every day, or takes a long weekend, finds yesterday's images.
            keep_unused: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

/// An image that can be booted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// Name of its content: recipe, resolved packages and builder.
    pub key: String,
    /// SHA-256 of the disk in hex.
    pub digest: String,
    /// The disk; never written to, guests write to an overlay.
    pub disk: PathBuf,
    /// How the disk is written.
    pub disk_format: DiskFormat,
    /// Size of the disk as a guest sees it.
    pub disk_bytes: u64,
    /// Kernel for direct boot; none when the disk has its own boot loader.
    pub kernel: Option<PathBuf>,
    /// Initial RAM disk for that kernel.
    pub initrd: Option<PathBuf>,
    /// Release of the kernel; empty for imported ones.
    pub kernel_version: String,
    /// Bytes the disk occupies on the host.
    pub size_bytes: u64,
    /// Packages inside with their versions.
    pub packages: Vec<(String, String)>,
}

/// What `image.json` holds: [`Built`] without paths, and what a layer needs of its base.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Description {
    digest: String,
    disk_bytes: u64,
    size_bytes: u64,
    has_kernel: bool,
    has_initrd: bool,
    kernel_version: String,
    packages: Vec<(String, String)>,
    system: Option<System>,
}

/// Builds and keeps images. Cheap to clone; several processes may share one cache directory.
#[derive(Clone, Debug)]
pub struct Builder {
    options: Arc<Options>,
    cache: Cache,
}

impl Builder {
    /// A builder; removes what an earlier one left half-made.
    pub async fn open(options: Options) -> Result<Builder> {
        let cache = Cache::new(options.cache_dir.clone());
        let builder = Builder { options: Arc::new(options), cache };
        builder.run(|builder| builder.cache.sweep_partials()).await?;
        Ok(builder)
    }

    /// The key of the image that the recipe gives today: it moves when packages get new versions.
    pub async fn key(&self, recipe: &Recipe) -> Result<String> {
        let recipe = recipe.clone();
        self.run(move |builder| Ok(builder.plan(&recipe)?.key().to_owned())).await
    }

    /// Builds the image, or answers the equal one that is there or being built.
    ///
    /// Dropping the future does not stop a build that has begun; the end of this process does, without a trace.
    pub async fn build(&self, recipe: &Recipe, progress: impl Fn(Progress) + Send + Sync + 'static) -> Result<Built> {
        let recipe = recipe.clone();
        let report = Report::new(progress);
        self.run(move |builder| {
            report.step(0, "resolving packages");
            let plan = builder.plan(&recipe)?;
            if let Some(found) = builder.use_present(plan.key())? {
                return Ok(found);
            }
            require_root()?;
            report.step(1, "waiting for an equal build");
            let _lock = Lock::take(&builder.cache.lock(plan.key()))?;
            if let Some(found) = builder.load(plan.key())? {
                builder.cache.touch(&builder.cache.image(plan.key()))?;
                return Ok(found);
            }
            let built = match &plan {
                Plan::System(system) => builder.build_system(system, &report),
                Plan::Import(import) => builder.build_import(import, &report),
            }?;
            report.step(100, "done");
            Ok(built)
        })
        .await
    }

    /// The image with this key, if it is there.
    pub async fn find(&self, key: &str) -> Result<Option<Built>> {
        let key = key.to_owned();
        self.run(move |builder| builder.use_present(&key)).await
    }

    /// Reads the whole disk again and fails when it is no longer what was built.
    pub async fn verify(&self, built: &Built) -> Result<()> {
        let built = built.clone();
        self.run(move |_| {
            let found = digest_of(&built.disk)?;
            match found == built.digest {
                true => Ok(()),
                false => Err(Error::Digest { path: built.disk, expected: built.digest, found }),
            }
        })
        .await
    }

    /// Says which images `user`, whose files are in `dir`, cannot do without: they stay until it says otherwise.
    pub async fn declare(&self, user: &str, dir: &Path, keys: BTreeSet<String>) -> Result<()> {
        let (user, uses) = (user.to_owned(), Uses { dir: dir.to_owned(), keys });
        self.run(move |builder| builder.cache.declare(&user, &uses)).await
    }

    /// Removes images that no user declares and nobody has asked for in a long time, with what only those needed; answers
    /// the keys removed.
    pub async fn prune(&self) -> Result<Vec<String>> {
        self.run(|builder| {
            let (cache, keep) = (&builder.cache, builder.options.keep_unused);
            let used = cache.in_use(keep)?;
            let wanted = |key: &str| used.contains(key) || idle(&cache.image(key)) < keep;
            let mut rootfs = BTreeSet::new();
            for key in cache.images()?.into_iter().filter(|key| wanted(key)) {
                rootfs.extend(builder.describe(&key)?.and_then(|found| found.system).map(|system| system.rootfs));
            }
            cache.retain(wanted, |key| rootfs.contains(key) || idle(&cache.rootfs(key)) < keep)
        })
        .await
    }

    /// Runs blocking work on a thread that lives as long as the work, which is what kills the work's programs with us.
    async fn run<T: Send + 'static>(&self, work: impl FnOnce(&Builder) -> Result<T> + Send + 'static) -> Result<T> {
        let builder = self.clone();
        tokio::task::spawn_blocking(move || work(&builder)).await.map_err(Error::Interrupted)?
    }

    fn plan(&self, recipe: &Recipe) -> Result<Plan> {
        let packages_dir = self.options.packages_dir.as_ref().unwrap_or(&self.options.cache_dir);
        let planner = Planner { cache: &self.cache, packages_dir, lists_max_age: self.options.lists_max_age };
        planner.plan(recipe, |key| Ok(self.describe(key)?.map(|found| found.system)))
    }

    fn build_system(&self, plan: &SystemPlan, report: &Report) -> Result<Built> {
        let SystemPlan { key, apt, rootfs, system } = plan;
        // Held until the image is there: a root that no image names is removed when nobody uses it.
        let (found, _lock) = rootfs.ensure(&self.cache, apt, report)?;
        let below = self.cache.rootfs(&rootfs.key);
        self.cache.touch(&below)?;
        self.cache.require_space(SPACE_BYTES)?;
        let partial = self.cache.fresh_partial(key)?;
        report.step(80, "unpacking the root");
        let root = partial.join("root");
        unpack(&below.join("root.tar"), &root)?;
        let tree = Tree::open(&root)?;
        make_lean(&tree, &system.files, &system.units)?;
        // The builder's own mirror is nobody's business, and would make the bytes depend on it.
        tree.remove("/etc/apt/sources.list.d/0000sources.list")?;
        tree.write("/etc/apt/sources.list", 0o644, render_sources(&system.suite, &[]).as_bytes())?;
        for file in &system.files {
            tree.write(&file.path, file.mode, &file.content)?;
        }
        for unit in &system.units {
            apply_unit(&tree, unit)?;
        }
        tree.clamp_times()?;
        report.step(88, "making the disk");
        make_disk(&root, &partial.join("disk.raw"), system.disk_bytes)?;
        for file in ["kernel", "initrd"] {
            fs::hard_link(below.join(file), partial.join(file)).map_err(Error::io("link", below.join(file)))?;
        }
        let status = below.join("status");
        let status = fs::read_to_string(&status).map_err(Error::io("read", &status))?;
        let description = Description {
            kernel_version: found.kernel_version,
            packages: installed(&status),
            system: Some(system.clone()),
            ..describe_disk(&partial, report)?
        };
        self.publish(key, &partial, &["disk.raw", "kernel", "initrd"], description)
    }

    fn build_import(&self, import: &ImportPlan, report: &Report) -> Result<Built> {
        let partial = self.cache.fresh_partial(&import.key)?;
        let files = import.fill(&self.cache, &partial, self.options.converter, report);
        // What was refused is of no use to a later try.
        let files = files.inspect_err(|_| {
            let _ = super::cache::remove_tree(&partial);
        })?;
        let description = Description {
            has_kernel: files.contains(&"kernel"),
            has_initrd: files.contains(&"initrd"),
            ..describe_disk(&partial, report)?
        };
        self.publish(&import.key, &partial, &files, description)
    }

    fn publish(&self, key: &str, partial: &Path, files: &[&str], description: Description) -> Result<Built> {
        let place = self.cache.image(key);
        self.cache.publish(partial, &place, files, "image.json", &description)?;
        Ok(built(key, &place, description))
    }

    fn describe(&self, key: &str) -> Result<Option<Description>> {
        // A key is a name of ours; anything else could lead out of the cache.
        match key.bytes().all(|b| b.is_ascii_hexdigit()) && !key.is_empty() {
            true => self.cache.load(&self.cache.image(key).join("image.json")),
            false => Ok(None),
        }
    }

    /// The image, if it is there; it counts as used from now on. While somebody builds or removes it, it is not there.
    fn use_present(&self, key: &str) -> Result<Option<Built>> {
        if self.describe(key)?.is_none() {
            return Ok(None);
        }
        let Some(_lock) = Lock::try_take_shared(&self.cache.lock(key))? else { return Ok(None) };
        let found = self.load(key)?;
        self.cache.touch(&self.cache.image(key))?;
        Ok(found)
    }

    fn load(&self, key: &str) -> Result<Option<Built>> {
        let Some(description) = self.describe(key)? else {
            return Ok(None);
        };
        let place = self.cache.image(key);
        let disk = place.join("disk.raw");
        let length = fs::metadata(&disk).map_err(Error::io("read", &disk))?.len();
        match length == description.disk_bytes {
            true => Ok(Some(built(key, &place, description))),
            false => Err(Error::Refused {
                path: disk,
                reason: format!("it has {length} bytes instead of {}: delete the image", description.disk_bytes),
            }),
        }
    }
}

fn built(key: &str, place: &Path, description: Description) -> Built {
    Built {
        key: key.to_owned(),
        digest: description.digest,
        disk: place.join("disk.raw"),
        disk_format: DiskFormat::Raw,
        disk_bytes: description.disk_bytes,
        kernel: description.has_kernel.then(|| place.join("kernel")),
        initrd: description.has_initrd.then(|| place.join("initrd")),
        kernel_version: description.kernel_version,
        size_bytes: description.size_bytes,
        packages: description.packages,
    }
}

fn describe_disk(partial: &Path, report: &Report) -> Result<Description> {
    report.step(94, "hashing the disk");
    let disk = partial.join("disk.raw");
    let metadata = fs::metadata(&disk).map_err(Error::io("read", &disk))?;
    Ok(Description {
        digest: digest_of(&disk)?,
        disk_bytes: metadata.len(),
        size_bytes: metadata.blocks() * 512,
        has_kernel: true,
        has_initrd: true,
        kernel_version: String::new(),
        packages: Vec::new(),
        system: None,
    })
}

fn unpack(tar: &Path, root: &Path) -> Result<()> {
    fs::create_dir(root).map_err(Error::io("create", root))?;
    Contained::new("unpack the root", "tar")?
        .args(["--extract", "--preserve-permissions", "--numeric-owner", "--xattrs", "--xattrs-include=*", "--file"])
        .arg(tar)
        .arg("--directory")
        .arg(root)
        .run()
        .map(|_| ())
}

fn require_root() -> Result<()> {
    match rustix::process::geteuid().is_root() {
        true => Ok(()),
        false => Err(Error::NotRoot),
    }
}
