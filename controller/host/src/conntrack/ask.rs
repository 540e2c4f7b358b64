//! Making a client speak whose connection is forgotten, so that it learns of it.
//!
//! It is sent a SYN under the service's address. Whoever has the connection answers such a one with what it has last received (RFC 5961
//! §4.2), whatever its numbers are; that answer is the client's next packet, and it is refused. Whoever has it no longer refuses the SYN.
//!
//! The question must not become a conversation of its own, whose answers would come to ourselves: the balancer's table leaves what bears
//! the mark of checks, and comes from another address than theirs, untracked. By that mark it passes the client's groups.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

use nix::sys::socket::{setsockopt, sockopt};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, ipproto, sendto, socket_with};

use super::Flow;
use crate::firewall::CHECK_MARK;

/// TCP by its number (IANA, "Assigned Internet Protocol Numbers").
const TCP: u8 = 6;
/// Bytes of an IPv4 header without options, and of a TCP header without options.
const HEADER: usize = 20;
/// The control bit SYN (RFC 9293 §3.1).
const SYN: u8 = 2;

/// Asks the clients of those flows that are TCP, from inside their namespace.
///
/// # Errors
/// The first one of the kernel; all others are asked all the same.
pub(super) fn clients_of(flows: &[Flow]) -> io::Result<()> {
    let mut flows = flows.iter().filter(|flow| flow.protocol == TCP).peekable();
    if flows.peek().is_none() {
        return Ok(());
    }
    // It receives nothing, and what is sent has a header of our own: the service's address may have gone from here.
    let socket = socket_with(AddressFamily::INET, SocketType::RAW, SocketFlags::CLOEXEC, Some(ipproto::RAW))?;
    setsockopt(&socket, sockopt::Mark, &CHECK_MARK)?;
    let mut asked = Ok(());
    for flow in flows {
        // Of a packet with a header of its own the address counts alone.
        let to = SocketAddrV4::new(flow.client, 0);
        let sent = sendto(&socket, &packet(flow), SendFlags::empty(), &to);
        asked = asked.and(sent.map(drop));
    }
    Ok(asked?)
}

/// A SYN from the service to the client. The kernel fills in the IPv4 header's length, number and checksum (raw(7)).
fn packet(flow: &Flow) -> [u8; 2 * HEADER] {
    let mut packet = [0; 2 * HEADER];
    let (network, segment) = packet.split_at_mut(HEADER);
    // Version 4 and five words of header; don't fragment; a lifetime of 64.
    (network[0], network[6], network[8], network[9]) = (0x45, 0x40, 64, TCP);
    network[12..16].copy_from_slice(&flow.address.octets());
    network[16..20].copy_from_slice(&flow.client.octets());
    segment[0..2].copy_from_slice(&flow.port.to_be_bytes());
    segment[2..4].copy_from_slice(&flow.client_port.to_be_bytes());
    // Five words of header.
    (segment[12], segment[13]) = (0x50, SYN);
    let checksum = checksum(flow.address, flow.client, segment);
    segment[16..18].copy_from_slice(&checksum.to_be_bytes());
    packet
}

/// A segment's checksum, with that of its pseudo header (RFC 9293 §3.1).
fn checksum(from: Ipv4Addr, to: Ipv4Addr, segment: &[u8]) -> u16 {
    let words =
        |bytes: &[u8]| bytes.chunks_exact(2).map(|two| u32::from(u16::from_be_bytes([two[0], two[1]]))).sum::<u32>();
    let length = u32::try_from(segment.len()).unwrap_or(u32::MAX);
    let mut sum = words(&from.octets()) + words(&to.octets()) + u32::from(TCP) + length + words(segment);
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_a_segment_whose_checksum_is_right() {
        let flow = Flow {
            protocol: TCP,
            client: [10, 1, 0, 11].into(),
            client_port: 40_000,
            address: [10, 1, 0, 50].into(),
            port: 80,
            backend: [10, 1, 0, 12].into(),
            target_port: 8080,
        };
        let packet = packet(&flow);
        let segment = &packet[HEADER..];
        assert_eq!((&packet[12..20], &segment[..4]), (&[10, 1, 0, 50, 10, 1, 0, 11][..], &[0, 80, 0x9c, 0x40][..]));
        // Whoever receives it adds all of it up, the checksum too.
        assert_eq!(checksum(flow.address, flow.client, segment), 0);
        assert_eq!(segment[16..18], [0xff, 0x13]);
    }
}
