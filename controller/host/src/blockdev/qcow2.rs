//! As much of the qcow2 format as we need: writing an empty overlay, and reading the header of somebody else's image.
//!
//! Both are done here rather than by `qemu-img`. Reading, because a qcow2 header can name another file, of the host's,
//! whose bytes the guest would then see, and a tool that opens the image follows it. Writing, because it is one header and
//! three tables, and starting a process for it is a good part of what a new machine costs.

use std::path::{Path, PathBuf};

use super::Untrusted;

const MAGIC: [u8; 4] = *b"QFI\xfb";
const VERSION: u32 = 3;
const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
/// Guest bytes mapped by one entry of the first-level table: a cluster of 8-byte entries, each for a cluster.
const PER_L1_ENTRY: u64 = CLUSTER / 8 * CLUSTER;
const HEADER_LENGTH: u32 = 104;
const BACKING_FORMAT: u32 = 0xe279_2aca;
const INCOMPATIBLE_DIRTY: u64 = 1;
const INCOMPATIBLE_DATA_FILE: u64 = 4;
/// A backing file's name has at most this many bytes.
const LONGEST_NAME: usize = 1023;
/// Largest disk we make or take: one cluster of first-level table.
const LARGEST: u64 = CLUSTER / 8 * PER_L1_ENTRY;

/// The bytes of an overlay in which nothing is written yet; `None` when the base cannot be named or is too large.
pub fn render_overlay(base: &Path, base_format: &str, size: u64) -> Option<Vec<u8>> {
    let name = base.to_str()?.as_bytes();
    if name.len() > LONGEST_NAME || size == 0 || size > LARGEST {
        return None;
    }
    let mut header = Vec::new();
    let extension_length = 8 + base_format.len().next_multiple_of(8) + 8;
    let name_offset = u64::from(HEADER_LENGTH) + extension_length as u64;
    header.extend(MAGIC);
    header.extend(VERSION.to_be_bytes());
    header.extend(name_offset.to_be_bytes());
    header.extend((name.len() as u32).to_be_bytes());
    header.extend(CLUSTER_BITS.to_be_bytes());
    header.extend(size.to_be_bytes());
    header.extend(0u32.to_be_bytes()); // no encryption
    header.extend((size.div_ceil(PER_L1_ENTRY) as u32).to_be_bytes());
    header.extend((3 * CLUSTER).to_be_bytes()); // first-level table
    header.extend(CLUSTER.to_be_bytes()); // refcount table
    header.extend(1u32.to_be_bytes()); // its clusters
    header.extend([0; 12]); // no snapshots
    header.extend([0; 24]); // no features
    header.extend(4u32.to_be_bytes()); // refcounts of 2^4 bits
    header.extend(HEADER_LENGTH.to_be_bytes());
    header.extend(BACKING_FORMAT.to_be_bytes());
    header.extend((base_format.len() as u32).to_be_bytes());
    header.extend(base_format.as_bytes());
    header.resize((name_offset - 8) as usize, 0);
    header.extend([0; 8]); // no more extensions
    header.extend(name);
    let cluster = CLUSTER as usize;
    header.resize(4 * cluster, 0);
    header[cluster..cluster + 8].copy_from_slice(&(2 * CLUSTER).to_be_bytes());
    for used in 0..4 {
        let at = 2 * cluster + used * 2;
        header[at..at + 2].copy_from_slice(&1u16.to_be_bytes());
    }
    Some(header)
}

/// Whether these first bytes of a file say that it is qcow2.
pub fn is_qcow2(head: &[u8]) -> bool {
    head.starts_with(&MAGIC)
}

/// The disk's size, when the header names no other file and nothing we do not know.
pub fn check_header(head: &[u8]) -> Result<u64, Untrusted> {
    let version = number(head, 4, 4)?;
    if !(2..=3).contains(&version) {
        return Err(Untrusted::Malformed("its version is neither 2 nor 3"));
    }
    if number(head, 8, 8)? != 0 || number(head, 16, 4)? != 0 {
        return Err(Untrusted::BackingFile);
    }
    if number(head, 32, 4)? != 0 {
        return Err(Untrusted::Malformed("it is encrypted"));
    }
    if version == 3 {
        let features = number(head, 72, 8)?;
        if features & INCOMPATIBLE_DATA_FILE != 0 {
            return Err(Untrusted::DataFile);
        }
        // Bit 3 (another compression) and 4 (extended entries) are within one file, too.
        if features & !(INCOMPATIBLE_DIRTY | 0x18) != 0 {
            return Err(Untrusted::Malformed("it is marked corrupt, or needs a feature we do not know"));
        }
    }
    match number(head, 24, 8)? {
        size if (1..=LARGEST).contains(&size) => Ok(size),
        _ => Err(Untrusted::Malformed("its size is impossible")),
    }
}

/// The size that the header of an image of our own says.
pub fn size(head: &[u8]) -> Option<u64> {
    number(head, 24, 8).ok().filter(|_| is_qcow2(head))
}

/// The base that the header of an image of our own names.
pub fn base(head: &[u8]) -> Option<PathBuf> {
    let at = usize::try_from(number(head, 8, 8).ok()?).ok().filter(|at| is_qcow2(head) && *at > 0)?;
    let length = usize::try_from(number(head, 16, 4).ok()?).ok()?;
    let name = head.get(at..at.checked_add(length)?)?;
    Some(std::str::from_utf8(name).ok()?.into())
}

fn number(head: &[u8], at: usize, length: usize) -> Result<u64, Untrusted> {
    let bytes = head.get(at..at + length).ok_or(Untrusted::Malformed("it ends within its header"))?;
    Ok(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn alone() -> Vec<u8> {
        let mut image = render_overlay(Path::new("/x"), "raw", 1 << 30).unwrap();
        image[8..20].fill(0);
        image
    }

    #[test]
    fn an_image_of_one_file_is_taken() {
        assert_eq!(check_header(&alone()).unwrap(), 1 << 30);
        assert_eq!(base(&alone()), None);
    }

    #[test]
    fn an_image_that_names_another_file_is_refused() {
        let overlay = render_overlay(Path::new("/etc/shadow"), "raw", 1 << 30).unwrap();
        assert!(matches!(check_header(&overlay), Err(Untrusted::BackingFile)));
        assert_eq!(base(&overlay), Some("/etc/shadow".into()));
        let mut nameless = alone();
        nameless[19] = 1;
        assert!(matches!(check_header(&nameless), Err(Untrusted::BackingFile)));
        let mut outside = alone();
        outside[79] |= 4;
        assert!(matches!(check_header(&outside), Err(Untrusted::DataFile)));
    }

    #[test]
    fn a_broken_header_is_refused() {
        for (at, value) in [(7, 9), (79, 2), (72, 1), (35, 2), (24, 0xff)] {
            let mut broken = alone();
            broken[at] = value;
            assert!(matches!(check_header(&broken), Err(Untrusted::Malformed(_))), "byte {at}");
        }
        assert!(check_header(b"QFI\xfb").is_err());
        assert_eq!(render_overlay(Path::new("/x"), "raw", u64::MAX), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_without_panic(head in proptest::collection::vec(any::<u8>(), 0..128)) {
            let _ = (check_header(&head), base(&head), size(&head));
        }
    }
}
