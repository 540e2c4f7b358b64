//! Bootable images from recipes: resolved, built once, byte for byte the same every time.
//!
//! ```text
//!  Recipe ─► plan ─► key ─► there? ─yes────────────────────────────────────────────┐
//!            (apt resolves     │no: lock the key, look again                       ▼
//!             versions)        ▼                                                 Built
//!            packages ─► rootfs/KEY (mmdebstrap; shared) ─► lean guest, files, units ─► ext4 disk ─► images/KEY
//!            a file   ─► copy, digest, header, qemu-img under its own user ────────────► raw disk ─► images/KEY
//! ```
//!
//! The key covers everything the bytes depend on: the recipe, the resolved package files, our own guest files. So six
//! recipes with equal packages share one root file system, and equal recipes share one image. Builds run as root in
//! mount and pid namespaces that die with this process; whatever the moment of death, the cache holds whole images and
//! a directory for the next start to remove. Knows no Kubernetes kind.

mod apt;
mod builder;
mod cache;
mod cmdline;
mod contain;
mod cpio;
mod disk;
mod error;
mod guest;
mod hash;
mod import;
mod initrd;
mod lock;
mod modules;
mod plan;
mod progress;
mod qcow2;
mod recipe;
mod rootfs;
mod sources;
mod tree;
mod units;
mod uses;

pub use builder::{Builder, Built, Options};
pub use cmdline::kernel_command_line;
pub use error::{Error, Result};
pub use guest::LEAN_PACKAGES;
pub use progress::Progress;
pub use recipe::{DEFAULT_DISK_BYTES, DiskFormat, FileEntry, Recipe, Source, Unit};
