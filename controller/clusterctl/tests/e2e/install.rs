//! The install list on a Debian 12 that has nothing: every package is there, they go together, and none starts a service.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Packages whose installation starts a daemon on a port that the user may need; they may only be unpacked.
const DAEMONS: [&str; 12] = [
    "etcd-server",
    "prometheus",
    "haproxy",
    "dnsmasq",
    "openssh-server",
    "bind9",
    "libvirt-daemon-system",
    "docker.io",
    "apache2",
    "nginx",
    "exim4-daemon-light",
    "postfix",
];

/// What the file lists under this use.
fn listed(text: &str, uses: &[&str]) -> Vec<String> {
    let rows = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let mut words = line.split_whitespace();
        Some((words.next()?, words.next()?))
    });
    rows.filter(|(use_, _)| uses.contains(use_)).map(|(_, package)| package.to_owned()).collect()
}

#[test]
fn vm_the_install_list_fits_a_bare_debian() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let text = std::fs::read_to_string(root.join(".ci/packages.txt")).context("the list is missing")?;
    let (install, unpack) = (listed(&text, &["build", "run", "test"]), listed(&text, &["unpack", "unpack-test"]));
    ensure!(install.len() > 15 && unpack.len() >= 3, "{install:?} {unpack:?}");
    let dir = tempfile::tempdir()?;
    let results = dir.path().display();
    // Nothing is kept of the system but what apt says in it.
    let said = Command::new("mmdebstrap")
        .args(["--variant=minbase", "--format=null", "--mode=root"])
        .arg(format!(
            "--customize-hook=chroot \"$1\" apt-get install --simulate --no-install-recommends {} >{results}/install",
            install.join(" ")
        ))
        .arg(format!(
            "--customize-hook=chroot \"$1\" apt-get download --print-uris {} >{results}/unpack",
            unpack.join(" ")
        ))
        .args(["bookworm", "/dev/null", "http://deb.debian.org/debian"])
        .output()
        .context("failed to run mmdebstrap")?;
    ensure!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let plan = std::fs::read_to_string(dir.path().join("install"))?;
    let installed: Vec<&str> =
        plan.lines().filter_map(|line| line.strip_prefix("Inst ")).filter_map(|line| line.split(' ').next()).collect();
    println!("{} packages are listed, {} would be installed", install.len(), installed.len());
    for package in &install {
        ensure!(
            installed.contains(&package.as_str()) || plan.contains(&format!("{package} is already")),
            "{package} is not in the plan"
        );
    }
    for daemon in DAEMONS {
        ensure!(!installed.contains(&daemon), "{daemon} would be installed, and would start");
    }
    let uris = std::fs::read_to_string(dir.path().join("unpack"))?;
    for package in &unpack {
        ensure!(uris.contains(&format!("/{package}_")), "{package} cannot be fetched: {uris}");
    }
    Ok(())
}
