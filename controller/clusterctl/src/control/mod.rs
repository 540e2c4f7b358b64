//! The processes of an instance: the server, the agents, and `up`, which keeps both alive.

pub mod access;
pub mod agent;
pub mod clean;
pub mod etcd;
pub mod join;
pub mod logging;
pub mod name_server;
mod ports;
pub mod ready;
pub mod relay;
pub mod server;
pub mod signals;
pub mod up;

#[cfg(test)]
mod words;
