//! Hardware addresses, as Ports write them.

/// Six hexadecimal bytes with colons.
pub fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    (parts.next().is_none() && mac[0] & 1 == 0).then_some(mac)
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
}
