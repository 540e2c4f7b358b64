//! dnsmasq
