//! `log` and `console`: what the first serial port printed, and the port itself.

use std::io::SeekFrom;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, Request, State};
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;
use futures::Stream;
use host::qemu::machine::CONSOLE_SOCKET;
use host::qemu::{serial_log, socket};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::lookup::{Lookup, ObjectPath};
use super::stream::switch;
use crate::refusal::refuse;
use control_loop::sentence;

/// Bytes of the log that are looked through for its last lines.
const WINDOW: u64 = 4 << 20;
const CHUNK: usize = 64 << 10;
/// Between two looks at a log that is followed: QEMU cannot tell us that it wrote.
const LOOK: Duration = Duration::from_millis(200);

/// How much of the log is wanted.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LogQuery {
    follow: bool,
    tail_lines: Option<usize>,
}

/// The serial log, perhaps only its last lines, perhaps on and on.
pub async fn log(
    State(lookup): State<Arc<Lookup>>,
    Path(path): Path<ObjectPath>,
    Query(query): Query<LogQuery>,
) -> Response<Body> {
    let run_dir = match lookup.run_dir(&path) {
        Ok(run_dir) => run_dir,
        Err(refusal) => return *refusal,
    };
    let tail = match tokio::task::spawn_blocking({
        let run_dir = run_dir.clone();
        move || serial_log::tail(&run_dir, WINDOW)
    })
    .await
    {
        Ok(Ok(tail)) => tail,
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Ok(Err(error)) => return refuse(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", sentence(&error)),
        Err(error) => return refuse(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", sentence(&error)),
    };
    let head = Bytes::from(last_lines(tail, query.tail_lines));
    let headers = [("content-type", "text/plain; charset=utf-8")];
    match query.follow {
        false => (headers, head).into_response(),
        true => (headers, Body::from_stream(follow(run_dir, head))).into_response(),
    }
}

fn last_lines(mut text: Vec<u8>, lines: Option<usize>) -> Vec<u8> {
    let Some(lines) = lines else { return text };
    if lines == 0 {
        return Vec::new();
    }
    let body = text.strip_suffix(b"\n").unwrap_or(&text);
    let start = body.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n').nth(lines - 1);
    let start = start.map_or(0, |(index, _)| index + 1);
    text.split_off(start)
}

struct Follow {
    path: PathBuf,
    /// What is sent first.
    head: Option<Bytes>,
    offset: Option<u64>,
    inode: u64,
}

fn follow(run_dir: PathBuf, head: Bytes) -> impl Stream<Item = std::io::Result<Bytes>> {
    let state = Follow { path: serial_log::path(&run_dir), head: Some(head), offset: None, inode: 0 };
    futures::stream::unfold(state, |mut state| async move {
        loop {
            match state.next().await {
                Ok(Some(bytes)) => return Some((Ok(bytes), state)),
                Ok(None) => tokio::time::sleep(LOOK).await,
                Err(error) => return Some((Err(error), state)),
            }
        }
    })
}

impl Follow {
    /// The next bytes, if any. The log is opened anew each time: it may be cut by a rotation, or be another machine run's.
    async fn next(&mut self) -> std::io::Result<Option<Bytes>> {
        let mut file = match File::open(&self.path).await {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(self.head.take()),
            Err(error) => return Err(error),
        };
        let metadata = file.metadata().await?;
        if let Some(head) = self.head.take() {
            (self.offset, self.inode) = (Some(metadata.len()), metadata.ino());
            return Ok(Some(head));
        }
        let begun_anew = metadata.ino() != self.inode || self.offset.is_some_and(|offset| metadata.len() < offset);
        self.inode = metadata.ino();
        let offset = if begun_anew { 0 } else { self.offset.unwrap_or_default() };
        if metadata.len() == offset {
            self.offset = Some(offset);
            return Ok(None);
        }
        file.seek(SeekFrom::Start(offset)).await?;
        let mut bytes = vec![0; CHUNK];
        let read = file.read(&mut bytes).await?;
        bytes.truncate(read);
        self.offset = Some(offset + read as u64);
        Ok(Some(bytes.into()))
    }
}

/// The serial port itself, both ways.
pub async fn console(
    State(lookup): State<Arc<Lookup>>,
    Path(path): Path<ObjectPath>,
    request: Request,
) -> Response<Body> {
    if let Err(refusal) = lookup.follower(&path) {
        return *refusal;
    }
    let run_dir = match lookup.run_dir(&path) {
        Ok(run_dir) => run_dir,
        Err(refusal) => return *refusal,
    };
    match socket::connect(&run_dir, CONSOLE_SOCKET).await {
        Ok(console) => switch(request, console),
        Err(error) => refuse(StatusCode::SERVICE_UNAVAILABLE, "ConsoleUnavailable", sentence(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt;

    #[test]
    fn the_last_lines_are_whole_lines() {
        let text = || b"one\ntwo\nthree\n".to_vec();
        assert_eq!(last_lines(text(), Some(2)), b"two\nthree\n");
        assert_eq!(last_lines(text(), Some(9)), text());
        assert_eq!(last_lines(text(), Some(0)), b"");
        assert_eq!(last_lines(b"a\nb".to_vec(), Some(1)), b"b");
        assert_eq!(last_lines(text(), None), text());
    }

    #[tokio::test]
    async fn a_followed_log_goes_on_after_a_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let path = serial_log::path(dir.path());
        std::fs::write(&path, "old ").unwrap();
        let mut log = std::pin::pin!(follow(dir.path().to_owned(), Bytes::from_static(b"old ")));
        assert_eq!(log.next().await.unwrap().unwrap(), "old ");
        std::fs::write(&path, "old and new").unwrap();
        assert_eq!(log.next().await.unwrap().unwrap(), "and new");
        assert!(serial_log::rotate(dir.path(), 1).unwrap());
        std::fs::write(&path, "again").unwrap();
        assert_eq!(log.next().await.unwrap().unwrap(), "again");
    }
}
