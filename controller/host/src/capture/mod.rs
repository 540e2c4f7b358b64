//! What passes a device, as it passes: for people who want to see it.
//!
//! A packet socket is a queue in the kernel, and the kernel never waits for who reads it: what finds no room is dropped from the
//! queue and counted, and the device's traffic goes on. So a slow reader harms its own picture and nobody's network. The socket
//! hears what a guest sends before any filter judges it, and what a guest is sent after all have.
//!
//! A socket holds its namespace: as long as it is open nothing in the namespace is really gone. So whoever has one watches
//! [`PacketSocket::gone`] and lets go when the device went.

pub mod pcapng;
mod raw;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::socket::{setsockopt, sockopt};
use rustix::io::Errno;
use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::link::LinkName;
use crate::netns::{self, Namespace};
use raw::Hear;

/// The largest part of a frame that can be asked for: more than any frame is long, and what programs that read captures allow.
pub const WHOLE: u32 = 262_144;
/// Bytes before the frame in the buffer, where the beginning of one with a tag is moved to.
const TAG: usize = 4;
/// Length of the two hardware addresses, which a tag follows.
const ADDRESSES: usize = 12;

/// Why nothing can be heard.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The namespace could not be entered.
    #[error(transparent)]
    Namespace(#[from] netns::Error),
    /// There is no such device.
    #[error("there is no device {device} in network namespace {namespace:?}")]
    NoDevice {
        /// The device.
        device: String,
        /// Where it was looked for.
        namespace: String,
    },
    /// The kernel refused.
    #[error("failed to {action} of device {device}")]
    Socket {
        /// What was tried.
        action: &'static str,
        /// The device.
        device: String,
        /// Cause.
        #[source]
        source: io::Error,
    },
}

/// Which way a frame goes, as the guest sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the guest.
    Inbound,
    /// From the guest.
    Outbound,
}

/// A frame, perhaps only its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// When it came by, since 1970.
    pub time: Duration,
    /// Which way.
    pub direction: Direction,
    /// Its bytes, beginning with the hardware addresses.
    pub bytes: &'a [u8],
    /// Its whole length.
    pub length: usize,
}

/// What came by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// All frames.
    pub seen: u64,
    /// Those of them that found no room in the queue.
    pub lost: u64,
}

/// Hears a device.
#[derive(Debug)]
pub struct PacketSocket {
    socket: AsyncFd<OwnedFd>,
    index: u32,
    desk: Desk,
    down: bool,
}

impl PacketSocket {
    /// Hears the device from now on. Of each frame at most `snaplen` bytes are kept; at most `queue` bytes wait in the kernel,
    /// which counts twice that for its own book-keeping.
    ///
    /// # Errors
    /// That there is no such device now, or the kernel's.
    pub async fn open(namespace: &Namespace, device: &LinkName, snaplen: u32, queue: usize) -> Result<Self, Error> {
        let failed = |action| {
            let device = device.to_string();
            move |source: io::Error| Error::Socket { action, device, source }
        };
        let name = device.clone();
        let made = netns::enter(namespace, move || {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            // Without a protocol nothing is heard, so nothing of other devices before it is bound to this one.
            let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)?;
            let index = name_to_index(&socket, name.as_str())?;
            Ok::<_, Errno>((socket, index))
        });
        let (socket, index) = made.await?.map_err(|errno| match errno {
            Errno::NODEV => Error::NoDevice { device: device.to_string(), namespace: namespace.name().to_owned() },
            other => failed("make a socket for the frames")(other.into()),
        })?;
        let set_up = || -> io::Result<()> {
            setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
            setsockopt(&socket, sockopt::RcvBufForce, &queue)?;
            raw::tell_tags(socket.as_fd())?;
            raw::bind(socket.as_fd(), index, Hear::All)
        };
        set_up().map_err(failed("hear the frames"))?;
        let socket = readiness_of(socket).map_err(failed("wait for the frames"))?;
        Ok(PacketSocket { socket, index, desk: Desk::new(snaplen), down: false })
    }

    /// Waits until [`PacketSocket::take`] is worth a try.
    ///
    /// # Errors
    /// The reactor's.
    pub async fn wait(&self) -> io::Result<()> {
        self.socket.readable().await?.retain_ready();
        Ok(())
    }

    /// The next frame that waits, if one does.
    ///
    /// # Errors
    /// The kernel's.
    pub fn take(&mut self) -> io::Result<Option<Frame<'_>>> {
        let desk = &mut self.desk;
        match self.socket.try_io(Interest::READABLE, |socket| raw::receive(socket.as_fd(), desk.room())) {
            Ok(arrival) => Ok(Some(desk.frame(arrival))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NetworkDown => {
                self.down = true;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Waits until the device is down or gone; what has come by before is still there.
    pub async fn gone(&self) {
        if !self.down {
            // That the reactor has ended is an end as well.
            let _ = self.socket.ready(Interest::ERROR).await;
        }
    }

    /// Hears nothing more. What waits can still be taken.
    #[must_use]
    pub fn stop(self) -> Remainder {
        let socket = self.socket.into_inner();
        // A device that is gone is not heard any more anyway.
        let _ = raw::bind(socket.as_fd(), self.index, Hear::Nothing);
        Remainder { socket, desk: self.desk }
    }
}

/// What waited when the hearing ended.
#[derive(Debug)]
pub struct Remainder {
    socket: OwnedFd,
    desk: Desk,
}

impl Remainder {
    /// The next frame.
    ///
    /// # Errors
    /// The kernel's.
    pub fn take(&mut self) -> io::Result<Option<Frame<'_>>> {
        loop {
            match raw::receive(self.socket.as_fd(), self.desk.room()) {
                Ok(arrival) => return Ok(Some(self.desk.frame(arrival))),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                // It is said once, before what waits.
                Err(error) if error.kind() == io::ErrorKind::NetworkDown => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// What came by since the hearing began.
    ///
    /// # Errors
    /// The kernel's.
    pub fn counted(&self) -> io::Result<Counted> {
        let [seen, lost] = raw::count(self.socket.as_fd())?;
        Ok(Counted { seen, lost })
    }
}

/// Where one frame at a time is laid down.
#[derive(Debug)]
struct Desk {
    buffer: Vec<u8>,
    snaplen: usize,
}

impl Desk {
    fn new(snaplen: u32) -> Desk {
        let snaplen = snaplen.clamp(1, WHOLE) as usize;
        Desk { buffer: vec![0; TAG + snaplen.max(ADDRESSES)], snaplen }
    }

    fn room(&mut self) -> &mut [u8] {
        &mut self.buffer[TAG..]
    }

    /// The frame as it was on its way: with its tag.
    fn frame(&mut self, arrival: raw::Arrival) -> Frame<'_> {
        let kept = arrival.length.min(self.buffer.len() - TAG);
        let (begin, length) = match arrival.tag {
            Some([protocol, control]) if kept >= ADDRESSES => {
                self.buffer.copy_within(TAG..TAG + ADDRESSES, 0);
                self.buffer[ADDRESSES..ADDRESSES + 2].copy_from_slice(&protocol.to_be_bytes());
                self.buffer[ADDRESSES + 2..ADDRESSES + TAG].copy_from_slice(&control.to_be_bytes());
                (0, arrival.length + TAG)
            }
            _ => (TAG, arrival.length),
        };
        let end = (TAG + kept).min(begin + self.snaplen);
        let direction = if arrival.sent { Direction::Inbound } else { Direction::Outbound };
        let time = arrival.time.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
        Frame { time, direction, bytes: &self.buffer[begin..end], length }
    }
}

#[expect(
    deprecated,
    reason = "its sound successor is an unsafe fn; the hazard is a descriptor swapped while registered, and an OwnedFd moved in here cannot be"
)]
fn readiness_of(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(socket, Interest::READABLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn laid_down(snaplen: u32, bytes: &[u8], tag: Option<[u16; 2]>) -> (Vec<u8>, usize) {
        let mut desk = Desk::new(snaplen);
        let room = desk.room();
        let kept = bytes.len().min(room.len());
        room[..kept].copy_from_slice(&bytes[..kept]);
        let frame = desk.frame(raw::Arrival { length: bytes.len(), tag, ..raw::Arrival::default() });
        (frame.bytes.to_vec(), frame.length)
    }

    #[test]
    fn a_frame_is_cut_and_has_its_tag_again() {
        let bytes: Vec<u8> = (0..20).collect();
        let tag = Some([0x8100, 0x2007]);
        assert_eq!(laid_down(WHOLE, &bytes, None), (bytes.clone(), 20));
        let tagged = [&bytes[..12], &[0x81, 0, 0x20, 7], &bytes[12..]].concat();
        assert_eq!(laid_down(WHOLE, &bytes, tag), (tagged.clone(), 24));
        assert_eq!(laid_down(14, &bytes, None), (bytes[..14].to_vec(), 20));
        assert_eq!(laid_down(14, &bytes, tag), (tagged[..14].to_vec(), 24));
        assert_eq!(laid_down(1, &bytes, tag), (bytes[..1].to_vec(), 24));
        // What is no whole frame has no place for a tag.
        assert_eq!(laid_down(WHOLE, &bytes[..8], tag), (bytes[..8].to_vec(), 8));
    }
}
