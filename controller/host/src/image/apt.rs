//! A private apt: its own lists, cache and idea of what is installed, with the machine's mirror, proxy and keys.
//!
//! The machine's own apt state is never read or locked. Lists are refreshed at most once in a while, and stale ones are
//! better than none, so an image whose packages are cached can be built without a network.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::contain::{Contained, last_lines};
use super::error::{Error, Result};
use super::lock::Lock;
use super::sources::{host_files, render_sources};

/// A package file as apt names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Deb {
    /// `name_version_architecture.deb`, escaped as in apt's cache.
    pub(super) file: String,
    /// Algorithm and digest from the signed lists.
    pub(super) hash: String,
}

/// The private apt of one suite.
#[derive(Debug)]
pub(super) struct Apt {
    suite: String,
    dir: PathBuf,
    debs: PathBuf,
}

impl Apt {
    /// Sets up the state for a suite; `cache` is the builder's directory.
    pub(super) fn open(cache: &Path, suite: &str) -> Result<Apt> {
        let apt = Apt {
            suite: suite.to_owned(),
            dir: cache.join("apt").join(suite),
            debs: cache.join("apt").join(suite).join("debs"),
        };
        for dir in [
            apt.dir.join("lists/partial"),
            apt.dir.join("nothing/partial"),
            apt.dir.join("etc/apt.conf.d"),
            apt.dir.join("etc/preferences.d"),
            apt.debs.join("partial"),
        ] {
            fs::create_dir_all(&dir).map_err(Error::io("create", &dir))?;
        }
        write(&apt.dir.join("empty-status"), "")?;
        let sources = render_sources(suite, &host_files(Path::new("/etc/apt")));
        if fs::read_to_string(apt.sources()).unwrap_or_default() != sources {
            // Another mirror: what was fetched from the old one says nothing about it.
            let _ = fs::remove_file(apt.stamp());
            write(&apt.sources(), &sources)?;
        }
        let mut config = apt.render_config();
        for line in transport_options()? {
            config.push_str(&line);
            config.push('\n');
        }
        write(&apt.config(), &config)?;
        Ok(apt)
    }

    /// The `sources.list` in use.
    pub(super) fn sources(&self) -> PathBuf {
        self.dir.join("sources.list")
    }

    /// Directory of the package lists.
    pub(super) fn lists(&self) -> PathBuf {
        self.dir.join("lists")
    }

    /// Directory of the package files.
    pub(super) fn debs(&self) -> &Path {
        &self.debs
    }

    /// Fetches the package lists unless they are younger than `max_age`.
    pub(super) fn refresh(&self, max_age: Duration) -> Result<()> {
        let _lock = Lock::take(&self.dir.join("lock"))?;
        let age = fs::metadata(self.stamp())
            .and_then(|stamp| stamp.modified())
            .ok()
            .and_then(|at| SystemTime::now().duration_since(at).ok());
        if age.is_some_and(|age| age < max_age) {
            return Ok(());
        }
        let ended = self
            .apt_get("read the package lists")?
            .args(["update", "-q", "-o", "APT::Update::Error-Mode=any"])
            .end()?;
        if ended.status.success() {
            self.drop_old_files()?;
            return write(&self.stamp(), "");
        }
        let output = last_lines(&ended.stderr);
        // The stamp is only ever written after a complete update.
        if age.is_some() {
            tracing::warn!(suite = %self.suite, output, "failed to refresh the package lists; the old ones are used");
            return Ok(());
        }
        Err(Error::Mirror {
            mirrors: fs::read_to_string(self.sources()).unwrap_or_default().trim().replace('\n', ", "),
            output,
        })
    }

    /// Removes the package files that no list mentions any more.
    fn drop_old_files(&self) -> Result<()> {
        let _lock = Lock::take(&self.dir.join("debs.lock"))?;
        self.apt_get("remove old package files")?.args(["autoclean", "-qq"]).run().map(|_| ())
    }

    /// The package files that installing `packages` over `status` takes, sorted.
    pub(super) fn resolve(&self, status: Option<&Path>, packages: &[String]) -> Result<Vec<Deb>> {
        // Files in the cache are left out of the answer, so an empty one is named.
        let nothing = format!("Dir::Cache::archives={}", self.dir.join("nothing").display());
        let ended = self.install(status, packages)?.args(["--print-uris", "-o", &nothing]).end()?;
        if !ended.status.success() {
            return Err(self.explain(&ended.stderr));
        }
        Ok(parse_uris(&String::from_utf8_lossy(&ended.stdout)))
    }

    /// Downloads what [`Apt::resolve`] answered into the cache, checked against the signed lists.
    pub(super) fn fetch(&self, status: Option<&Path>, packages: &[String]) -> Result<()> {
        let _lock = Lock::take(&self.dir.join("debs.lock"))?;
        let ended = self.install(status, packages)?.arg("--download-only").end()?;
        match ended.status.success() {
            true => Ok(()),
            false => Err(self.explain(&ended.stderr)),
        }
    }

    /// The file of the kernel that a package, perhaps a metapackage, stands for, and the name of its real package.
    pub(super) fn kernel(&self, package: &str) -> Result<(String, Deb)> {
        let ended = self
            .command("look at the kernel package", "apt-cache")?
            .args(["show", "--no-all-versions", package])
            .end()?;
        let name = match ended.status.success() {
            true => kernel_package(&String::from_utf8_lossy(&ended.stdout)),
            false => None,
        };
        let name = name.ok_or_else(|| self.unknown(package))?;
        let listed =
            self.apt_get("look at the kernel package")?.args(["download", "-qq", "--print-uris", &name]).run()?;
        match parse_uris(&String::from_utf8_lossy(&listed)).pop() {
            Some(deb) => Ok((name, deb)),
            None => Err(self.unknown(package)),
        }
    }

    /// Downloads the kernel's package file and answers its path.
    pub(super) fn fetch_kernel(&self, name: &str, deb: &Deb) -> Result<PathBuf> {
        let _lock = Lock::take(&self.dir.join("debs.lock"))?;
        let path = self.debs.join(&deb.file);
        if !path.exists() {
            // Aside first: killed half-way, this command leaves a torn file under the right name.
            let aside = self.dir.join("aside");
            fs::create_dir_all(&aside).map_err(Error::io("create", &aside))?;
            let torn = aside.join(&deb.file);
            if torn.exists() {
                fs::remove_file(&torn).map_err(Error::io("remove", &torn))?;
            }
            self.apt_get("download the kernel")?.args(["download", "-qq", name]).current_dir(&aside).run()?;
            fs::rename(&torn, &path).map_err(Error::io("keep", &path))?;
        }
        Ok(path)
    }

    fn install(&self, status: Option<&Path>, packages: &[String]) -> Result<Contained> {
        let status = status.map_or_else(|| self.dir.join("empty-status"), Path::to_owned);
        let mut command = self
            .apt_get("resolve the packages")?
            .args(["install", "-qq", "-y", "-o"])
            .arg(format!("Dir::State::status={}", status.display()))
            .arg("--no-remove");
        if status.ends_with("empty-status") {
            command = command.arg("?essential");
        }
        Ok(command.args(packages))
    }

    fn apt_get(&self, step: &'static str) -> Result<Contained> {
        self.command(step, "apt-get")
    }

    fn command(&self, step: &'static str, program: &str) -> Result<Contained> {
        Ok(Contained::new(step, program)?.env("APT_CONFIG", self.config()))
    }

    fn render_config(&self) -> String {
        let dir = self.dir.display();
        let debs = self.debs.display();
        format!(
            r#"Dir::State "{dir}";
Dir::State::lists "{dir}/lists";
Dir::State::status "{dir}/empty-status";
Dir::Cache "{dir}";
Dir::Cache::archives "{debs}";
Dir::Cache::pkgcache "";
Dir::Etc "{dir}/etc";
Dir::Etc::sourcelist "{dir}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::trustedparts "/etc/apt/trusted.gpg.d";
Dir::Etc::netrc "/etc/apt/auth.conf";
Dir::Etc::netrcparts "/etc/apt/auth.conf.d";
APT::Architecture "amd64";
APT::Architectures "amd64";
APT::Install-Recommends "false";
APT::Get::AllowUnauthenticated "false";
Acquire::Languages "none";
Acquire::Retries "3";
Debug::NoLocking "true";
"#
        )
    }

    fn explain(&self, stderr: &str) -> Error {
        match unknown_package(stderr) {
            Some(package) => self.unknown(&package),
            None if stderr.contains("Failed to fetch") => {
                Error::Mirror { mirrors: self.suite.clone(), output: last_lines(stderr) }
            }
            None => Error::Unsatisfiable { output: last_lines(stderr) },
        }
    }

    fn unknown(&self, package: &str) -> Error {
        Error::UnknownPackage { package: package.to_owned(), suite: self.suite.clone() }
    }

    fn config(&self) -> PathBuf {
        self.dir.join("apt.conf")
    }

    fn stamp(&self) -> PathBuf {
        self.dir.join("updated")
    }
}

/// How the machine's apt reaches its mirrors: proxies, retries, tolerance of old lists.
fn transport_options() -> Result<Vec<String>> {
    let dump = Contained::new("read apt's configuration", "apt-config")?.arg("dump").run()?;
    let wanted = ["Acquire::http::", "Acquire::https::", "Acquire::Check-", "Acquire::ForceIPv"];
    Ok(String::from_utf8_lossy(&dump)
        .lines()
        .filter(|line| wanted.iter().any(|prefix| line.starts_with(prefix)))
        .map(str::to_owned)
        .collect())
}

fn write(path: &Path, text: &str) -> Result<()> {
    process::replace_file(path, text, 0o644).map_err(Error::io("write", path))
}

/// Reads `'uri' file size hash` lines.
fn parse_uris(output: &str) -> Vec<Deb> {
    let mut debs: Vec<Deb> = output
        .lines()
        .filter_map(|line| line.strip_prefix('\'')?.split_once("' "))
        .filter_map(|(_, rest)| {
            let mut words = rest.split(' ');
            Some(Deb { file: words.next()?.to_owned(), hash: words.nth(1)?.to_owned() })
        })
        .collect();
    debs.sort();
    debs
}

/// The package in the first complaint about one that does not exist.
fn unknown_package(stderr: &str) -> Option<String> {
    stderr.lines().find_map(|line| {
        if let Some(name) = line.strip_prefix("E: Unable to locate package ") {
            return Some(name.trim().to_owned());
        }
        let quoted: Vec<&str> = line.split('\'').collect();
        match quoted[..] {
            ["E: Version ", version, " for ", name, ..] => Some(format!("{name}={version}")),
            ["E: Package ", name, tail] if tail.contains("no installation candidate") => Some(name.to_owned()),
            _ => None,
        }
    })
}

/// From a record of `apt-cache show`: the kernel image a metapackage depends on, else the package itself.
fn kernel_package(record: &str) -> Option<String> {
    let field = |name: &str| record.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let package = field("Package")?;
    let depended = field("Depends")
        .unwrap_or_default()
        .split(',')
        .filter_map(|dependency| dependency.split_whitespace().next())
        .find(|name| name.starts_with("linux-image-"));
    Some(depended.unwrap_or(package).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_name_the_package() {
        for (line, name) in [
            ("E: Unable to locate package nosuch", "nosuch"),
            ("E: Version '9' for 'bash' was not found", "bash=9"),
            ("E: Package 'etcd' has no installation candidate", "etcd"),
        ] {
            assert_eq!(unknown_package(&format!("W: x\n{line}\n")).as_deref(), Some(name));
        }
        assert_eq!(unknown_package("E: Unable to correct problems"), None);
    }

    #[test]
    fn uris_are_sorted_so_that_the_mirror_does_not_matter() {
        let debs =
            parse_uris("'http://b/x' b_1_amd64.deb 5 SHA256:bb\nnoise\n'http://a/y' a_1%3a2_all.deb 6 SHA256:aa\n");
        assert_eq!(debs.iter().map(|deb| deb.file.as_str()).collect::<Vec<_>>(), ["a_1%3a2_all.deb", "b_1_amd64.deb"]);
        assert_eq!(debs[0].hash, "SHA256:aa");
    }

    #[test]
    fn a_metapackage_stands_for_its_kernel() {
        let meta = "Package: linux-image-cloud-amd64\nDepends: linux-image-6.1.0-1-cloud-amd64 (= 6.1-1)\n";
        assert_eq!(kernel_package(meta).as_deref(), Some("linux-image-6.1.0-1-cloud-amd64"));
        let real = "Package: linux-image-6.1.0-1-cloud-amd64\nDepends: kmod, linux-base\n";
        assert_eq!(kernel_package(real).as_deref(), Some("linux-image-6.1.0-1-cloud-amd64"));
    }
}
