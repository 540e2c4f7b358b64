//! Files with all of a step's output: one directory a run, named by its UID, gone when the run is.

use crate::effects::SaveError;
use std::collections::HashSet;
use std::io;
use std::path::{Component, Path};

/// Writes a file below `root` as a whole or not at all.
pub async fn save(root: &Path, path: &str, content: &str) -> Result<(), SaveError> {
    let failed = |error: io::Error| SaveError { path: path.to_owned(), reason: error.to_string() };
    let plain = |part| matches!(part, Component::Normal(_));
    if !Path::new(path).components().all(plain) {
        return Err(failed(io::Error::other("the path leaves the directory")));
    }
    let file = root.join(path);
    let new = file.with_extension("new");
    if let Some(directory) = file.parent() {
        tokio::fs::create_dir_all(directory).await.map_err(failed)?;
    }
    tokio::fs::write(&new, content).await.map_err(failed)?;
    tokio::fs::rename(&new, &file).await.map_err(failed)
}

/// Removes the directories of runs that are no more; returns how many.
///
/// # Errors
/// When the artifact directory cannot be read.
pub async fn sweep(root: &Path, live: &HashSet<String>) -> io::Result<usize> {
    let mut removed = 0;
    let mut entries = match tokio::fs::read_dir(root).await {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    while let Some(entry) = entries.next_entry().await? {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        // What is not named like a run is not ours.
        if uuid::Uuid::parse_str(name).is_ok() && !live.contains(name) {
            tokio::fs::remove_dir_all(entry.path()).await?;
            removed += 1;
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn files_are_whole_inside_and_swept_with_their_run() {
        let root = tempfile::tempdir().unwrap();
        let uid = uuid::Uuid::new_v4().to_string();
        let path = format!("{uid}/step-1.log");
        save(root.path(), &path, "all of it").await.unwrap();
        let text = std::fs::read_to_string(root.path().join(&path)).unwrap();
        assert_eq!(text, "all of it");
        assert!(save(root.path(), "../out", "").await.is_err());
        assert!(save(root.path(), "/etc/out", "").await.is_err());

        std::fs::create_dir(root.path().join("not-ours")).unwrap();
        let live = HashSet::from([uid.clone()]);
        assert_eq!(sweep(root.path(), &live).await.unwrap(), 0);
        assert_eq!(sweep(root.path(), &HashSet::new()).await.unwrap(), 1);
        assert!(root.path().join("not-ours").exists());
    }
}
