//! A network's range and its own address: what both the network and its Ports are judged by. Pure.

use crds::TenantNetwork;
use ipnet::Ipv4Net;
use std::net::Ipv4Addr;

/// The network's own address: the one asked for, or the first usable one.
///
/// # Errors
/// A sentence naming the field.
pub fn gateway(network: &TenantNetwork) -> Result<(Ipv4Addr, Ipv4Net), String> {
    let subnet: Ipv4Net =
        network.spec.subnet.parse().map_err(|_| format!("spec.subnet: {} is no IPv4 range", network.spec.subnet))?;
    if subnet.addr() != subnet.network() {
        return Err(format!("spec.subnet: {subnet} has host bits set; write {}", subnet.trunc()));
    }
    let Some(text) = &network.spec.gateway else {
        let first = subnet.hosts().next().ok_or_else(|| format!("spec.subnet: {subnet} has no usable address"))?;
        return Ok((first, subnet));
    };
    let address: Ipv4Addr = text.parse().map_err(|_| format!("spec.gateway: {text} is no IPv4 address"))?;
    if !subnet.contains(&address) || address == subnet.network() || address == subnet.broadcast() {
        return Err(format!("spec.gateway: {address} is not a usable address of {subnet}"));
    }
    Ok((address, subnet))
}
