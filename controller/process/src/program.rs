//! Finding the programs we drive, with a remedy when one is missing.

use std::env;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use crate::{Error, Result};

/// Environment variable that names the directory into which tools were unpacked.
pub const TOOLS_VARIABLE: &str = "CLUSTERCTL_TOOLS";

/// The tools directory when the variable names none: where the install step unpacks daemons that must not be installed.
pub const TOOLS_DIRECTORY: &str = "/var/cache/clusterctl/tools";

/// Finds a program: the file named by `env_override`, else on PATH, else in the tools directory, else in the system's own.
///
/// The system's `sbin` directories come last because an ordinary user's PATH often lacks them.
pub fn find_program(name: &str, env_override: &str) -> Result<PathBuf> {
    let tools = env::var_os(TOOLS_VARIABLE).map_or_else(|| PathBuf::from(TOOLS_DIRECTORY), PathBuf::from);
    find_in(
        name,
        env_override,
        env::var_os(env_override).map(PathBuf::from),
        &search_path(env::var_os("PATH"), Some(tools)),
    )
}

fn search_path(path: Option<std::ffi::OsString>, tools: Option<PathBuf>) -> Vec<PathBuf> {
    let listed = path.iter().flat_map(env::split_paths).filter(|dir| dir.is_absolute());
    let unpacked = tools.iter().flat_map(|tools| ["usr/bin", "usr/sbin", "bin"].map(|dir| tools.join(dir)));
    let system = ["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from);
    listed.chain(unpacked).chain(system).collect()
}

fn find_in(name: &str, variable: &str, chosen: Option<PathBuf>, searched: &[PathBuf]) -> Result<PathBuf> {
    if let Some(path) = chosen.filter(|path| !path.as_os_str().is_empty()) {
        return match is_executable(&path) {
            true => Ok(path),
            false => Err(Error::OverrideNotExecutable { variable: variable.to_owned(), path }),
        };
    }
    searched.iter().map(|dir| dir.join(name)).find(|path| is_executable(path)).ok_or_else(|| Error::ProgramNotFound {
        name: name.to_owned(),
        variable: variable.to_owned(),
        searched: searched.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(":"),
    })
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && access(path, Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_on_the_path() {
        assert!(find_program("sh", "CLUSTERCTL_TEST_NO_SUCH_VARIABLE").unwrap().ends_with("sh"));
    }

    #[test]
    fn the_override_wins_and_must_be_executable() {
        let found = find_in("sh", "X_SH", Some("/bin/true".into()), &["/bin".into()]).unwrap();
        assert_eq!(found, Path::new("/bin/true"));
        let error = find_in("sh", "X_SH", Some("/etc/passwd".into()), &["/bin".into()]).unwrap_err();
        assert!(error.to_string().contains("X_SH names"), "{error}");
    }

    #[test]
    fn a_missing_program_says_what_to_do() {
        let error = find_in("no-such-program", "X_NSP", None, &["/bin".into(), "/opt".into()]).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("install it") && text.contains("X_NSP") && text.contains("/bin:/opt"), "{text}");
        assert!(!error.retry());
    }

    #[test]
    fn the_tools_directory_is_searched_after_the_path() {
        let dirs = search_path(Some("/a:relative:/b".into()), Some("/tools".into()));
        let shown: Vec<_> = dirs.iter().take(3).map(|dir| dir.to_str().unwrap()).collect();
        assert_eq!(shown, ["/a", "/b", "/tools/usr/bin"]);
    }
}
