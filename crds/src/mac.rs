//! Hardware addresses, as Ports write them, and what IPv6 makes of them.

use std::net::Ipv6Addr;

/// Six hexadecimal bytes with colons.
#[must_use]
pub fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    (parts.next().is_none() && mac[0] & 1 == 0).then_some(mac)
}

/// The lower half of an address that a card makes for itself: modified EUI-64 (RFC 4291, appendix A).
#[must_use]
pub fn interface_id(mac: [u8; 6]) -> u64 {
    let [a, b, c, d, e, f] = mac;
    u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

/// The address by which a card is known on its own link.
#[must_use]
pub fn link_local(mac: [u8; 6]) -> Ipv6Addr {
    Ipv6Addr::from(0xfe80_u128 << 112 | u128::from(interface_id(mac)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_multicast_or_broken_mac_is_none() {
        assert_eq!(parse_mac("52:54:00:00:00:0a"), Some([0x52, 0x54, 0, 0, 0, 10]));
        for bad in ["", "53:54:00:00:00:01", "52:54:00:00:00", "52:54:00:00:00:01:02", "5g:54:00:00:00:01"] {
            assert_eq!(parse_mac(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_card_is_known_on_its_link_as_the_standard_says() {
        assert_eq!(link_local([0x52, 0x54, 0, 0x12, 0x34, 0x56]).to_string(), "fe80::5054:ff:fe12:3456");
    }
}
