//! The Kubernetes protocol over the store, driven by CustomResourceDefinition documents.
//!
//! No PhotonCloud kind is known here: a kind is a CRD document and nothing else, so users' own CRDs are served exactly
//! as ours are. `schema` holds what can be decided from documents alone (no I/O, no tokio); the rest serves it.

pub mod schema;
