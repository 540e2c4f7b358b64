//! What users see.

pub mod progress;
pub mod table;

use std::process::ExitCode;

/// Prints an error with its causes on one line each and gives the exit code that goes with it.
pub fn failure(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error}");
    let mut last = error.to_string();
    for cause in error.chain().skip(1) {
        let text = cause.to_string();
        if !last.contains(&text) {
            eprintln!("  because: {text}");
        }
        last = text;
    }
    ExitCode::FAILURE
}
