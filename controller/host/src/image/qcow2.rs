//! Reads a qcow2 header, to refuse files that make QEMU open other files.
//!
//! A backing or data file is a path of the image author's choosing that the reader opens with its own rights: the
//! host's secrets could end up on a guest's disk. The layout is in QEMU's `docs/interop/qcow2.txt`.

/// Magic number, `QFI` and 0xfb.
const MAGIC: &[u8; 4] = b"QFI\xfb";

/// Bits of `incompatible_features` that we accept: dirty, zstd compression, extended L2 entries.
const ACCEPTED_FEATURES: u64 = 0b1_1001;

/// Header extensions that name another file: backing format, external data file.
const NAMING_EXTENSIONS: [u32; 2] = [0xe279_2aca, 0x4441_5441];

/// Checks the first bytes of a file (a cluster is enough) and answers the size of the disk in it, or why it is refused.
pub(super) fn inspect(header: &[u8]) -> Result<u64, String> {
    let word = |at: usize| -> Result<u32, String> {
        let bytes = header.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map(u32::from_be_bytes).ok_or_else(|| "its header is cut off".to_owned())
    };
    let long = |at: usize| -> Result<u64, String> { Ok(u64::from(word(at)?) << 32 | u64::from(word(at + 4)?)) };
    if header.get(..4) != Some(MAGIC) {
        return Err("it is not a qcow2 file".into());
    }
    let version = word(4)?;
    if !matches!(version, 2 | 3) {
        return Err(format!("its qcow2 version is {version}"));
    }
    if long(8)? != 0 || word(16)? != 0 {
        return Err("it has a backing file; flatten it with `qemu-img convert` first".into());
    }
    if word(32)? != 0 {
        return Err("it is encrypted".into());
    }
    let mut at = 72;
    if version == 3 {
        let features = long(72)?;
        if features & 0b100 != 0 {
            return Err("it has an external data file; flatten it with `qemu-img convert` first".into());
        }
        if features & !ACCEPTED_FEATURES != 0 {
            return Err("it is marked corrupt or has features that are not known".into());
        }
        at = word(100)? as usize;
    }
    loop {
        let (kind, length) = (word(at)?, word(at + 4)? as usize);
        if kind == 0 {
            return long(24);
        }
        if NAMING_EXTENSIONS.contains(&kind) {
            return Err("its header names another file".into());
        }
        at = length
            .checked_next_multiple_of(8)
            .and_then(|length| at.checked_add(8 + length))
            .ok_or("its header is damaged")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(version: u32) -> Vec<u8> {
        let mut bytes = vec![0; 4096];
        bytes[..4].copy_from_slice(MAGIC);
        bytes[4..8].copy_from_slice(&version.to_be_bytes());
        bytes[24..32].copy_from_slice(&(1u64 << 30).to_be_bytes());
        bytes[100..104].copy_from_slice(&104u32.to_be_bytes());
        bytes
    }

    #[test]
    fn plain_headers_tell_their_size() {
        for version in [2, 3] {
            assert_eq!(inspect(&header(version)), Ok(1 << 30));
        }
    }

    #[test]
    fn what_names_another_file_is_refused() {
        let mut backing = header(3);
        backing[15] = 104;
        assert!(inspect(&backing).unwrap_err().contains("backing file"));
        let mut data = header(3);
        data[79] = 0b100;
        assert!(inspect(&data).unwrap_err().contains("data file"));
        let mut extension = header(3);
        extension[104..108].copy_from_slice(&0x4441_5441u32.to_be_bytes());
        assert!(inspect(&extension).unwrap_err().contains("another file"));
    }

    #[test]
    fn other_formats_and_broken_headers_are_refused() {
        assert!(inspect(b"not a disk").is_err());
        assert!(inspect(&header(3)[..90]).is_err());
        let mut corrupt = header(3);
        corrupt[79] = 0b10;
        assert!(inspect(&corrupt).unwrap_err().contains("corrupt"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_fail_otherwise_than_by_refusing(tail in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut bytes = MAGIC.to_vec();
            bytes.extend(tail);
            let _ = inspect(&bytes);
        }
    }
}
