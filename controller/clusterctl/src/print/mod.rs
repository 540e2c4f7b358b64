//! What users see.

pub mod age;
pub mod colour;
pub mod progress;
pub mod table;

use std::process::ExitCode;

/// A way to end that has an exit code of its own.
#[derive(Debug, thiserror::Error)]
pub enum Ending {
    /// Time was up.
    #[error("{0}")]
    TimeUp(String),
    /// The command line asked for something that makes no sense.
    #[error("{0}")]
    Usage(String),
}

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
    ExitCode::from(code(error))
}

/// 2 for bad usage, 4 when time was up, 5 when the server could not be reached, else 1.
fn code(error: &anyhow::Error) -> u8 {
    let known = error.chain().find_map(|cause| {
        if let Some(ending) = cause.downcast_ref::<Ending>() {
            return Some(if matches!(ending, Ending::TimeUp(_)) { 4 } else { 2 });
        }
        let unreachable = |error: &kube::Error| matches!(error, kube::Error::Service(_) | kube::Error::HyperError(_));
        cause.downcast_ref::<kube::Error>().filter(|error| unreachable(error)).map(|_| 5)
    });
    known.unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_says_whose_fault_it_is() {
        let unreachable =
            anyhow::Error::new(kube::Error::Service("refused".into())).context("the server does not answer");
        assert_eq!(code(&unreachable), 5);
        assert_eq!(code(&anyhow::Error::new(Ending::TimeUp("late".to_owned())).context("waiting")), 4);
        assert_eq!(code(&anyhow::Error::new(Ending::Usage("what?".to_owned()))), 2);
        assert_eq!(code(&anyhow::anyhow!("no")), 1);
    }
}
