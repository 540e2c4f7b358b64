//! Log lines of the long-running processes, on standard error: text on a terminal, else JSON lines.

use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Sets up logging for this process. `RUST_LOG` overrides the default level.
pub fn start() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        builder.init();
    } else {
        builder.json().flatten_event(true).init();
    }
}
