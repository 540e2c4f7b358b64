//! What can go wrong with an image, with the remedy in the message.

use std::io;
use std::path::{Path, PathBuf};

/// Result of an image verb.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Failure of an image verb.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A recipe that cannot work, whatever the machine.
    #[error("the recipe's {field} is invalid: {reason}")]
    Recipe {
        /// Path of the field.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Building needs root.
    #[error("building an image needs root: run the agent as root")]
    NotRoot,
    /// A program is missing.
    #[error("a program that builds images is missing")]
    Program(#[source] process::Error),
    /// Too little space.
    #[error("only {free_mib} MiB are free under {path:?} and the image needs {needed_mib} MiB: free some space")]
    DiskFull {
        /// Directory of the cache.
        path: PathBuf,
        /// Free space in MiB.
        free_mib: u64,
        /// Needed space in MiB.
        needed_mib: u64,
    },
    /// The mirror did not answer and nothing was cached.
    #[error(
        "failed to read the package lists of {mirrors}: check the network and the Debian mirror in /etc/apt: {output}"
    )]
    Mirror {
        /// Mirrors asked.
        mirrors: String,
        /// Last lines of apt.
        output: String,
    },
    /// A package the suite does not have.
    #[error("package {package:?} does not exist in {suite}: correct the recipe's packages")]
    UnknownPackage {
        /// Name, perhaps with a version.
        package: String,
        /// Suite.
        suite: String,
    },
    /// The packages cannot be installed together.
    #[error("the packages cannot be installed together: {output}")]
    Unsatisfiable {
        /// Last lines of apt.
        output: String,
    },
    /// A step's program failed.
    #[error("failed to {step}: {program} ended with {status}: {output}")]
    Step {
        /// What was being done.
        step: &'static str,
        /// Program.
        program: String,
        /// Exit status.
        status: String,
        /// Last lines of its output.
        output: String,
    },
    /// The image a layer rests on is not in the cache.
    #[error("the base image {key} is not built on this host: build it first")]
    BaseMissing {
        /// Key of the base.
        key: String,
    },
    /// The base of a layer was imported, so nothing is known of its packages.
    #[error("the base image {key} was imported from a file: only a Debian image can carry a layer")]
    BaseOpaque {
        /// Key of the base.
        key: String,
    },
    /// The file is not the one that was named.
    #[error("{path:?} has the digest sha256:{found}, not sha256:{expected}: it was changed or damaged")]
    Digest {
        /// File.
        path: PathBuf,
        /// Digest asked for.
        expected: String,
        /// Digest found.
        found: String,
    },
    /// A disk image that we refuse.
    #[error("{path:?} is refused: {reason}")]
    Refused {
        /// File.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A file operation failed.
    #[error("failed to {action} {path:?}")]
    Io {
        /// Verb.
        action: &'static str,
        /// File.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// A file of the cache does not say what it should.
    #[error("{path:?} is damaged: delete the image and build it again")]
    Damaged {
        /// File.
        path: PathBuf,
        /// Cause.
        #[source]
        source: serde_json::Error,
    },
    /// A package does not hold what we need of it.
    #[error("{what} is missing in {place}: choose another kernel package or suite")]
    Incomplete {
        /// What is missing.
        what: String,
        /// Where it was looked for.
        place: String,
    },
    /// The thread that builds ended early.
    #[error("the build was interrupted; it starts again by itself")]
    Interrupted(#[source] tokio::task::JoinError),
}

impl Error {
    /// A stable label for metrics and condition reasons.
    pub fn category(&self) -> &'static str {
        match self {
            Error::Recipe { .. } => "InvalidRecipe",
            Error::NotRoot => "NotRoot",
            Error::Program(_) => "ProgramNotFound",
            Error::DiskFull { .. } => "DiskFull",
            Error::Mirror { .. } => "MirrorUnreachable",
            Error::UnknownPackage { .. } => "UnknownPackage",
            Error::Unsatisfiable { .. } => "UnsatisfiablePackages",
            Error::Step { .. } => "BuildFailed",
            Error::BaseMissing { .. } => "BaseMissing",
            Error::BaseOpaque { .. } | Error::Refused { .. } | Error::Incomplete { .. } => "Refused",
            Error::Digest { .. } => "DigestMismatch",
            Error::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => "DiskFull",
            Error::Io { .. } => "FileError",
            Error::Damaged { .. } => "CorruptImage",
            Error::Interrupted(_) => "Interrupted",
        }
    }

    /// Whether trying again without any change of the recipe may help.
    pub fn retry(&self) -> bool {
        !matches!(
            self,
            Error::Recipe { .. }
                | Error::NotRoot
                | Error::UnknownPackage { .. }
                | Error::Unsatisfiable { .. }
                | Error::BaseOpaque { .. }
                | Error::Digest { .. }
                | Error::Refused { .. }
                | Error::Incomplete { .. }
        )
    }

    /// An I/O failure of `action` on `path`, for `map_err`.
    pub(super) fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Error {
        let path = path.as_ref().to_owned();
        move |source| Error::Io { action, path, source }
    }

    pub(super) fn recipe(field: impl Into<String>, reason: impl Into<String>) -> Error {
        Error::Recipe { field: field.into(), reason: reason.into() }
    }
}
