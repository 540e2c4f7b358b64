//! The server over real etcd, asked as clients ask: raw requests, kube-rs, TLS.
//!
//! etcd is found as the product finds it: `CLUSTERCTL_ETCD`, `PATH`, `CLUSTERCTL_TOOLS`.

mod access;
mod applied;
mod confinement;
mod crds;
mod deletion;
mod front;
mod fuzz;
mod fuzz_certificates;
mod fuzz_definitions;
mod fuzz_tokens;
mod garbage;
mod hostile;
mod hostile_wire;
mod kube_rs;
mod kubectl;
mod kubectl_access;
mod kubectl_commands;
mod kubectl_oldest;
mod kubetui;
mod lab;
mod leaders;
mod lists;
mod namespaces;
mod python;
mod scale;
mod statuses;
mod tenants;
mod terminal_ui;
mod tls;
mod tokens;
mod upgrades;
mod versions;
mod watches;
mod writes;
