//! What a machine of ours was started with, so that the same can be started by hand.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use host::qemu::machine::{CONSOLE_SOCKET, GUEST_AGENT_SOCKET, QMP_SOCKET, SPARE_QMP_SOCKET};
use process::Record;
use serde_json::Value;

/// Our names of QEMU's character devices, and the sockets they are reached by.
const SOCKETS: [(&str, &str); 4] =
    [("qmp", QMP_SOCKET), ("qmp-spare", SPARE_QMP_SOCKET), ("console", CONSOLE_SOCKET), ("agent", GUEST_AGENT_SOCKET)];

/// A machine's argument vector, with the program.
#[derive(Clone, Debug)]
pub struct Template {
    /// The words.
    pub words: Vec<String>,
    /// Files of its disks, in order.
    pub disks: Vec<Disk>,
    /// Hardware address of its first interface.
    pub mac: Option<String>,
}

/// How a disk is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disk {
    /// An overlay over an image.
    Overlay(PathBuf),
    /// An empty volume with a file system.
    Volume(u64),
}

impl Template {
    /// Of the machine with this UID, which runs on the instance's host.
    pub fn of(instance: &Path, uid: &str) -> Result<Template> {
        let path = instance.join("hosts/host01/vms").join(uid).join("run/qemu.json");
        let record = Record::load(&path).context("failed to read QEMU's record")?;
        let id = record
            .and_then(|record| record.running())
            .with_context(|| format!("no QEMU runs of {}", path.display()))?;
        let bytes = std::fs::read(format!("/proc/{}/cmdline", id.pid)).context("failed to read QEMU's arguments")?;
        let text = String::from_utf8(bytes).context("QEMU's arguments are no text")?;
        let words: Vec<String> = text.split_terminator('\0').map(str::to_owned).collect();
        let disks = values(&words, "-blockdev").map(disk).collect::<Result<Vec<_>>>()?;
        let nics = values(&words, "-device").filter_map(json);
        let mac = nics.filter_map(|device| device["mac"].as_str().map(str::to_owned)).next();
        Ok(Template { words, disks, mac })
    }

    /// The words for a machine that lives in `dir` with these disks and, if it has an interface, this tap.
    pub fn words_for(&self, dir: &Path, disks: &[PathBuf], tap: &str) -> Vec<String> {
        let mut disks = disks.iter();
        let mut words = self.words.clone();
        for index in 1..words.len() {
            let replaced = match words[index - 1].as_str() {
                "-chardev" => with_socket(&words[index], dir),
                "-netdev" => with_tap(&words[index], tap),
                "-blockdev" => disks.next().and_then(|path| with_file(&words[index], path)),
                _ => None,
            };
            if let Some(replaced) = replaced {
                words[index] = replaced;
            }
        }
        words
    }
}

fn values<'a>(words: &'a [String], option: &'a str) -> impl Iterator<Item = &'a str> {
    words.windows(2).filter(move |pair| pair[0] == option).map(|pair| pair[1].as_str())
}

fn json(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok()
}

fn disk(blockdev: &str) -> Result<Disk> {
    let value = json(blockdev).with_context(|| format!("QEMU has a disk we cannot read: {blockdev}"))?;
    let file = value["file"]["filename"].as_str().context("QEMU has a disk without a file")?;
    match host::blockdev::base_of(Path::new(file)).with_context(|| format!("failed to look at {file}"))? {
        Some(base) => Ok(Disk::Overlay(base)),
        None => Ok(Disk::Volume(std::fs::metadata(file).with_context(|| format!("failed to look at {file}"))?.len())),
    }
}

/// A descriptor handed down becomes a path that QEMU binds itself.
fn with_socket(chardev: &str, dir: &Path) -> Option<String> {
    let id = chardev.split(',').find_map(|part| part.strip_prefix("id="))?;
    let (_, socket) = SOCKETS.iter().find(|(name, _)| *name == id)?;
    Some(replace(chardev, "fd=", &format!("path={}", dir.join(socket).display())))
}

fn with_tap(netdev: &str, tap: &str) -> Option<String> {
    Some(replace(netdev, "fd=", &format!("ifname={tap},script=no,downscript=no")))
}

fn with_file(blockdev: &str, path: &Path) -> Option<String> {
    let mut value = json(blockdev)?;
    value["file"]["filename"] = path.to_str()?.into();
    Some(value.to_string())
}

fn replace(option: &str, prefix: &str, by: &str) -> String {
    option.split(',').map(|part| if part.starts_with(prefix) { by } else { part }).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_disks_sockets_and_taps_are_replaced() {
        let words = [
            "qemu",
            "-chardev",
            "socket,id=qmp,fd=3,server=on,wait=off",
            "-mon",
            "chardev=qmp,mode=control",
            "-netdev",
            "tap,id=net0,fd=10",
            "-blockdev",
            r#"{"driver":"qcow2","file":{"driver":"file","filename":"/ours"},"node-name":"root"}"#,
            "-append",
            "quiet fd=9",
        ];
        let template = Template { words: words.map(str::to_owned).to_vec(), disks: vec![], mac: None };
        let made = template.words_for(Path::new("/d"), &["/theirs".into()], "tap0");
        insta::assert_snapshot!(made.join("\n"), @r#"
        qemu
        -chardev
        socket,id=qmp,path=/d/qmp.sock,server=on,wait=off
        -mon
        chardev=qmp,mode=control
        -netdev
        tap,id=net0,ifname=tap0,script=no,downscript=no
        -blockdev
        {"driver":"qcow2","file":{"driver":"file","filename":"/theirs"},"node-name":"root"}
        -append
        quiet fd=9
        "#);
    }
}
