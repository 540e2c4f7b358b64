//! Did a command end as expected, and which numbers does its output name?

use super::Attempt;
use crds::exec::ExecResult;
use crds::testrun::{Exec, ExecMetric, Metric};

/// Judges a command that has ended.
#[must_use]
pub fn judge(exec: &Exec, result: &ExecResult) -> Attempt {
    let objection = objection(exec, result);
    let (metrics, unreadable) = metrics(&exec.metrics, &result.stdout);
    let end = match objection.or(unreadable) {
        Some(why) => Attempt::failed(why),
        None => Attempt::passed(format!("{} ended as expected", program(exec))),
    };
    Attempt { output: transcript(result), metrics, ..end }
}

fn objection(exec: &Exec, result: &ExecResult) -> Option<String> {
    let expect = &exec.expect;
    let Some(code) = result.exit_code else {
        return Some(format!("{} has no exit code", program(exec)));
    };
    if code != expect.exit_code {
        return Some(format!("{} exited with {code}, not {}{}", program(exec), expect.exit_code, last_words(result)));
    }
    if let Some(wanted) = &expect.stdout_contains
        && !result.stdout.contains(wanted.as_str())
    {
        return Some(format!("the output of {} does not contain {wanted:?}{}", program(exec), last_words(result)));
    }
    if let Some(wanted) = &expect.stdout_equals {
        let whole = result.stdout_bytes <= result.stdout.len() as u64;
        if !whole || result.stdout.trim() != wanted.trim() {
            return Some(format!("the output of {} is not {wanted:?}{}", program(exec), last_words(result)));
        }
    }
    None
}

/// The numbers found, and a complaint about the first that was not.
fn metrics(wanted: &[ExecMetric], stdout: &str) -> (Vec<Metric>, Option<String>) {
    let mut found = Vec::new();
    let mut complaint = None;
    for metric in wanted {
        let key = metric.key.as_deref().unwrap_or(&metric.name);
        match number_after(stdout, key) {
            Some(value) => {
                found.push(Metric { name: metric.name.clone(), value, unit: metric.unit.clone(), step: String::new() })
            }
            None => {
                complaint.get_or_insert_with(|| format!("the output names no number {key:?}"));
            }
        }
    }
    (found, complaint)
}

/// The last number that follows the word `key` and an optional `=` or `:`.
fn number_after(text: &str, key: &str) -> Option<f64> {
    text.match_indices(key)
        .filter(|(at, _)| !text[..*at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_'))
        .filter_map(|(at, _)| {
            let rest = text[at + key.len()..].trim_start_matches([' ', '\t']);
            let rest = rest.strip_prefix(['=', ':']).unwrap_or_else(|| {
                // Without a sign there must be a blank, or `p9` would be found in `p99`.
                if text[at + key.len()..].starts_with([' ', '\t']) { rest } else { "" }
            });
            let word: String = rest
                .trim_start_matches([' ', '\t'])
                .chars()
                .take_while(|c| c.is_ascii_digit() || matches!(c, '.' | '-' | '+' | 'e' | 'E'))
                .collect();
            word.parse::<f64>().ok().filter(|n| n.is_finite())
        })
        .last()
}

/// The name of the program, for messages.
#[must_use]
pub fn program(exec: &Exec) -> String {
    let name = exec.command.first().map_or("", String::as_str);
    format!("{name} on {}", exec.node)
}

fn last_words(result: &ExecResult) -> String {
    let stream = if result.stderr.trim().is_empty() { &result.stdout } else { &result.stderr };
    match stream.trim().lines().next_back() {
        None => String::new(),
        Some(line) => format!(": {}", line.chars().take(300).collect::<String>()),
    }
}

/// Both streams in one text, with a note of what is not in it.
#[must_use]
pub fn transcript(result: &ExecResult) -> String {
    let mut text = String::new();
    for (name, stream, bytes) in
        [("", &result.stdout, result.stdout_bytes), ("--- standard error ---\n", &result.stderr, result.stderr_bytes)]
    {
        if stream.is_empty() {
            continue;
        }
        text.push_str(name);
        let missing = bytes.saturating_sub(stream.len() as u64);
        if missing > 0 {
            text.push_str(&format!("[the first {missing} bytes were not kept]\n"));
        }
        text.push_str(stream);
        if !text.ends_with('\n') {
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crds::exec::ExecState;
    use crds::testrun::StepPhase;
    use serde_json::json;

    fn result(code: Option<i32>, stdout: &str) -> ExecResult {
        ExecResult {
            state: ExecState::Exited,
            exit_code: code,
            stdout: stdout.to_owned(),
            stderr: String::new(),
            stdout_bytes: stdout.len() as u64,
            stderr_bytes: 0,
            boot_id: None,
        }
    }

    fn exec(extra: serde_json::Value) -> Exec {
        let mut value = json!({"node": "n", "command": ["sh"]});
        value.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn an_exit_without_a_code_or_with_another_does_not_pass() {
        let plain = exec(json!({}));
        assert_eq!(judge(&plain, &result(Some(0), "")).phase, StepPhase::Passed);
        assert_eq!(judge(&plain, &result(Some(1), "")).phase, StepPhase::Failed);
        assert_eq!(judge(&plain, &result(None, "")).phase, StepPhase::Failed);
        let no = exec(json!({"expect": {"exitCode": 3}}));
        assert_eq!(judge(&no, &result(Some(3), "")).phase, StepPhase::Passed);
        assert_eq!(judge(&no, &result(Some(0), "")).phase, StepPhase::Failed);
    }

    #[test]
    fn output_is_compared_whole_or_not_at_all() {
        let equal = exec(json!({"expect": {"stdoutEquals": "yes"}}));
        assert_eq!(judge(&equal, &result(Some(0), " yes\n")).phase, StepPhase::Passed);
        let mut cut = result(Some(0), "yes");
        cut.stdout_bytes = 300_000;
        let end = judge(&equal, &cut);
        assert_eq!(end.phase, StepPhase::Failed);
        assert!(end.output.starts_with("[the first 299997 bytes"));
        let holds = exec(json!({"expect": {"stdoutContains": "es"}}));
        assert_eq!(judge(&holds, &result(Some(0), "yes")).phase, StepPhase::Passed);
        assert_eq!(judge(&holds, &result(Some(0), "no")).phase, StepPhase::Failed);
    }

    #[test]
    fn numbers_are_read_behind_their_whole_word() {
        for (text, key, number) in [
            ("gap=2.5 seconds", "gap", Some(2.5)),
            ("gap: -3e2", "gap", Some(-300.0)),
            ("gap 7\ngap 8\n", "gap", Some(8.0)),
            ("mygap=1", "gap", None),
            ("gap", "gap", None),
            ("p99=4 p9=3", "p9", Some(3.0)),
            ("gap=NaN", "gap", None),
        ] {
            assert_eq!(number_after(text, key), number, "{text}");
        }
        let wanted = exec(json!({"metrics": [{"name": "gap", "unit": "seconds"}]}));
        assert_eq!(judge(&wanted, &result(Some(0), "")).phase, StepPhase::Failed);
        let end = judge(&wanted, &result(Some(0), "gap=1"));
        assert_eq!((end.phase, end.metrics.len()), (StepPhase::Passed, 1));
    }
}
