//! One QEMU started by hand.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use host::qemu::machine::{DiskFormat, QMP_SOCKET};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use super::template::{Disk, Template};

/// QEMU's monitor answers well before this, even with six at once.
const GREETING: Duration = Duration::from_secs(60);

/// A QEMU that dies with this value.
pub struct Machine {
    child: Child,
    dir: PathBuf,
}

/// Makes the machine's directory and disks; what is left there from before goes.
pub fn prepare(template: &Template, dir: &Path) -> Result<Vec<PathBuf>> {
    let _ = std::fs::remove_dir_all(dir);
    std::fs::create_dir_all(dir).with_context(|| format!("failed to make {}", dir.display()))?;
    let make = |(index, disk): (usize, &Disk)| {
        let path = dir.join(format!("disk{index}"));
        match disk {
            Disk::Overlay(base) => host::blockdev::ensure_overlay(base, format_of(base), &path, None, None),
            Disk::Volume(bytes) => {
                let ext4 = host::blockdev::Ext4 { uuid: uuid::Uuid::new_v4(), label: "data".to_owned() };
                host::blockdev::ensure_volume(&path, *bytes, Some(&ext4), None)
            }
        }
        .with_context(|| format!("failed to make {}", path.display()))?;
        Ok(path)
    };
    template.disks.iter().enumerate().map(make).collect()
}

fn format_of(image: &Path) -> DiskFormat {
    // Images are raw, unless they were imported as something else under its name.
    if image.extension().is_some_and(|extension| extension == "qcow2") { DiskFormat::Qcow2 } else { DiskFormat::Raw }
}

impl Machine {
    /// Starts QEMU, in a network namespace when one is named.
    pub fn start(template: &Template, dir: &Path, disks: &[PathBuf], network: Option<(&str, &str)>) -> Result<Machine> {
        let words = template.words_for(dir, disks, network.map_or("", |(_, tap)| tap));
        let (program, arguments) = words.split_first().context("QEMU has no arguments")?;
        let mut command = match network {
            Some((namespace, _)) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace, program]);
                command
            }
            None => Command::new(program),
        };
        let log = std::fs::File::create(dir.join("qemu.log")).context("failed to make QEMU's log")?;
        let errors = log.try_clone().context("failed to make QEMU's log")?;
        command.args(arguments).current_dir(dir).stdin(Stdio::null()).stdout(log).stderr(errors).kill_on_drop(true);
        let child = command.spawn().context("failed to start QEMU")?;
        Ok(Machine { child, dir: dir.to_owned() })
    }

    /// Returns when QEMU's monitor has greeted and takes commands.
    pub async fn answers(&mut self) -> Result<()> {
        let dir = self.dir.clone();
        tokio::select! {
            talked = tokio::time::timeout(GREETING, talk(&dir)) => talked.context("QEMU's monitor does not answer")?,
            ended = self.child.wait() => {
                let log = std::fs::read_to_string(self.dir.join("qemu.log")).unwrap_or_default();
                bail!("QEMU ended with {}: {}", ended.context("failed to wait for QEMU")?, log.trim())
            }
        }
    }

    /// Kills it.
    pub async fn end(mut self) -> Result<()> {
        self.child.kill().await.context("failed to end QEMU")?;
        let _ = std::fs::remove_dir_all(&self.dir);
        Ok(())
    }
}

async fn talk(dir: &Path) -> Result<()> {
    let path = dir.join(QMP_SOCKET);
    let stream = loop {
        // Nothing tells when QEMU has bound it; a millisecond is nothing beside what is measured.
        match UnixStream::connect(&path).await {
            Ok(stream) => break stream,
            Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    };
    let mut lines = BufReader::new(stream);
    let mut line = String::new();
    lines.read_line(&mut line).await.context("QEMU did not greet")?;
    lines.write_all(b"{\"execute\":\"qmp_capabilities\"}\n").await.context("QEMU does not listen")?;
    while !line.contains("\"return\"") {
        line.clear();
        if lines.read_line(&mut line).await.context("QEMU did not answer")? == 0 {
            bail!("QEMU closed its monitor");
        }
    }
    Ok(())
}
