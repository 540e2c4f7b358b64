//! The Kubernetes protocol over the store, driven by CustomResourceDefinition documents.
//!
//! No PhotonCloud kind is known here: a kind is a CRD document and nothing else, so users' own CRDs are served exactly
//! as ours are. `schema` holds what can be decided from documents alone (no I/O, no tokio); the rest serves it.
//!
//! ```text
//!  TLS (serve) ─┐ Identity                                   ┌ write/  prune → default → validate → CAS
//!               ├► front ► Router ► request/ ► dispatch ► access/
//!  client() ────┘                                            └ read/   get, list, watch: bytes of the cache
//!                                        tasks/  namespaces, garbage, CRDs' instances, old events
//! ```
//!
//! Whoever mounts the router says who is calling by the request extension [`Identity`]; without it a token has to say it
//! (`callers`), or every object is refused with 401. What the caller may do is decided in `access` before anything is read.

mod access;
mod answer;
mod audit;
mod callers;
mod client;
mod connect;
mod dispatch;
mod documents;
mod entries;
mod error;
mod fair;
mod front;
mod health;
mod identity;
mod leader;
mod leftover;
mod metrics;
mod object;
mod read;
mod registry;
mod request;
pub mod schema;
mod serve;
mod server;
mod special;
mod storage;
mod stored;
mod tasks;
mod text;
mod write;

pub use access::{Confined, Confinement, Reads, Step, Tie};
pub use audit::{AuditOptions, Level};
pub use callers::CallerKind;
pub use connect::{ConnectService, ConnectTarget};
pub use error::Error;
pub use fair::Limits;
pub use identity::Identity;
pub use leader::{Election, Reign};
pub use server::{ApiServer, Options};
pub use storage::SEALED;
