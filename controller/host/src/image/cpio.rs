//! Writes the `newc` archive that the kernel unpacks as its first root.
//!
//! The kernel's documentation (`early-userspace/buffer-format`) is the whole specification. Owner, times and inode
//! numbers are ours to choose, and fixed, so that equal contents give equal bytes.

const REGULAR: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER: u32 = 0o020_000;

/// An archive under construction.
#[derive(Debug, Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    pub(super) fn directory(&mut self, path: &str) {
        self.entry(path, DIRECTORY | 0o755, (0, 0), &[]);
    }

    pub(super) fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entry(path, REGULAR | mode, (0, 0), content);
    }

    pub(super) fn symlink(&mut self, path: &str, target: &str) {
        self.entry(path, SYMLINK | 0o777, (0, 0), target.as_bytes());
    }

    pub(super) fn character_device(&mut self, path: &str, mode: u32, major: u32, minor: u32) {
        self.entry(path, CHARACTER | mode, (major, minor), &[]);
    }

    /// Ends the archive.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.write("TRAILER!!!", 0, 0, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.entries += 1;
        self.write(path, self.entries, mode, device, content);
    }

    fn write(&mut self, path: &str, inode: u32, mode: u32, device: (u32, u32), content: &[u8]) {
        let fields = [
            inode,
            mode,
            0, // owner
            0, // group
            1, // links
            0, // time of modification
            content.len() as u32,
            0, // device's major and minor number
            0,
            device.0,
            device.1,
            path.len() as u32 + 1,
            0, // no checksum in this format
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads back what `Archive` writes: name, mode and content.
    fn parse(mut bytes: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut entries = Vec::new();
        loop {
            assert_eq!(&bytes[..6], b"070701");
            let field = |i: usize| {
                u32::from_str_radix(std::str::from_utf8(&bytes[6 + i * 8..14 + i * 8]).unwrap(), 16).unwrap()
            };
            let (mode, size, name_size) = (field(1), field(6) as usize, field(11) as usize);
            let name = String::from_utf8(bytes[110..110 + name_size - 1].to_vec()).unwrap();
            let start = (110 + name_size).next_multiple_of(4);
            let content = bytes[start..start + size].to_vec();
            bytes = &bytes[(start + size).next_multiple_of(4)..];
            if name == "TRAILER!!!" {
                assert!(bytes.is_empty());
                return entries;
            }
            entries.push((name, mode, content));
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(files in proptest::collection::vec(("[a-z/]{1,40}", proptest::collection::vec(any::<u8>(), 0..64)), 0..8)) {
            let mut archive = Archive::default();
            for (path, content) in &files {
                archive.file(path, 0o644, content);
            }
            let read = parse(&archive.finish());
            let expected: Vec<_> = files.into_iter().map(|(path, content)| (path, 0o100_644, content)).collect();
            prop_assert_eq!(read, expected);
        }
    }

    #[test]
    fn equal_contents_give_equal_bytes() {
        let archive = || {
            let mut archive = Archive::default();
            archive.directory("dev");
            archive.character_device("dev/console", 0o600, 5, 1);
            archive.symlink("bin/sh", "busybox");
            archive.finish()
        };
        assert_eq!(archive(), archive());
    }
}
