//! `capture`: what passes a port's device, streamed as pcapng while it passes.
//!
//! Between the kernel's queue and the caller stands a buffer of fixed size. Who reads slowly fills it, then the queue, and then
//! the kernel drops frames from the queue and counts them: the guest's traffic never waits. The last block says how many.
//!
//! ```text
//!  device ─► queue in the kernel ─► buffer ─► caller          ends when the caller has hung up or ended its half, enough
//!              │ full: lost, counted                           was captured, time is over, or the device is gone
//! ```

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::{Response, StatusCode};
use bytes::BytesMut;
use host::capture::{self, PacketSocket, pcapng};
use host::netns::{self, Namespaces};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Semaphore;

use super::lookup::{Lookup, ObjectPath};
use super::stream::hand_over;
use crate::refusal::refuse;
use control_loop::sentence;

/// Captures on this host at once. Each may hold twice its queue.
const AT_ONCE: usize = 8;
/// Bytes of frames that wait in the kernel: some milliseconds of a fast guest.
const QUEUE: usize = 8 << 20;
/// Bytes that wait here; one frame may exceed it.
const BUFFER: usize = 256 << 10;
/// How long a caller may take for what is left when the capture has ended.
const FAREWELL: Duration = Duration::from_secs(30);
/// Why it ended when the caller did not ask for that.
const GONE: &str = "the port's device went down or away: its machine stopped, or moved to another host";

/// How many captures may begin.
#[derive(Clone, Debug)]
pub struct Captures(Arc<Semaphore>);

impl Default for Captures {
    fn default() -> Self {
        Captures(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

/// How much is wanted.
#[derive(Clone, Copy, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CaptureQuery {
    /// Frames; as many as come without.
    count: Option<u64>,
    /// Seconds; as long as the caller likes without.
    seconds: Option<u64>,
    /// Bytes of each frame; all without.
    snaplen: Option<u32>,
}

/// What passes a port's device, from now on.
pub async fn capture(
    State(lookup): State<Arc<Lookup>>,
    Path(path): Path<ObjectPath>,
    Query(query): Query<CaptureQuery>,
    request: Request,
) -> Response<Body> {
    let (netns, device) = match lookup.device(&path) {
        Ok(found) => found,
        Err(refusal) => return *refusal,
    };
    let Ok(permit) = lookup.captures.0.clone().try_acquire_owned() else {
        let message = format!("{AT_ONCE} captures run on this host already; end one of them");
        return refuse(StatusCode::TOO_MANY_REQUESTS, "TooManyCaptures", message);
    };
    let snaplen = query.snaplen.unwrap_or(capture::WHOLE).clamp(1, capture::WHOLE);
    let opened = async {
        let namespace = Namespaces::default().open(&netns)?;
        PacketSocket::open(&namespace, &device, snaplen, QUEUE).await
    };
    let socket = match opened.await {
        Ok(socket) => socket,
        Err(error) => return refusal_of(&path.name, &error),
    };
    hand_over(request, async move |mut caller| {
        let mut begin = BytesMut::new();
        let program = concat!("clusterctl ", env!("CARGO_PKG_VERSION"));
        let description = format!("Port {}/{}", path.namespace, path.name);
        pcapng::begin(&mut begin, program, device.as_str(), &description, snaplen);
        let streamed = stream(socket, &mut caller, begin, query).await;
        drop(permit);
        streamed
    })
}

fn refusal_of(port: &str, error: &capture::Error) -> Response<Body> {
    match error {
        capture::Error::NoDevice { .. } | capture::Error::Namespace(netns::Error::NotFound { .. }) => {
            let message = format!(
                "port {port} has no device now: it comes with the virtual machine, and none that uses the port runs"
            );
            refuse(StatusCode::CONFLICT, "NoDevice", message)
        }
        other => refuse(StatusCode::INTERNAL_SERVER_ERROR, "CaptureFailed", sentence(other)),
    }
}

/// Passes on what is heard, after what `out` has already, until it is over.
async fn stream<S>(mut socket: PacketSocket, caller: &mut S, mut out: BytesMut, query: CaptureQuery) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut reader, mut writer) = tokio::io::split(caller);
    let mut hung_up = pin!(ended(&mut reader));
    let mut over = pin!(async {
        match query.seconds {
            Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
            None => std::future::pending().await,
        }
    });
    let (mut left, mut flushed) = (query.count.unwrap_or(u64::MAX), false);
    let why = loop {
        if left == 0 {
            break None;
        }
        tokio::select! {
            () = &mut hung_up => break None,
            () = &mut over => break None,
            () = socket.gone() => break Some(GONE),
            ready = socket.wait(), if out.len() < BUFFER => {
                ready?;
                while left > 0 && out.len() < BUFFER && let Some(frame) = socket.take()? {
                    pcapng::frame(&mut out, &frame);
                    left -= 1;
                }
            }
            done = push(&mut writer, &mut out), if !flushed || !out.is_empty() => flushed = done?,
        }
    };
    let mut remainder = socket.stop();
    while left > 0
        && let Some(frame) = remainder.take()?
    {
        pcapng::frame(&mut out, &frame);
        left -= 1;
    }
    let counted = remainder.counted()?;
    // The namespace may want to go, and the caller may be slow.
    drop(remainder);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    pcapng::end(&mut out, now, counted, why);
    let farewell = async {
        writer.write_all_buf(&mut out).await?;
        writer.shutdown().await
    };
    tokio::time::timeout(FAREWELL, farewell).await.map_err(io::Error::from)?
}

/// Writes some of it, or pushes on what was written. Whether nothing is left to do. Cancelled, nothing is lost or said twice.
async fn push(writer: &mut (impl AsyncWrite + Unpin), out: &mut BytesMut) -> io::Result<bool> {
    if out.is_empty() {
        writer.flush().await?;
        return Ok(true);
    }
    match writer.write_buf(out).await? {
        0 => Err(io::ErrorKind::WriteZero.into()),
        _ => Ok(false),
    }
}

/// Waits until the caller has ended its half, or is gone. What it says does not matter.
async fn ended(reader: &mut (impl AsyncRead + Unpin)) {
    let mut word = [0; 64];
    while reader.read(&mut word).await.is_ok_and(|length| length > 0) {}
}

#[cfg(test)]
mod tests;
