//! Whose a directory of ours is, and who may do what there.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

/// The bits of a mode that are permissions (chmod(2)).
const PERMISSIONS: u32 = 0o7777;

/// Makes the directory be this user's and group's, with these permissions; whether it was otherwise.
///
/// What is right is not written: whoever watches the directory would hear of a change where there is none (`IN_ATTRIB`, inotify(7)).
///
/// # Errors
/// The kernel's.
pub(crate) fn ensure(path: &Path, owner: u32, group: u32, mode: u32) -> io::Result<bool> {
    let found = fs::metadata(path)?;
    let (is_theirs, may) = ((found.uid(), found.gid()) == (owner, group), found.mode() & PERMISSIONS == mode);
    if !is_theirs {
        chown(path, Some(owner), Some(group))?;
    }
    // The kernel takes bits away from what changes hands.
    if !is_theirs || !may {
        fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    Ok(!is_theirs || !may)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_set_and_what_is_right_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let seen = || {
            let found = fs::metadata(dir.path()).unwrap();
            (found.uid(), found.gid(), found.mode() & PERMISSIONS)
        };
        let changed = || fs::metadata(dir.path()).map(|found| (found.ctime(), found.ctime_nsec())).unwrap();
        assert!(ensure(dir.path(), 300_001, 300_002, 0o750).expect("this test needs root"));
        assert_eq!(seen(), (300_001, 300_002, 0o750));
        let before = changed();
        assert!(!ensure(dir.path(), 300_001, 300_002, 0o750).unwrap());
        assert_eq!(changed(), before);
        fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
        assert!(ensure(dir.path(), 300_001, 300_002, 0o750).unwrap());
        assert_eq!(seen(), (300_001, 300_002, 0o750));
    }
}
