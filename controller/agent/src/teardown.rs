//! Ends and removes all that an agent ever made on its host, whether or not the agent or the API still lives.
//!
//! This is `clean`, not deletion of objects: nothing is asked of anybody. What to end is read from three independent
//! places, because a crash may have come between any two of them: the process records in the data directory, the
//! processes inside our namespaces, and the namespaces' names.

use std::path::{Path, PathBuf};
use std::time::Duration;

use host::netns::Namespaces;
use process::{ProcessId, Record};

use crate::names::Names;

/// What could not be removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A process that does not end.
    #[error("failed to end a process")]
    Process(#[from] process::Error),
    /// A namespace that does not go.
    #[error("failed to remove a network namespace")]
    Namespace(#[from] host::netns::Error),
}

/// Ends every process recorded below `dir`, `except` that subdirectory; returns how many were running.
///
/// # Errors
/// All that did not end; the others were ended all the same.
pub async fn end_recorded(dir: &Path, except: &Path) -> (usize, Vec<Error>) {
    let mut running = Vec::new();
    collect(dir, except, &mut running);
    end(running).await
}

/// Ends what runs in the namespaces of `host` and removes them.
///
/// # Errors
/// All that did not go; the others are gone all the same.
pub async fn remove_namespaces(instance: &str, host: &str) -> Vec<Error> {
    let namespaces = Namespaces::default();
    let names = match namespaces.list(&Names::new(instance, host).namespace_prefix()) {
        Ok(names) => names,
        Err(error) => return vec![error.into()],
    };
    let mut errors = Vec::new();
    for name in names {
        if let Ok(namespace) = namespaces.open(&name) {
            let inside = namespaces.occupants(&namespace).into_iter().filter_map(ProcessId::of).collect();
            errors.extend(end(inside).await.1);
        }
        if let Err(error) = namespaces.delete(&name).await {
            errors.push(error.into());
        }
    }
    errors
}

async fn end(processes: Vec<ProcessId>) -> (usize, Vec<Error>) {
    let ends = processes.iter().map(|id| id.terminate(Duration::from_secs(5)));
    let errors = futures::future::join_all(ends).await.into_iter().filter_map(Result::err).map(Error::from).collect();
    (processes.len(), errors)
}

fn collect(dir: &Path, except: &Path, running: &mut Vec<ProcessId>) {
    let entries: Vec<PathBuf> =
        std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    for path in entries {
        if path == except || path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            collect(&path, except, running);
        } else if path.extension().is_some_and(|e| e == "json") {
            // Other JSON files do not read as a record and are passed over.
            running.extend(Record::load(&path).ok().flatten().and_then(|record| record.running()));
        }
    }
}
