//! Networking verbs against the real kernel, in namespaces of the test's own. Needs root, and fails without.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod balancer;
mod dnsmasq;
mod firewall;
mod guard;
mod lab;
mod link;
mod netns;
mod overlay;
mod proxy;
mod routing;
mod tap;
