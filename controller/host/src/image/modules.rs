//! Orders kernel modules so that each is loaded after what it needs.
//!
//! The kernel's answer to a wrong order is an unknown symbol and a disk that never appears: `virtio` uses `virtio_ring`,
//! not the other way round.

use std::collections::{BTreeMap, BTreeSet};

use super::error::{Error, Result};

/// What the initrd needs to find the root disk, the network, the guest agent's port and randomness. One that a kernel
/// has built in, or does not have, is left out.
pub(super) const WANTED: [&str; 6] = ["virtio_pci", "virtio_blk", "virtio_console", "virtio_net", "virtio_rng", "ext4"];

/// The modules of one kernel: `depmod`'s `modules.dep`.
#[derive(Debug)]
pub(super) struct Modules {
    /// Module name to file, relative to the kernel's directory.
    files: BTreeMap<String, String>,
    /// File to the files it needs.
    needs: BTreeMap<String, Vec<String>>,
}

impl Modules {
    pub(super) fn parse(modules_dep: &str) -> Modules {
        let mut modules = Modules { files: BTreeMap::new(), needs: BTreeMap::new() };
        for (file, needs) in modules_dep.lines().filter_map(|line| line.split_once(':')) {
            modules.files.insert(name_of(file), file.to_owned());
            let needs = needs.split_whitespace().map(str::to_owned).collect();
            modules.needs.insert(file.to_owned(), needs);
        }
        modules
    }

    /// The files to load, in order, for those of `wanted` that exist.
    pub(super) fn load_order(&self, wanted: &[&str]) -> Result<Vec<String>> {
        let mut order = Vec::new();
        let mut done = BTreeSet::new();
        for file in wanted.iter().filter_map(|name| self.files.get(*name)) {
            self.visit(file, &mut done, &mut Vec::new(), &mut order)?;
        }
        Ok(order)
    }

    fn visit<'a>(
        &'a self,
        file: &'a str,
        done: &mut BTreeSet<&'a str>,
        path: &mut Vec<&'a str>,
        order: &mut Vec<String>,
    ) -> Result<()> {
        if done.contains(file) {
            return Ok(());
        }
        if path.contains(&file) {
            return Err(Error::Incomplete {
                what: "an order without a cycle".into(),
                place: format!("the dependencies of {file}"),
            });
        }
        path.push(file);
        for need in self.needs.get(file).into_iter().flatten() {
            self.visit(need, done, path, order)?;
        }
        path.pop();
        done.insert(file);
        order.push(file.to_owned());
        Ok(())
    }
}

/// Dashes in file names are underscores in module names.
fn name_of(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.split(".ko").next().unwrap_or(name).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CLOUD: &str = "\
kernel/drivers/virtio/virtio.ko: kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/virtio/virtio_ring.ko:
kernel/drivers/virtio/virtio_pci.ko: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/char/hw_random/virtio-rng.ko: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
";

    #[test]
    fn virtio_ring_comes_before_virtio() {
        let order = Modules::parse(CLOUD).load_order(&["virtio_pci", "virtio_rng", "ext4"]).unwrap();
        let names: Vec<_> = order.iter().map(|file| name_of(file)).collect();
        assert_eq!(names, ["virtio_ring", "virtio", "virtio_pci", "virtio_rng"]);
    }

    #[test]
    fn a_cycle_is_refused() {
        let modules = Modules::parse("a.ko: b.ko\nb.ko: a.ko\n");
        assert!(modules.load_order(&["a"]).is_err());
    }

    proptest! {
        /// Edges only go from higher to lower numbers, so there is no cycle.
        #[test]
        fn everything_comes_after_what_it_needs(edges in proptest::collection::vec((1usize..12, 0usize..12), 0..30)) {
            let mut needs: BTreeMap<usize, BTreeSet<usize>> = (0..12).map(|i| (i, BTreeSet::new())).collect();
            for (a, b) in edges {
                if b < a {
                    needs.entry(a).or_default().insert(b);
                }
            }
            let text: String = needs.iter().map(|(a, bs)| {
                let bs: Vec<String> = bs.iter().map(|b| format!("m{b}.ko")).collect();
                format!("m{a}.ko: {}\n", bs.join(" "))
            }).collect();
            let names: Vec<String> = (0..12).rev().map(|i| format!("m{i}")).collect();
            let wanted: Vec<&str> = names.iter().map(String::as_str).collect();
            let order = Modules::parse(&text).load_order(&wanted).unwrap();
            prop_assert_eq!(order.len(), 12);
            for (a, bs) in &needs {
                let at = |i: &usize| order.iter().position(|file| *file == format!("m{i}.ko")).unwrap();
                for b in bs {
                    prop_assert!(at(b) < at(a));
                }
            }
        }
    }
}
