//! Colour for the words that say how things stand: on a terminal only, and never against `NO_COLOR`.

use std::io::IsTerminal;
use std::sync::OnceLock;

const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const RED: &str = "\x1b[31m";
const PLAIN: &str = "\x1b[0m";

/// Whether standard output takes colour.
pub fn wanted() -> bool {
    static WANTED: OnceLock<bool> = OnceLock::new();
    *WANTED.get_or_init(|| {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        std::io::stdout().is_terminal() && !set("NO_COLOR") && !dumb
    })
}

/// The word in its colour: green is well, yellow is on its way, red needs a look. Other words stay plain.
pub fn state(word: &str) -> Option<String> {
    let colour = match word {
        "True" | "Ready" | "Running" | "Passed" | "Bound" | "Active" | "Complete" | "Available" | "Normal"
        | "Reverted" => GREEN,
        "False" | "Failed" | "Errored" | "TimedOut" | "NotReady" | "Lost" | "Warning" | "Error" => RED,
        "Pending" | "Building" | "Starting" | "Stopping" | "Booting" | "Waiting" | "Unknown" | "Terminating"
        | "Paused" | "Injecting" | "Injected" => YELLOW,
        _ => return None,
    };
    Some(format!("{colour}{word}{PLAIN}"))
}

/// A line of a unified diff in its colour.
pub fn difference(line: &str) -> String {
    match line.as_bytes().first() {
        Some(b'+') => format!("{GREEN}{line}{PLAIN}"),
        Some(b'-') => format!("{RED}{line}{PLAIN}"),
        Some(b'@') => format!("\x1b[36m{line}{PLAIN}"),
        _ => line.to_owned(),
    }
}

/// Whether the words below this heading say how things stand.
pub fn is_state(heading: &str) -> bool {
    matches!(heading, "READY" | "PHASE" | "STATUS" | "STATE" | "TYPE")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_words_of_state_are_coloured() {
        assert_eq!(state("Ready").as_deref(), Some("\x1b[32mReady\x1b[0m"));
        assert_eq!(state("web"), None);
        assert!(is_state("PHASE") && !is_state("NAME"));
    }
}
