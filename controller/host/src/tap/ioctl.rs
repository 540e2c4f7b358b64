//! The few calls of the kernel's tap driver that no safe library offers on a descriptor one already has.
#![allow(
    unsafe_code,
    reason = "ioctl takes a pointer whose type follows from the operation; each call below proves its own"
)]

use std::ffi::{c_int, c_uint};
use std::io;
use std::os::fd::AsFd;

use rustix::ioctl::{Getter, IntegerSetter, Setter, Updater, ioctl, opcode};

const TUNSETIFF: rustix::ioctl::Opcode = opcode::write::<c_int>(b'T', 202);
const TUNSETPERSIST: rustix::ioctl::Opcode = opcode::write::<c_int>(b'T', 203);
const TUNSETOWNER: rustix::ioctl::Opcode = opcode::write::<c_int>(b'T', 204);
const TUNGETIFF: rustix::ioctl::Opcode = opcode::read::<c_uint>(b'T', 210);
const TUNGETVNETHDRSZ: rustix::ioctl::Opcode = opcode::read::<c_int>(b'T', 215);
const TUNSETVNETHDRSZ: rustix::ioctl::Opcode = opcode::write::<c_int>(b'T', 216);

const IFF_TAP: u16 = 0x0002;
const IFF_NO_PI: u16 = 0x1000;
const IFF_VNET_HDR: u16 = 0x4000;

/// `struct ifreq` as far as the tap driver uses it.
#[repr(C)]
struct Request {
    name: [u8; 16],
    flags: u16,
    rest_of_union: [u8; 22],
}

impl Request {
    fn new(name: &str, flags: u16) -> Request {
        let mut request = Request { name: [0; 16], flags, rest_of_union: [0; 22] };
        // The last byte stays zero: names are at most fifteen long, and a longer one is cut rather than run on.
        request.name.iter_mut().take(15).zip(name.bytes()).for_each(|(to, from)| *to = from);
        request
    }

    fn name(&self) -> String {
        let bytes: Vec<u8> = self.name.iter().copied().take_while(|byte| *byte != 0).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Makes the tap with this name and attaches the descriptor to it.
pub(super) fn attach(tap: impl AsFd, name: &str) -> io::Result<()> {
    let mut request = Request::new(name, IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
    // SAFETY: TUNSETIFF reads and writes one `struct ifreq` (40 bytes), which `Request` has the layout and size of, and
    // which lives until the call returns.
    Ok(unsafe { ioctl(tap, Updater::<TUNSETIFF, Request>::new(&mut request)) }?)
}

/// Name of the tap that the descriptor is attached to; none when the tap is gone.
pub(super) fn attached_to(tap: impl AsFd) -> io::Result<Option<String>> {
    let mut request = Request::new("", 0);
    // SAFETY: TUNGETIFF writes one `struct ifreq`, as above.
    match unsafe { ioctl(tap, Updater::<TUNGETIFF, Request>::new(&mut request)) } {
        Ok(()) => Ok(Some(request.name())),
        Err(rustix::io::Errno::BADFD) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Lets the tap vanish with the last descriptor.
pub(super) fn set_transient(tap: impl AsFd) -> io::Result<()> {
    // SAFETY: TUNSETPERSIST takes an integer in place of the pointer and touches no memory of ours.
    Ok(unsafe { ioctl(tap, IntegerSetter::<TUNSETPERSIST>::new_usize(0)) }?)
}

/// Lets this user attach to the tap.
pub(super) fn set_owner(tap: impl AsFd, uid: u32) -> io::Result<()> {
    // SAFETY: TUNSETOWNER takes an integer in place of the pointer and touches no memory of ours.
    Ok(unsafe { ioctl(tap, IntegerSetter::<TUNSETOWNER>::new_usize(uid as usize)) }?)
}

/// Length of the virtio header before each frame.
pub(super) fn header_size(tap: impl AsFd) -> io::Result<i32> {
    // SAFETY: TUNGETVNETHDRSZ writes one int.
    Ok(unsafe { ioctl(tap, Getter::<TUNGETVNETHDRSZ, c_int>::new()) }?)
}

/// Sets the length of the virtio header before each frame.
pub(super) fn set_header_size(tap: impl AsFd, bytes: i32) -> io::Result<()> {
    // SAFETY: TUNSETVNETHDRSZ reads one int, which `Setter` owns until the call returns.
    Ok(unsafe { ioctl(tap, Setter::<TUNSETVNETHDRSZ, c_int>::new(bytes)) }?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_is_as_large_as_the_kernels() {
        assert_eq!(size_of::<Request>(), 40);
        assert_eq!(std::mem::offset_of!(Request, flags), 16);
    }

    #[test]
    fn a_name_of_any_length_stays_within() {
        assert_eq!(Request::new("tap-1", 0).name(), "tap-1");
        assert_eq!(Request::new("a-name-that-is-too-long", 0).name(), "a-name-that-is-");
    }
}
