//! The calls to a packet socket that no safe library offers: its address, its count of what was lost, and what the kernel
//! says of a frame beside its bytes.
#![allow(
    unsafe_code,
    reason = "these calls take pointers to structures that depend on the socket's family; each proves its own below"
)]

use std::ffi::{c_int, c_void};
use std::io;
use std::mem::zeroed;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;
use std::time::Duration;

use nix::libc;

/// What the kernel says of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Arrival {
    /// Its whole length, of which the buffer may hold only the beginning.
    pub(super) length: usize,
    /// When, since 1970.
    pub(super) time: Option<Duration>,
    /// The host sent it to the device.
    pub(super) sent: bool,
    /// Protocol and control information of a VLAN's tag, which the kernel has taken out of the frame (IEEE 802.1Q).
    pub(super) tag: Option<[u16; 2]>,
}

/// Which frames of the device are heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hear {
    /// All.
    All,
    /// None any more. What waits can still be read.
    Nothing,
}

/// Joins the socket to the device of that index.
pub(super) fn bind(socket: BorrowedFd<'_>, index: u32, hear: Hear) -> io::Result<()> {
    // SAFETY: the structure consists of integers, for which all zeroes is a value.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = match hear {
        Hear::All => (libc::ETH_P_ALL as u16).to_be(),
        Hear::Nothing => 0,
    };
    address.sll_ifindex = c_int::try_from(index).map_err(io::Error::other)?;
    // SAFETY: the pointer leads to a `sockaddr_ll` of the length given, which lives until the call returns.
    let done = unsafe { libc::bind(socket.as_raw_fd(), ptr::from_ref(&address).cast(), length_of(&address)) };
    outcome(done)
}

/// Has the kernel tell of tags that it took out of frames.
pub(super) fn tell_tags(socket: BorrowedFd<'_>) -> io::Result<()> {
    let yes: c_int = 1;
    let value: *const c_void = ptr::from_ref(&yes).cast();
    // SAFETY: the option reads one int, to which the pointer leads and which lives until the call returns.
    let done =
        unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_PACKET, libc::PACKET_AUXDATA, value, length_of(&yes)) };
    outcome(done)
}

/// How many frames came by, and how many of these found no room, since the last time this was asked.
pub(super) fn count(socket: BorrowedFd<'_>) -> io::Result<[u64; 2]> {
    let mut counted = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
    let mut length = length_of(&counted);
    let into: *mut c_void = ptr::from_mut(&mut counted).cast();
    // SAFETY: the option writes at most `length` bytes to where the pointer leads, which is a structure of that length.
    let done = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_PACKET, libc::PACKET_STATISTICS, into, &raw mut length)
    };
    outcome(done)?;
    Ok([counted.tp_packets, counted.tp_drops].map(u64::from))
}

/// Room for what comes beside a frame: a time and an `auxdata`, 72 bytes with their headers, aligned as these have to be.
#[repr(C, align(16))]
struct Beside([u8; 128]);

/// Takes the next frame that waits, cut to the buffer. None waits: `WouldBlock`.
pub(super) fn receive(socket: BorrowedFd<'_>, into: &mut [u8]) -> io::Result<Arrival> {
    let mut beside = Beside([0; 128]);
    let mut part = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    // SAFETY: integers and pointers, for which all zeroes is a value.
    let (mut from, mut message): (libc::sockaddr_ll, libc::msghdr) = unsafe { (zeroed(), zeroed()) };
    message.msg_name = ptr::from_mut(&mut from).cast();
    message.msg_namelen = length_of(&from);
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = ptr::from_mut(&mut beside).cast();
    message.msg_controllen = size_of::<Beside>();
    let flags = libc::MSG_TRUNC | libc::MSG_DONTWAIT;
    // SAFETY: every pointer in `message` leads to what lives in this function or is lent to it, with its length beside it.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    let sent = from.sll_pkttype == libc::PACKET_OUTGOING;
    let mut arrival = Arrival { length, sent, ..Arrival::default() };
    // SAFETY: `message` is as the kernel has just filled it, and what it points to is still there.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    // SAFETY: the kernel's macros give a pointer to a whole header within `beside`, or null at the end.
    while let Some(one) = unsafe { header.as_ref() } {
        // SAFETY: as above.
        unsafe { note(one, &mut arrival) };
        // SAFETY: as above.
        header = unsafe { libc::CMSG_NXTHDR(&raw const message, header) };
    }
    Ok(arrival)
}

/// Takes up what one header says.
///
/// # Safety
/// As many bytes as the header says have to follow it.
unsafe fn note(header: &libc::cmsghdr, arrival: &mut Arrival) {
    // SAFETY: computes a length.
    let has =
        |bytes: usize| header.cmsg_len >= unsafe { libc::CMSG_LEN(u32::try_from(bytes).unwrap_or(u32::MAX)) } as usize;
    // SAFETY: the address behind the header.
    let data = unsafe { libc::CMSG_DATA(header) };
    match (header.cmsg_level, header.cmsg_type) {
        (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) if has(size_of::<libc::timespec>()) => {
            // SAFETY: the header is followed by at least a `timespec`, whose parts are integers.
            let time: libc::timespec = unsafe { ptr::read_unaligned(data.cast()) };
            let parts = u64::try_from(time.tv_sec).ok().zip(u32::try_from(time.tv_nsec).ok());
            arrival.time = parts.map(|(seconds, nanoseconds)| Duration::new(seconds, nanoseconds));
        }
        (libc::SOL_PACKET, libc::PACKET_AUXDATA) if has(size_of::<libc::tpacket_auxdata>()) => {
            // SAFETY: the header is followed by at least a `tpacket_auxdata`, whose parts are integers.
            let told: libc::tpacket_auxdata = unsafe { ptr::read_unaligned(data.cast()) };
            let protocol = match told.tp_status & libc::TP_STATUS_VLAN_TPID_VALID {
                0 => libc::ETH_P_8021Q as u16,
                _ => told.tp_vlan_tpid,
            };
            let tagged = told.tp_status & libc::TP_STATUS_VLAN_VALID != 0;
            arrival.tag = tagged.then_some([protocol, told.tp_vlan_tci]);
        }
        _ => {}
    }
}

fn length_of<T>(value: &T) -> libc::socklen_t {
    // Of a few integers.
    size_of_val(value) as libc::socklen_t
}

fn outcome(done: c_int) -> io::Result<()> {
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
