//! The judgement on one host: realises what is assigned to this host through `host`, and tells what it finds.
//!
//! Speaks to the API through `kube::Client` only. One reconciler a kind ([`virtual_machine`], [`network`], [`volume`],
//! [`image`], [`fault`]) on the common [`control_loop`]; [`registration`] keeps the Host object and its heartbeat, [`door`] lets
//! the API server's users into machines, and [`relay`] is the server's end of that.
//!
//! Machines outlive this process. Everything here can be killed at any moment and started again: what runs is adopted,
//! what was begun is finished, what is nobody's is removed.

pub mod agent;
pub mod dns;
pub mod door;
pub mod error;
pub mod fault;
pub mod image;
pub mod layout;
pub use crds::mac;
pub mod metrics;
pub mod names;
pub mod network;
pub mod node_door;
pub mod objects;
pub mod outside;
mod refusal;
pub mod registration;
pub mod relay;
pub mod running;
pub mod servers;
pub mod shelf;
pub mod sweep;
pub mod taps;
pub mod teardown;
pub mod tenure;
pub mod underlay;
pub mod user_ids;
pub mod virtual_machine;
pub mod volume;

pub use agent::{Agent, AgentOptions, Error};
pub use relay::Relay;
