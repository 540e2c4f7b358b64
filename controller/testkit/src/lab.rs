//! The real binary in a directory of its own, and the proof that `clean` leaves nothing of it.
//!
//! ```text
//!  Lab::up ─► clusterctl up --detach ─► test ─► finish (or drop) ─► clusterctl clean ─► nothing is left?
//! ```
//! Images are costly to build and equal ones are the same, so all labs share one cache, which outlives them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use process::{ProcessId, Record};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::leftovers::{Marks, leftovers};

/// Most commands answer at once; an `up` may wait 90 s for its parts.
const PATIENCE: Duration = Duration::from_secs(120);

/// One instance of the controller.
pub struct Lab {
    dir: TempDir,
    files: TempDir,
    binary: PathBuf,
    image_cache: PathBuf,
    finished: bool,
}

/// How a command ended.
#[derive(Clone, Debug)]
pub struct Ran {
    /// What was run, for messages.
    pub words: String,
    /// Its exit code; 124 when it was ended because it took too long.
    pub code: i32,
    /// What it printed.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

impl Ran {
    /// Its output, when it succeeded.
    pub fn ok(self) -> Result<String> {
        ensure!(self.code == 0, "{self}");
        Ok(self.stdout)
    }

    /// What it complained of, when it failed with this code.
    pub fn fails_with(self, code: i32) -> Result<String> {
        ensure!(self.code == code, "exit code {code} was expected: {self}");
        Ok(self.stderr)
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` ended with {}\nstdout: {}\nstderr: {}", self.words, self.code, self.stdout, self.stderr)
    }
}

impl Lab {
    /// A directory for an instance; nothing runs yet.
    pub fn new() -> Result<Lab> {
        let dir = tempfile::Builder::new().prefix("clusterctl-e2e-").tempdir().context("failed to make a directory")?;
        let files =
            tempfile::Builder::new().prefix("clusterctl-files-").tempdir().context("failed to make a directory")?;
        Ok(Lab { dir, files, binary: binary()?, image_cache: image_cache(), finished: false })
    }

    /// The same instance, by another copy of the binary.
    pub fn with_binary(mut self, binary: PathBuf) -> Lab {
        self.binary = binary;
        self
    }

    /// An instance that is up, with these flags of `up`.
    pub fn up(flags: &[&str]) -> Result<Lab> {
        let lab = Lab::new()?;
        lab.start(flags)?;
        Ok(lab)
    }

    /// Brings it up, or up again.
    pub fn start(&self, flags: &[&str]) -> Result<()> {
        let words: Vec<&str> = ["up", "--detach"].into_iter().chain(flags.iter().copied()).collect();
        self.run(&words)?.ok().map(drop)
    }

    /// Brings it up in an environment of the test's choice.
    pub fn start_in(&self, flags: &[&str], environment: &[(&str, &str)]) -> Result<()> {
        let words: Vec<&str> = ["up", "--detach"].into_iter().chain(flags.iter().copied()).collect();
        let output = self.command(PATIENCE, &words).envs(environment.iter().copied()).output()?;
        ensure!(output.status.success(), "up: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// The data directory.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A file or directory below it.
    pub fn join(&self, below: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(below)
    }

    /// The binary under test.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// A command of the binary on this instance; it is ended when it takes longer than `limit`.
    pub fn command<S: AsRef<OsStr>>(&self, limit: Duration, words: &[S]) -> Command {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", &limit.as_secs().to_string()]).arg(&self.binary).args(words);
        command.env("CLUSTERCTL_DATA_DIR", self.path()).env("CLUSTERCTL_IMAGE_CACHE", &self.image_cache);
        command.env_remove("KUBECONFIG").stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub fn run<S: AsRef<OsStr>>(&self, words: &[S]) -> Result<Ran> {
        self.run_within(PATIENCE, words)
    }

    /// Runs a command that may take a while.
    pub fn run_within<S: AsRef<OsStr>>(&self, limit: Duration, words: &[S]) -> Result<Ran> {
        let shown: Vec<_> = words.iter().map(|word| word.as_ref().to_string_lossy()).collect();
        let output = self.command(limit, words).output().context("failed to run `timeout`, of coreutils")?;
        Ok(Ran {
            words: format!("clusterctl {}", shown.join(" ")),
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Applies a manifest.
    pub fn apply(&self, manifest: &str) -> Result<Ran> {
        let path = self.write("applied.yaml", manifest)?;
        self.run(&[OsStr::new("apply"), OsStr::new("-f"), path.as_os_str()])
    }

    /// A directory for files of the test's own, apart from the instance's.
    pub fn files(&self) -> &Path {
        self.files.path()
    }

    /// Writes a file of the test's own.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.files.path().join(name);
        std::fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))?;
        Ok(path)
    }

    /// One of our processes: `up`, `server`, `agent-host01` or `etcd`.
    pub fn process(&self, name: &str) -> Result<ProcessId> {
        let path =
            if name == "etcd" { self.join("etcd/process.json") } else { self.join(format!("server/{name}.json")) };
        let record = Record::load(&path)?.with_context(|| format!("{name} has no record"))?;
        record.running().with_context(|| format!("{name} does not run"))
    }

    /// Kills one of our processes without any chance to tidy up. One that is dead already stays so.
    pub fn kill(&self, name: &str) -> Result<()> {
        match self.process(name) {
            Ok(id) if id.is_alive() => {
                Ok(id.signal(Signal::KILL).or_else(|error| if id.is_alive() { Err(error) } else { Ok(()) })?)
            }
            // Between two lives.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Cleans, and fails when anything is left.
    pub fn finish(mut self) -> Result<()> {
        self.clean()
    }

    fn clean(&mut self) -> Result<()> {
        self.finished = true;
        let marks = Marks::read(self.path());
        let cleaned = self.run(&["clean"])?;
        let left = leftovers(self.path(), &marks);
        cleaned.ok()?;
        if !left.is_empty() {
            bail!("after `clusterctl clean` there are left:\n  {}", left.join("\n  "));
        }
        Ok(())
    }

    /// The last lines of every log, for a test that failed.
    fn tell(&self) {
        for entry in std::fs::read_dir(self.join("logs")).into_iter().flatten().flatten() {
            let text = std::fs::read(entry.path()).unwrap_or_default();
            let text = String::from_utf8_lossy(&text).into_owned();
            let lines: Vec<&str> = text.lines().collect();
            let last = lines[lines.len().saturating_sub(12)..].join("\n");
            eprintln!("--- {}\n{last}", entry.path().display());
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        // Not finished: the test failed, and its own message counts.
        self.tell();
        if let Err(error) = self.clean() {
            eprintln!("{error:#}");
        }
    }
}

fn binary() -> Result<PathBuf> {
    let path = match std::env::var_os("CLUSTERCTL_BINARY") {
        Some(path) => PathBuf::from(path),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/release/clusterctl"),
    };
    path.canonicalize().with_context(|| {
        format!(
            "{} is missing: build it with `cargo build --release --package clusterctl`, or set CLUSTERCTL_BINARY",
            path.display()
        )
    })
}

/// Below a directory that QEMU's users may pass, which a home directory is not.
fn image_cache() -> PathBuf {
    std::env::var_os("CLUSTERCTL_TEST_IMAGES").map_or_else(|| "/var/cache/clusterctl/test-images".into(), PathBuf::from)
}

/// A program that only tests use: named by `variable`, else in the tools directory, else on `PATH`.
pub fn tool(name: &str, variable: &str) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        return Ok(path.into());
    }
    let tools =
        std::env::var_os("CLUSTERCTL_TOOLS").map_or_else(|| "/var/cache/clusterctl/tools".into(), PathBuf::from);
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let places = [tools.join("bin"), tools.join("usr/bin")].into_iter().chain(std::env::split_paths(&on_path));
    places
        .map(|place| place.join(name))
        .find(|path| path.is_file())
        .with_context(|| format!("{name} is missing: run `.ci/install test`, or set {variable}"))
}
