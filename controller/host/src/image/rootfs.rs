//! Root file systems made of packages, before any file of a recipe: what images of equal packages share.
//!
//! mmdebstrap runs offline, on the lists and package files that our private apt has fetched and checked. A layer is the
//! base's archive unpacked and more packages installed over it, packed again. Files below the cache:
//! `rootfs/KEY/{root.tar, status, kernel, initrd, rootfs.json}`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::apt::{Apt, Deb};
use super::cache::Cache;
use super::contain::Contained;
use super::error::{Error, Result};
use super::guest::LEAN_PACKAGES;
use super::hash::key_of;
use super::initrd::render_initrd;
use super::lock::Lock;
use super::progress::Report;
use super::tree::Tree;

/// Space a build takes for a while.
const SPACE_BYTES: u64 = 1500 << 20;

/// Hooks that come with mmdebstrap.
const MERGED_USR_HOOKS: &str = "/usr/share/mmdebstrap/hooks/merged-usr";

/// What every package leaves out: nobody reads it in a guest.
const EXCLUDED: [&str; 6] = [
    "/usr/share/doc/*",
    "/usr/share/info/*",
    "/usr/share/lintian/*",
    "/usr/share/locale/*",
    "/usr/share/man/*",
    "/usr/share/doc-base/*",
];

/// A root file system that is to be there.
#[derive(Clone, Debug)]
pub(super) struct RootfsPlan {
    pub(super) key: String,
    pub(super) suite: String,
    base: Option<String>,
    packages: Vec<String>,
    kernel: Option<(String, Deb)>,
}

/// What is known of one that is there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Rootfs {
    pub(super) suite: String,
    pub(super) kernel_version: String,
}

impl RootfsPlan {
    /// A Debian system of its own.
    pub(super) fn debian(apt: &Apt, suite: &str, packages: &[String], kernel: &str) -> Result<RootfsPlan> {
        let mut packages: Vec<String> = packages.iter().cloned().chain(LEAN_PACKAGES.map(str::to_owned)).collect();
        packages.sort();
        packages.dedup();
        let debs = apt.resolve(None, &packages)?;
        let kernel = apt.kernel(kernel)?;
        let key = key_of("rootfs", &(super::guest::fingerprint(), EXCLUDED, suite, &packages, &debs, &kernel));
        Ok(RootfsPlan { key, suite: suite.to_owned(), base: None, packages, kernel: Some(kernel) })
    }

    /// More packages on another one; the base itself when it has them all.
    pub(super) fn layer(cache: &Cache, apt: &Apt, base: &str, suite: &str, packages: &[String]) -> Result<RootfsPlan> {
        let mut packages = packages.to_vec();
        packages.sort();
        packages.dedup();
        let status = cache.rootfs(base).join("status");
        let debs = match packages.is_empty() {
            true => Vec::new(),
            false => apt.resolve(Some(&status), &packages)?,
        };
        let (key, base) = match debs.is_empty() {
            true => (base.to_owned(), None),
            false => (key_of("layer", &(base, &packages, &debs)), Some(base.to_owned())),
        };
        Ok(RootfsPlan { key, suite: suite.to_owned(), base, packages, kernel: None })
    }

    /// Makes it unless it is there; others that want the same one wait. The lock keeps it from being removed.
    pub(super) fn ensure(&self, cache: &Cache, apt: &Apt, report: &Report) -> Result<(Rootfs, Lock)> {
        let (path, description) = (cache.lock(&self.key), cache.rootfs(&self.key).join("rootfs.json"));
        loop {
            // Shared, so that the images on one root are made side by side.
            let shared = Lock::take_shared(&path)?;
            if let Some(found) = cache.load(&description)? {
                return Ok((found, shared));
            }
            drop(shared);
            if let Some(lock) = Lock::try_take(&path)? {
                let found = match cache.load(&description)? {
                    Some(found) => found,
                    None => self.make(cache, apt, report)?,
                };
                return Ok((found, lock.share()?));
            }
        }
    }

    fn make(&self, cache: &Cache, apt: &Apt, report: &Report) -> Result<Rootfs> {
        cache.require_space(SPACE_BYTES)?;
        let partial = cache.fresh_partial(&self.key)?;
        report.step(4, "downloading packages");
        let status = self.base.as_ref().map(|base| cache.rootfs(base).join("status"));
        apt.fetch(status.as_deref(), &self.packages)?;
        let version = match (&self.kernel, &self.base) {
            (Some((name, deb)), _) => {
                let kernel = apt.fetch_kernel(name, deb)?;
                self.make_debian(&partial, apt, &kernel, report)?
            }
            (None, Some(base)) => self.make_layer(cache, &partial, apt, base, report)?,
            (None, None) => return Err(Error::BaseMissing { key: self.key.clone() }),
        };
        let rootfs = Rootfs { suite: self.suite.clone(), kernel_version: version };
        keep_status(&partial)?;
        let kept = ["root.tar", "status", "kernel", "initrd"];
        cache.publish(&partial, &cache.rootfs(&self.key), &kept, "rootfs.json", &rootfs)?;
        Ok(rootfs)
    }

    /// Answers the kernel's version.
    fn make_debian(&self, partial: &Path, apt: &Apt, kernel: &Path, report: &Report) -> Result<String> {
        let hooks = [lists_hook(partial, apt)?, kernel_hook(partial, kernel)?, safe_hook(partial)?];
        self.bootstrap(partial, apt, "essential", &hooks, report)?;
        let path = partial.join("kernel-version");
        let version = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        self.make_initrd(partial, version.trim())?;
        Ok(version.trim().to_owned())
    }

    /// Answers the kernel's version, which is the base's.
    fn make_layer(&self, cache: &Cache, partial: &Path, apt: &Apt, base: &str, report: &Report) -> Result<String> {
        let below = cache.rootfs(base);
        let described: Option<Rootfs> = cache.load(&below.join("rootfs.json"))?;
        let described = described.ok_or_else(|| Error::BaseMissing { key: base.to_owned() })?;
        let hooks = [unpack_hook(partial, &below.join("root.tar"))?, lists_hook(partial, apt)?, safe_hook(partial)?];
        self.bootstrap(partial, apt, "custom", &hooks, report)?;
        for file in ["kernel", "initrd"] {
            fs::hard_link(below.join(file), partial.join(file)).map_err(Error::io("link", below.join(file)))?;
        }
        Ok(described.kernel_version)
    }

    fn bootstrap(&self, partial: &Path, apt: &Apt, variant: &str, hooks: &[Hook], report: &Report) -> Result<()> {
        let mut command = Contained::in_namespaces("install the packages", "mmdebstrap")?
            .env("TMPDIR", partial)
            .args(["--mode=root", "--format=tar", "--skip=update"])
            // What a crash would tear is thrown away anyway.
            .arg("--dpkgopt=force-unsafe-io")
            .arg(format!("--variant={variant}"));
        if !self.packages.is_empty() {
            command = command.arg(format!("--include={}", self.packages.join(",")));
        }
        command = command.args(EXCLUDED.map(|path| format!("--dpkgopt=path-exclude={path}")));
        if variant == "essential" {
            // Makes the links of a merged /usr first, or their package's scripts would bring all of Perl.
            command = command.arg(format!("--hook-dir={MERGED_USR_HOOKS}"));
        }
        for hook in hooks {
            command = command.arg(format!("--{}-hook={}", hook.stage, hook.script.display()));
        }
        command
            .arg(&self.suite)
            .arg(partial.join("root.tar"))
            .arg(apt.sources())
            .run_watched(|line| report.mmdebstrap(line))
    }

    fn make_initrd(&self, partial: &Path, version: &str) -> Result<()> {
        let dir = partial.join("initrd-root");
        fs::create_dir(&dir).map_err(Error::io("create", &dir))?;
        Contained::new("unpack the kernel's modules", "tar")?
            .args(["--extract", "--wildcards", "--file"])
            .arg(partial.join("root.tar"))
            .arg("--directory")
            .arg(&dir)
            .args(["./usr/lib/modules/*", "*/bin/busybox"])
            .run()?;
        let initrd = render_initrd(&Tree::open(&dir)?, version)?;
        fs::write(partial.join("initrd"), initrd).map_err(Error::io("write", partial.join("initrd")))
    }
}

/// A program that mmdebstrap runs with the root as its argument.
struct Hook {
    stage: &'static str,
    script: PathBuf,
}

/// Gives mmdebstrap our lists and package files, so that it needs no network. The files are linked, not copied.
fn lists_hook(partial: &Path, apt: &Apt) -> Result<Hook> {
    let (lists, debs) = (quote(&apt.lists())?, quote(apt.debs())?);
    let script = format!(
        r#"mkdir -p "$1/var/lib/apt/lists" "$1/var/cache/apt/archives"
find {lists} -maxdepth 1 -type f ! -name lock -exec cp -t "$1/var/lib/apt/lists" {{}} +
find {debs} -maxdepth 1 -name '*.deb' -exec cp --link -t "$1/var/cache/apt/archives" {{}} + 2>/dev/null ||
	find {debs} -maxdepth 1 -name '*.deb' -exec cp -f -t "$1/var/cache/apt/archives" {{}} +
"#
    );
    hook(partial, "setup", "lists", &script)
}

/// Unpacks the layer below.
fn unpack_hook(partial: &Path, tar: &Path) -> Result<Hook> {
    let tar = quote(tar)?;
    let script =
        format!("tar --extract --xattrs --xattrs-include='*' --numeric-owner --file {tar} --directory \"$1\"\n");
    hook(partial, "setup", "unpack", &script)
}

/// Takes the modules from the kernel's package and puts the kernel itself aside.
///
/// Installing that package would bring initramfs-tools and have it make an initrd that nobody boots.
fn kernel_hook(partial: &Path, deb: &Path) -> Result<Hook> {
    let (deb, partial_dir) = (quote(deb)?, quote(partial)?);
    let script = format!(
        r#"dpkg-deb --fsys-tarfile {deb} | tar --extract --keep-directory-symlink --exclude='./usr/share/*' --directory "$1"
set -- "$1" "$1"/usr/lib/modules/*
[ $# -eq 2 ] && [ -d "$2" ] || {{ echo "the kernel package holds no single set of modules" >&2; exit 1; }}
version=${{2##*/}}
chroot "$1" depmod "$version"
mv "$1/boot/vmlinuz-$version" {partial_dir}/kernel
rm -f "$1"/boot/*
echo "$version" >{partial_dir}/kernel-version
"#
    );
    hook(partial, "customize", "kernel", &script)
}

/// The guest's own dpkg is to be careful again.
fn safe_hook(partial: &Path) -> Result<Hook> {
    let script = "sed -i '/^force-unsafe-io$/d' \"$1/etc/dpkg/dpkg.cfg.d/99mmdebstrap\"\n";
    hook(partial, "customize", "safe", script)
}

fn hook(partial: &Path, stage: &'static str, name: &str, script: &str) -> Result<Hook> {
    let path = partial.join(format!("hook-{name}"));
    fs::write(&path, format!("#!/bin/sh\nset -eu\n{script}"))
        .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)))
        .map_err(Error::io("write", &path))?;
    Ok(Hook { stage, script: path })
}

/// A path as one word of a shell script.
fn quote(path: &Path) -> Result<String> {
    match path.to_str().filter(|text| !text.contains('\'')) {
        Some(text) => Ok(format!("'{text}'")),
        None => {
            Err(Error::Refused { path: path.to_owned(), reason: "the cache's path has a quote or is not UTF-8".into() })
        }
    }
}

/// Keeps dpkg's database outside too: the next layer is resolved against it.
fn keep_status(partial: &Path) -> Result<()> {
    let status = Contained::new("read the list of packages", "tar")?
        .args(["--extract", "--to-stdout", "--file"])
        .arg(partial.join("root.tar"))
        .arg("./var/lib/dpkg/status")
        .run()?;
    fs::write(partial.join("status"), status).map_err(Error::io("write", partial.join("status")))
}

/// Installed packages and their versions, from dpkg's database.
pub(super) fn installed(status: &str) -> Vec<(String, String)> {
    let mut packages: Vec<(String, String)> = status
        .split("\n\n")
        .filter_map(|record| {
            let field = |name: &str| record.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            (field("Status")? == "install ok installed")
                .then(|| Some((field("Package")?.to_owned(), field("Version")?.to_owned())))?
        })
        .collect();
    packages.sort();
    packages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_installed_packages_count() {
        let status = "Package: b\nStatus: install ok installed\nVersion: 2\n\nPackage: c\nStatus: deinstall ok config-files\nVersion: 1\n\nPackage: a\nStatus: install ok installed\nVersion: 1-1\n";
        assert_eq!(installed(status), [("a".into(), "1-1".into()), ("b".into(), "2".into())]);
    }

    #[test]
    fn a_quote_in_a_path_is_refused() {
        assert!(quote(Path::new("/a'b")).is_err());
        assert_eq!(quote(Path::new("/a b")).unwrap(), "'/a b'");
    }
}
