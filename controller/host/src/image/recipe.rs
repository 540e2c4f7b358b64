//! What an image is made of, as the agent words it; no Kubernetes kind.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::error::{Error, Result};

/// Size of the root disk when the recipe names none.
pub const DEFAULT_DISK_BYTES: u64 = 1 << 30;

/// Smallest disk that a Debian system with its journal fits on.
const LEAST_DISK_BYTES: u64 = 512 << 20;

/// How to come by an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipe {
    /// Where the system comes from.
    pub source: Source,
    /// Files written over the system, in order.
    #[serde(default)]
    pub files: Vec<FileEntry>,
    /// Units written, enabled or masked, in order.
    #[serde(default)]
    pub units: Vec<Unit>,
    /// Size of the root disk; the base's, or [`DEFAULT_DISK_BYTES`], when none.
    #[serde(default)]
    pub disk_bytes: Option<u64>,
}

/// Where an image's system comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Debian packages over the lean base.
    Debian {
        /// Suite, e.g. `bookworm`.
        suite: String,
        /// Packages beyond the lean base, each a name or `name=version`.
        packages: Vec<String>,
        /// Kernel package, e.g. `linux-image-cloud-amd64`.
        kernel_package: String,
    },
    /// More packages on a built image, whose files and units are inherited.
    Layer {
        /// Key of the built image below.
        base: String,
        /// Packages to add.
        packages: Vec<String>,
    },
    /// A disk that exists.
    File {
        /// Absolute path.
        path: PathBuf,
        /// SHA-256 in hex, with or without `sha256:` before it.
        sha256: String,
        /// How the disk is written.
        format: DiskFormat,
        /// Kernel for direct boot; the disk's own boot loader runs when none.
        kernel: Option<PathBuf>,
        /// Initial RAM disk of that kernel.
        initrd: Option<PathBuf>,
    },
}

/// How a disk file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskFormat {
    /// Byte for byte.
    Raw,
    /// QEMU's copy-on-write format, version 2 or 3.
    Qcow2,
}

/// A file in the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Absolute path without `..`.
    pub path: String,
    /// Contents.
    pub content: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
}

/// A systemd unit in the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// Name with its suffix.
    pub name: String,
    /// Unit file; none for one that a package brings.
    pub content: Option<String>,
    /// Started at boot, by its `[Install]` section.
    pub enabled: bool,
    /// Never started.
    pub masked: bool,
}

impl Recipe {
    /// Refuses what cannot work or would reach outside the image; has no other effect.
    pub fn validate(&self) -> Result<()> {
        match &self.source {
            Source::Debian { suite, packages, kernel_package } => {
                check_word("source.suite", suite)?;
                check_packages(packages)?;
                check_package("source.kernelPackage", kernel_package)?;
            }
            Source::Layer { packages, .. } => check_packages(packages)?,
            Source::File { path, sha256, .. } => self.check_import(path.is_absolute(), sha256)?,
        }
        for (i, file) in self.files.iter().enumerate() {
            check_path(&format!("files[{i}].path"), &file.path)?;
            if file.mode > 0o7777 {
                return Err(Error::recipe(format!("files[{i}].mode"), "it has more than permission bits"));
            }
        }
        for (i, unit) in self.units.iter().enumerate() {
            unit.validate(&format!("units[{i}]"))?;
        }
        match self.disk_bytes {
            Some(bytes) if bytes < LEAST_DISK_BYTES || bytes % 4096 != 0 => {
                Err(Error::recipe("diskBytes", format!("{bytes} is less than 512 MiB or no multiple of 4096")))
            }
            _ => Ok(()),
        }
    }

    fn check_import(&self, absolute: bool, sha256: &str) -> Result<()> {
        if !absolute {
            return Err(Error::recipe("source.path", "it is not absolute"));
        }
        let digits = plain_digest(sha256);
        if digits.len() != 64 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Error::recipe("source.sha256", "it is not 64 hex digits"));
        }
        if !self.files.is_empty() || !self.units.is_empty() || self.disk_bytes.is_some() {
            return Err(Error::recipe(
                "source.file",
                "an imported disk is taken as it is: files, units and a size cannot be given",
            ));
        }
        Ok(())
    }
}

impl Unit {
    fn validate(&self, field: &str) -> Result<()> {
        let known_suffix = [".service", ".socket", ".target", ".mount", ".timer", ".path"]
            .iter()
            .any(|suffix| self.name.ends_with(suffix));
        let plain = self.name.bytes().all(|b| b.is_ascii_alphanumeric() || b"\\:_.@-".contains(&b));
        if !known_suffix || !plain || self.name.starts_with('.') {
            return Err(Error::recipe(format!("{field}.name"), format!("{:?} is no unit name", self.name)));
        }
        if self.masked && (self.enabled || self.content.is_some()) {
            return Err(Error::recipe(field, "a masked unit can neither be enabled nor have content"));
        }
        Ok(())
    }
}

/// The hex digits of a digest that may begin with its algorithm.
pub(super) fn plain_digest(digest: &str) -> &str {
    digest.strip_prefix("sha256:").unwrap_or(digest)
}

fn check_packages(packages: &[String]) -> Result<()> {
    packages.iter().enumerate().try_for_each(|(i, package)| check_package(&format!("source.packages[{i}]"), package))
}

/// Debian Policy §5.6.1 and §5.6.12; above all no option, pattern or removal that apt would obey.
fn check_package(field: &str, package: &str) -> Result<()> {
    let (name, version) = match package.split_once('=') {
        Some((name, version)) => (name, Some(version)),
        None => (package, None),
    };
    let name_ok = name.len() >= 2
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && !name.ends_with('-')
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+.-".contains(&b));
    let version_ok = version.is_none_or(|version| {
        !version.is_empty() && version.bytes().all(|b| b.is_ascii_alphanumeric() || b".+~:-".contains(&b))
    });
    match name_ok && version_ok {
        true => Ok(()),
        false => Err(Error::recipe(field, format!("{package:?} is no package name"))),
    }
}

fn check_word(field: &str, word: &str) -> Result<()> {
    let ok = word.starts_with(|c: char| c.is_ascii_lowercase())
        && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    match ok {
        true => Ok(()),
        false => Err(Error::recipe(field, format!("{word:?} is no suite name"))),
    }
}

fn check_path(field: &str, path: &str) -> Result<()> {
    let inside = path.strip_prefix('/').is_some_and(|rest| {
        !rest.is_empty() && rest.split('/').all(|part| !matches!(part, "" | "." | "..") && !part.contains('\0'))
    });
    match inside {
        true => Ok(()),
        false => Err(Error::recipe(field, format!("{path:?} is no plain absolute path"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn debian(packages: &[&str]) -> Recipe {
        Recipe {
            source: Source::Debian {
                suite: "bookworm".into(),
                packages: packages.iter().map(|p| (*p).to_owned()).collect(),
                kernel_package: "linux-image-cloud-amd64".into(),
            },
            files: vec![],
            units: vec![],
            disk_bytes: None,
        }
    }

    #[test]
    fn real_package_names_pass() {
        debian(&["etcd-server", "g++", "libstdc++6", "bash=5.2.15-2+b7", "tzdata=1:2024a~x"]).validate().unwrap();
    }

    #[test]
    fn nothing_that_apt_would_obey_passes_as_a_package() {
        for bad in ["", "a", "-oDir=/", "bash-", "?essential", "a b", "Bash", "bash/sid", "~i", "bash="] {
            let error = debian(&[bad]).validate().unwrap_err();
            assert_eq!(error.category(), "InvalidRecipe", "{bad:?}");
            assert!(error.to_string().contains("source.packages[0]"), "{error}");
        }
    }

    #[test]
    fn a_masked_unit_cannot_be_enabled() {
        let mut recipe = debian(&[]);
        recipe.units.push(Unit { name: "x.service".into(), content: None, enabled: true, masked: true });
        assert!(recipe.validate().is_err());
    }

    proptest! {
        #[test]
        fn a_path_that_passes_has_no_way_up(path in "(/?[a-z.]{0,3}){1,5}") {
            if check_path("p", &path).is_ok() {
                let parts: Vec<_> = std::path::Path::new(&path).components().collect();
                prop_assert!(path.starts_with('/'));
                prop_assert!(!parts.contains(&std::path::Component::ParentDir));
            }
        }
    }
}
