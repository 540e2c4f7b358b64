//! Reading what the kernel says of links, without what nobody here asks for.

use std::collections::BTreeMap;
use std::io;

use rtnetlink::packet_core::NlasIterator;

use super::{Kind, Link};

/// `ifinfomsg`: family, type, index, flags, change.
const LINK_HEADER: usize = 16;
/// `ARPHRD_LOOPBACK`, `IFF_UP` (linux/if_arp.h, linux/if.h).
const LOOPBACK: u16 = 772;
const UP: u32 = 1;

/// The kernel's word on an order: zero, or an error's number, negative.
pub(super) fn said(payload: &[u8]) -> io::Result<()> {
    let number = payload.get(..4).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
    match number {
        Some(0) => Ok(()),
        Some(number) => Err(io::Error::from_raw_os_error(number.saturating_neg())),
        None => Err(io::Error::other("the kernel's answer was cut")),
    }
}

/// A link without its addresses; nothing when it is no whole message.
pub(super) fn link(payload: &[u8]) -> Option<Link> {
    let header = payload.get(..LINK_HEADER)?;
    let number = |at: usize| Some(u32::from_ne_bytes(header.get(at..at + 4)?.try_into().ok()?));
    let attributes = attributes(&payload[LINK_HEADER..]);
    let get = |kind: u16| attributes.get(&kind).copied();
    let integer = |kind| Some(u32::from_ne_bytes(get(kind)?.try_into().ok()?));
    Some(Link {
        index: number(4)?,
        name: get(3).map(text)?,
        kind: match get(18).and_then(|info| self::attributes(info).get(&1).copied()).map(text).as_deref() {
            Some("bridge") => Kind::Bridge,
            Some("veth") => Kind::Veth,
            Some("tun") => Kind::Tap,
            Some(other) => Kind::Other(other.to_owned()),
            None if header.get(2..4) == Some(&LOOPBACK.to_ne_bytes()) => Kind::Loopback,
            None => Kind::Other(String::new()),
        },
        alias: get(20).map(text),
        mtu: integer(4).unwrap_or_default(),
        mac: get(1).and_then(|bytes| bytes.try_into().ok()),
        up: number(8)? & UP != 0,
        master: integer(10).filter(|index| *index != 0),
        addresses: Vec::new(),
    })
}

/// Attributes by their numbers (`IFLA_…`, linux/if_link.h), up to the first that is damaged.
fn attributes(bytes: &[u8]) -> BTreeMap<u16, &[u8]> {
    let mut all = BTreeMap::new();
    let mut rest = bytes;
    while let Some(Ok(one)) = NlasIterator::new(rest).next() {
        let length = usize::from(one.length());
        if let Some(value) = rest.get(4..length) {
            all.insert(one.kind(), value);
        }
        rest = rest.get(length.max(4).next_multiple_of(4)..).unwrap_or_default();
    }
    all
}

/// Up to the zero byte that ends it.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = ((value.len() + 4) as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn message() -> Vec<u8> {
        let mut bytes = vec![0, 0, 1, 0];
        bytes.extend(7_u32.to_ne_bytes());
        bytes.extend(0x1043_u32.to_ne_bytes());
        bytes.extend(0_u32.to_ne_bytes());
        bytes.extend(attribute(3, b"tap-1\0"));
        bytes.extend(attribute(4, &1450_u32.to_ne_bytes()));
        bytes.extend(attribute(1, &[2, 0, 0, 0, 0, 9]));
        bytes.extend(attribute(10, &3_u32.to_ne_bytes()));
        bytes.extend(attribute(20, b"port-1\0"));
        bytes.extend(attribute(18, &attribute(1, b"tun\0")));
        bytes
    }

    #[test]
    fn a_link_is_read_as_the_kernel_writes_it() {
        let expected = Link {
            index: 7,
            name: "tap-1".into(),
            kind: Kind::Tap,
            alias: Some("port-1".into()),
            mtu: 1450,
            mac: Some([2, 0, 0, 0, 0, 9]),
            up: true,
            master: Some(3),
            addresses: Vec::new(),
        };
        assert_eq!(link(&message()), Some(expected));
    }

    #[test]
    fn a_message_that_is_cut_anywhere_is_read_without_harm() {
        let whole = message();
        for length in 0..whole.len() {
            let read = link(&whole[..length]);
            assert!(read.is_none_or(|link| link.index == 7), "cut at {length}");
        }
    }

    #[test]
    fn the_kernels_word_is_zero_or_an_error() {
        assert!(said(&0_i32.to_ne_bytes()).is_ok());
        assert_eq!(said(&(-19_i32).to_ne_bytes()).unwrap_err().raw_os_error(), Some(19));
        assert!(said(&[0]).is_err());
    }
}
