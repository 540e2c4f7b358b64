//! A machine's Unix sockets: bound by us, listened on by QEMU, and connected to by whoever adopts the machine.
//!
//! We bind and hand the listening descriptor down, so a connection made right after the start waits in the kernel until
//! QEMU is ready: there is no time at which the socket is "not there yet", and nothing to poll. Every path goes through
//! `/proc/self/fd`, because a socket's path may have no more than 107 bytes and a data directory's may have more.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use tokio::net::UnixStream;

/// Binds `name` in `dir`, in place of what a dead QEMU left there.
pub fn listen(dir: &Path, name: &str) -> io::Result<OwnedFd> {
    match fs::remove_file(dir.join(name)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let dir = File::open(dir)?;
    Ok(UnixListener::bind(short(&dir, name))?.into())
}

/// Connects to `name` in `dir`; refused when no QEMU listens any more.
pub async fn connect(dir: &Path, name: &str) -> io::Result<UnixStream> {
    let dir = File::open(dir)?;
    UnixStream::connect(short(&dir, name)).await
}

fn short(dir: &File, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_long_path_is_no_obstacle_and_a_stale_socket_neither() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("d".repeat(120));
        fs::create_dir(&dir).unwrap();
        drop(listen(&dir, "x.sock").unwrap());
        let refused = connect(&dir, "x.sock").await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let _listener = listen(&dir, "x.sock").unwrap();
        connect(&dir, "x.sock").await.unwrap();
    }
}
