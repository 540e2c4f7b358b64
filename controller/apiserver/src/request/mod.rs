//! What a request says, before anything is done about it: path, query, accepted forms, body.

pub mod accept;
pub mod body;
pub mod field_manager;
pub mod json;
pub mod path;
mod protobuf;
pub mod query;
