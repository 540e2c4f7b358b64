//! Writes, enables and masks systemd units in an unpacked root, as `systemctl --root` would.
//!
//! The host may have no systemctl, and the guest's need not run for three symbolic links.

use super::error::{Error, Result};
use super::guest::is_static;
use super::recipe::Unit;
use super::tree::Tree;

/// Where the administrator's units lie, which win over the packages'.
pub(super) const UNIT_DIR: &str = "/etc/systemd/system";

/// Where packages put units.
const PACKAGE_DIRS: [&str; 2] = ["/usr/lib/systemd/system", "/lib/systemd/system"];

/// Applies one unit of a recipe.
pub(super) fn apply_unit(tree: &Tree, unit: &Unit) -> Result<()> {
    let path = format!("{UNIT_DIR}/{}", unit.name);
    if unit.masked {
        return tree.symlink(&path, "/dev/null");
    }
    if let Some(content) = &unit.content {
        tree.write(&path, 0o644, content.as_bytes())?;
    }
    match unit.enabled {
        true => enable(tree, &unit.name),
        false => Ok(()),
    }
}

fn enable(tree: &Tree, name: &str) -> Result<()> {
    let file = template(name);
    let (path, content) = find(tree, &file)?.ok_or_else(|| {
        Error::recipe(format!("units[{name}]"), "it is to be enabled, yet neither the recipe nor a package brings it")
    })?;
    let install = parse_install(&content);
    if install.is_empty() && is_static(name) {
        return Ok(());
    }
    if install.is_empty() {
        return Err(Error::recipe(
            format!("units[{name}]"),
            "it is to be enabled, yet its [Install] section names nothing that would start it",
        ));
    }
    for link in install {
        let at = match link {
            Install::WantedBy(target) => format!("{UNIT_DIR}/{target}.wants/{name}"),
            Install::RequiredBy(target) => format!("{UNIT_DIR}/{target}.requires/{name}"),
            Install::Alias(alias) => format!("{UNIT_DIR}/{alias}"),
        };
        tree.symlink(&at, &path)?;
    }
    Ok(())
}

/// `a@b.service` is an instance of `a@.service`.
fn template(name: &str) -> String {
    match (name.split_once('@'), name.rsplit_once('.')) {
        (Some((stem, _)), Some((_, suffix))) => format!("{stem}@.{suffix}"),
        _ => name.to_owned(),
    }
}

fn find(tree: &Tree, file: &str) -> Result<Option<(String, String)>> {
    for dir in [UNIT_DIR].into_iter().chain(PACKAGE_DIRS) {
        let path = format!("{dir}/{file}");
        if let Some(content) = tree.read(&path)? {
            return Ok(Some((path, String::from_utf8_lossy(&content).into_owned())));
        }
    }
    Ok(None)
}

#[derive(Debug, PartialEq, Eq)]
enum Install {
    WantedBy(String),
    RequiredBy(String),
    Alias(String),
}

fn parse_install(content: &str) -> Vec<Install> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in content.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = line == "[Install]";
            continue;
        }
        let Some((key, value)) = line.split_once('=').filter(|_| inside) else {
            continue;
        };
        let make = match key.trim() {
            "WantedBy" => Install::WantedBy,
            "RequiredBy" => Install::RequiredBy,
            "Alias" => Install::Alias,
            _ => continue,
        };
        // A name with a slash would be a path of the unit author's choosing.
        let names = value.split_whitespace().filter(|name| !name.contains('/'));
        found.extend(names.map(|name| make(name.to_owned())));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn unit(name: &str, content: Option<&str>, enabled: bool, masked: bool) -> Unit {
        Unit { name: name.into(), content: content.map(str::to_owned), enabled, masked }
    }

    #[test]
    fn an_enabled_unit_is_wanted_by_its_target() {
        let root = tempfile::tempdir().unwrap();
        let tree = Tree::open(root.path()).unwrap();
        let content = "[Unit]\nWantedBy=no\n[Install]\nWantedBy=multi-user.target a.target\nAlias=b.service\n";
        apply_unit(&tree, &unit("x.service", Some(content), true, false)).unwrap();
        for link in ["multi-user.target.wants/x.service", "a.target.wants/x.service", "b.service"] {
            let path = root.path().join("etc/systemd/system").join(link);
            assert_eq!(fs::read_link(path).unwrap().to_str().unwrap(), "/etc/systemd/system/x.service");
        }
        assert!(!tree.exists("/etc/systemd/system/no.wants"));
    }

    #[test]
    fn an_instance_is_linked_to_its_template() {
        let root = tempfile::tempdir().unwrap();
        let tree = Tree::open(root.path()).unwrap();
        tree.write("/usr/lib/systemd/system/v@.service", 0o644, b"[Install]\nWantedBy=t.target\n").unwrap();
        apply_unit(&tree, &unit("v@data.service", None, true, false)).unwrap();
        let link = root.path().join("etc/systemd/system/t.target.wants/v@data.service");
        assert_eq!(fs::read_link(link).unwrap().to_str().unwrap(), "/usr/lib/systemd/system/v@.service");
    }

    #[test]
    fn what_cannot_be_enabled_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let tree = Tree::open(root.path()).unwrap();
        for bad in [unit("absent.service", None, true, false), unit("x.service", Some("[Unit]\n"), true, false)] {
            assert_eq!(apply_unit(&tree, &bad).unwrap_err().category(), "InvalidRecipe");
        }
    }

    #[test]
    fn a_masked_unit_is_nothing() {
        let root = tempfile::tempdir().unwrap();
        let tree = Tree::open(root.path()).unwrap();
        apply_unit(&tree, &unit("x.timer", None, false, true)).unwrap();
        let link = root.path().join("etc/systemd/system/x.timer");
        assert_eq!(fs::read_link(link).unwrap().to_str().unwrap(), "/dev/null");
    }
}
