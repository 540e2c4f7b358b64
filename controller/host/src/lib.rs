//! The hands: what one host can do to its kernel, its processes and its files.
//!
//! Nothing here knows a Kubernetes kind, the API or the store. Every verb is idempotent: `ensure_*` may be called again
//! after a crash at any point, `observe_*` only reads. What a verb makes is tagged with its owner, so that a later run
//! can tell ours from everybody else's.

mod access;
pub mod balancer;
pub mod blockdev;
pub mod capture;
pub mod conntrack;
pub mod dnsmasq;
pub mod firewall;
pub mod guard;
pub mod image;
pub mod link;
pub mod nameserver;
pub mod netns;
pub mod nft;
pub mod outside;
pub mod proxy;
pub mod qemu;
pub mod tap;
