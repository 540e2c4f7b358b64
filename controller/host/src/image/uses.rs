//! Who uses which images, so that what nobody uses can go: the cache may be shared by several agents.
//!
//! ```text
//!  CACHE/uses/USER.json      the images that one user cannot do without, written anew by that user now and then
//!        images/KEY/used     its time is the last one at which somebody asked for the image or declared it
//! ```
//! An image goes when no user declares it *and* nobody has asked for it for long. The first protects a user that is away
//! (its machines may run on, with the image below their disks), the second what is just coming up: between a look and a
//! declaration there may be any pause. A user whose directory is gone and who has not been heard of for as long is no more.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::cache::{Cache, names};
use super::error::{Error, Result};

/// How exactly it is known when something was used last; what is more exact costs writes.
const EXACT: Duration = Duration::from_secs(3600);
/// What tells when something came to the cache, or was used.
const SIGNS: [&str; 3] = ["used", "image.json", "rootfs.json"];

/// What one user of the cache cannot do without.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Uses {
    /// Its directory; a user without one is gone.
    pub(super) dir: PathBuf,
    /// Keys of the images.
    pub(super) keys: BTreeSet<String>,
}

impl Cache {
    /// Says what `user` uses from now on.
    pub(super) fn declare(&self, user: &str, uses: &Uses) -> Result<()> {
        let path = self.uses().join(format!("{user}.json"));
        fs::create_dir_all(self.uses()).map_err(Error::io("create", self.uses()))?;
        if self.load::<Uses>(&path)?.as_ref() != Some(uses) {
            let text = serde_json::to_vec_pretty(uses);
            let text = text.map_err(|source| Error::Damaged { path: path.clone(), source })?;
            process::replace_file(&path, text, 0o644).map_err(Error::io("write", &path))?;
        } else if age(&path) > EXACT {
            renew(&path)?;
        }
        uses.keys.iter().try_for_each(|key| self.touch(&self.image(key)))
    }

    /// All that any user declares. Of users that are gone, nothing remains.
    pub(super) fn in_use(&self, keep: Duration) -> Result<BTreeSet<String>> {
        let mut all = BTreeSet::new();
        for name in names(&self.uses())? {
            let path = self.uses().join(&name);
            let Some(uses) = self.load::<Uses>(&path)? else { continue };
            if !uses.dir.exists() && age(&path) >= keep {
                fs::remove_file(&path).map_err(Error::io("remove", &path))?;
                continue;
            }
            all.extend(uses.keys);
        }
        Ok(all)
    }

    /// Notes that an image or a root is used now. None is as good.
    pub(super) fn touch(&self, place: &Path) -> Result<()> {
        match place.exists() && idle(place) > EXACT {
            true => renew(&place.join("used")),
            false => Ok(()),
        }
    }

    fn uses(&self) -> PathBuf {
        self.dir().join("uses")
    }
}

/// How long nobody has asked for what is in this place.
pub(super) fn idle(place: &Path) -> Duration {
    SIGNS.iter().map(|sign| age(&place.join(sign))).min().unwrap_or_default()
}

/// Time since a file was written; very long when there is none, nothing when it was written in the future.
fn age(path: &Path) -> Duration {
    match fs::metadata(path).and_then(|found| found.modified()) {
        Ok(time) => SystemTime::now().duration_since(time).unwrap_or_default(),
        Err(_) => Duration::MAX,
    }
}

fn renew(path: &Path) -> Result<()> {
    let open = File::options().create(true).truncate(false).write(true).open(path);
    open.and_then(|file| file.set_modified(SystemTime::now())).map_err(Error::io("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

    fn aged(path: &Path) {
        let file = File::options().create(true).truncate(false).write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - WEEK - EXACT).unwrap();
    }

    fn user(cache: &Cache, name: &str, dir: &Path, keys: &[&str]) {
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        cache.declare(name, &Uses { dir: dir.to_owned(), keys }).unwrap();
    }

    #[test]
    fn a_user_counts_while_its_directory_is_there_or_it_was_heard_of_lately() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path().join("cache"));
        user(&cache, "here", dir.path(), &["a"]);
        user(&cache, "elsewhere", Path::new("/no/such/place"), &["b"]);
        assert_eq!(cache.in_use(WEEK).unwrap(), ["a", "b"].map(String::from).into());
        for name in ["here", "elsewhere"] {
            aged(&dir.path().join(format!("cache/uses/{name}.json")));
        }
        assert_eq!(cache.in_use(WEEK).unwrap(), ["a"].map(String::from).into(), "away is not gone");
        user(&cache, "here", dir.path(), &[]);
        assert_eq!(cache.in_use(WEEK).unwrap(), BTreeSet::new());
    }

    #[test]
    fn what_is_declared_counts_as_used_now() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path().to_owned());
        let place = cache.image("a");
        fs::create_dir_all(&place).unwrap();
        aged(&place.join("image.json"));
        assert!(idle(&place) > WEEK);
        user(&cache, "me", dir.path(), &["a", "not there"]);
        assert!(idle(&place) < EXACT);
        assert!(!cache.image("not there").exists());
    }

    #[test]
    fn a_damaged_declaration_removes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path().to_owned());
        user(&cache, "me", dir.path(), &["a"]);
        fs::write(dir.path().join("uses/me.json"), "{").unwrap();
        assert_eq!(cache.in_use(WEEK).unwrap_err().category(), "CorruptImage");
    }
}
