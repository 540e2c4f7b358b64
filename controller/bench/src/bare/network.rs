//! A network made by hand: a namespace, a bridge, a tap a machine, and dnsmasq.

use std::path::Path;
use std::process::{Command as BlockingCommand, Stdio};

use anyhow::{Context, Result, bail};
use tokio::process::{Child, Command};

/// A guest that dnsmasq shall know.
pub struct Guest<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its hardware address.
    pub mac: &'a str,
    /// Its address.
    pub ip: &'a str,
}

/// The network; it goes with this value.
pub struct Network {
    /// The namespace's name.
    pub namespace: String,
    _dnsmasq: Child,
    _removal: Removal,
}

struct Removal(String);

impl Drop for Removal {
    fn drop(&mut self) {
        // What runs inside holds the namespace a moment longer; its name goes now.
        let _ = BlockingCommand::new("ip").args(["netns", "delete", &self.0]).stderr(Stdio::null()).status();
    }
}

impl Network {
    /// Makes all of it, with the gateway at `gateway` (address and prefix length).
    pub async fn make(dir: &Path, gateway: &str, mtu: u32, guests: &[Guest<'_>]) -> Result<Network> {
        let namespace = format!("bench-{}", std::process::id());
        ip(&["netns", "add", &namespace]).await?;
        let removal = Removal(namespace.clone());
        let inside = |words: &'static str| ["-n", &namespace].into_iter().chain(words.split(' ')).collect::<Vec<_>>();
        ip(&inside("link set lo up")).await?;
        ip(&inside("link add br0 type bridge")).await?;
        ip(&["-n", &namespace, "address", "add", gateway, "dev", "br0"]).await?;
        ip(&inside("link set br0 up")).await?;
        for guest in guests {
            let name = tap(guest.name);
            ip(&["-n", &namespace, "tuntap", "add", &name, "mode", "tap"]).await?;
            ip(&["-n", &namespace, "link", "set", &name, "mtu", &mtu.to_string(), "master", "br0", "up"]).await?;
        }
        let dnsmasq = dnsmasq(&namespace, dir, gateway, mtu, guests)?;
        Ok(Network { namespace, _dnsmasq: dnsmasq, _removal: removal })
    }
}

/// The tap of a guest.
pub fn tap(guest: &str) -> String {
    format!("t-{guest}")
}

async fn ip(arguments: &[&str]) -> Result<()> {
    let done = Command::new("ip").args(arguments).output().await.context("failed to start ip")?;
    if !done.status.success() {
        bail!("`ip {}` failed: {}", arguments.join(" "), String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(())
}

fn dnsmasq(namespace: &str, dir: &Path, gateway: &str, mtu: u32, guests: &[Guest<'_>]) -> Result<Child> {
    let address = gateway.split('/').next().unwrap_or_default();
    std::fs::create_dir_all(dir).with_context(|| format!("failed to make {}", dir.display()))?;
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null"]);
    command.args(["--interface=br0", "--except-interface=lo", "--bind-interfaces", "--user=root", "--pid-file="]);
    command.args(["--no-resolv", "--no-hosts", "--dhcp-authoritative", "--quiet-dhcp", "--log-facility=-"]);
    command.arg(format!("--dhcp-leasefile={}", dir.join("leases").display()));
    command.arg(format!("--dhcp-range={address},static,1h"));
    command.arg(format!("--dhcp-option=option:mtu,{mtu}"));
    command.args(guests.iter().map(|guest| format!("--dhcp-host={},{},{}", guest.mac, guest.ip, guest.name)));
    let log = std::fs::File::create(dir.join("dnsmasq.log")).context("failed to make dnsmasq's log")?;
    let errors = log.try_clone().context("failed to make dnsmasq's log")?;
    command.stdin(Stdio::null()).stdout(log).stderr(errors).kill_on_drop(true);
    command.spawn().context("failed to start dnsmasq")
}
