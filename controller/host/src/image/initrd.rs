//! Composes the initial RAM disk: one busybox, the virtio modules in order, and our init.
//!
//! It is left uncompressed: at 2.5 MB, unpacking costs an emulated guest more than loading does (decision 0004).

use super::cpio::Archive;
use super::error::{Error, Result};
use super::guest::{DEVICES, INIT};
use super::modules::{Modules, WANTED};
use super::tree::Tree;

/// Makes the initrd from a root that holds busybox and the modules of `kernel`, which `depmod` has seen.
pub(super) fn render_initrd(tree: &Tree, kernel: &str) -> Result<Vec<u8>> {
    let modules_dir = format!("/usr/lib/modules/{kernel}");
    let dependencies = read(tree, &[&format!("{modules_dir}/modules.dep")])?;
    let order = Modules::parse(&String::from_utf8_lossy(&dependencies)).load_order(&WANTED)?;
    if order.is_empty() {
        return Err(Error::Incomplete { what: "every virtio module".into(), place: modules_dir });
    }
    let mut archive = Archive::default();
    for dir in ["bin", "dev", "modules", "proc", "root", "run", "sys"] {
        archive.directory(dir);
    }
    archive.character_device("dev/console", 0o600, 5, 1);
    archive.file("bin/busybox", 0o755, &read(tree, &["/usr/bin/busybox", "/bin/busybox"])?);
    archive.symlink("bin/sh", "busybox");
    archive.file("init", 0o755, INIT.as_bytes());
    archive.file("devices", 0o644, DEVICES.as_bytes());
    for (i, file) in order.iter().enumerate() {
        // The shell loads them in the order of their names.
        let name = file.rsplit('/').next().unwrap_or(file);
        let content = read(tree, &[&format!("{modules_dir}/{file}")])?;
        archive.file(&format!("modules/{i:02}-{name}"), 0o644, &content);
    }
    Ok(archive.finish())
}

fn read(tree: &Tree, paths: &[&str]) -> Result<Vec<u8>> {
    for path in paths {
        if let Some(content) = tree.read(path)? {
            return Ok(content);
        }
    }
    Err(Error::Incomplete { what: paths.join(" or "), place: "the root file system".into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_numbered_in_the_order_of_their_needs() {
        let root = tempfile::tempdir().unwrap();
        let tree = Tree::open(root.path()).unwrap();
        tree.write("/bin/busybox", 0o755, b"box").unwrap();
        let dir = "/usr/lib/modules/6.1";
        for name in ["virtio_pci", "virtio", "virtio_ring"] {
            tree.write(&format!("{dir}/k/{name}.ko"), 0o644, name.as_bytes()).unwrap();
        }
        let dep = "k/virtio_pci.ko: k/virtio.ko k/virtio_ring.ko\nk/virtio.ko: k/virtio_ring.ko\nk/virtio_ring.ko:\n";
        tree.write(&format!("{dir}/modules.dep"), 0o644, dep.as_bytes()).unwrap();
        let initrd = render_initrd(&tree, "6.1").unwrap();
        let text = String::from_utf8_lossy(&initrd);
        for name in ["modules/00-virtio_ring.ko", "modules/01-virtio.ko", "modules/02-virtio_pci.ko", "TRAILER!!!"] {
            assert!(text.contains(name), "{name}");
        }
    }

    #[test]
    fn a_root_without_modules_is_named() {
        let root = tempfile::tempdir().unwrap();
        let tree = Tree::open(root.path()).unwrap();
        let error = render_initrd(&tree, "6.1").unwrap_err();
        assert!(error.to_string().contains("modules.dep"), "{error}");
    }
}
