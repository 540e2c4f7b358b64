//! The store against real etcd: one per test, on loopback, gone with the test.
//!
//! etcd is found as the product finds it: `CLUSTERCTL_ETCD`, `PATH`, `CLUSTERCTL_TOOLS`.

mod cas;
mod child;
mod disruption;
mod keeping;
mod lab;
mod reads;
mod sealing;
mod silence;
mod terms;
mod watches;
mod wire;
