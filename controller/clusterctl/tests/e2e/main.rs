//! The whole product, through its binary: what a user types, what a user kills, and what is left behind.
//!
//! Tests named `vm_…` boot machines or build images; `.config/nextest.toml` lets one of them run at a time.

mod agent_failover;
mod auth;
mod capture;
mod conditions;
mod crash;
mod data;
mod drift;
mod history;
mod hosts;
mod install;
mod join;
mod kubectl;
mod machines;
mod metrics;
mod names;
mod node_door;
mod objects;
mod recipes;
mod red;
mod replicas;
mod routers;
mod services;
mod smoke;
mod trouble;
mod writes;
