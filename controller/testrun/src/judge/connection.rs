//! Which command tries a connection, and what its end says.
//!
//! busybox is what every guest has. Its exit code 1 means "no connection" and also "wrong usage", so the complaint is read
//! too: a probe that must *not* get through may never pass because the program was not able to try.

use super::Attempt;
use crds::exec::ExecResult;
use crds::testrun::Probe;
use std::net::IpAddr;

/// Most failed pairs that a message names.
const MOST_NAMED: usize = 8;

/// One try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Machine that tries.
    pub from: String,
    /// Name of what it tries to reach.
    pub to: String,
    /// Address of that.
    pub address: IpAddr,
}

/// What came of a try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The other side answered.
    Yes,
    /// It did not, and what the program said.
    No(String),
    /// The program was not able to try.
    Unknown(String),
}

/// The command that tries a connection to `address`.
#[must_use]
pub fn command(probe: &Probe, address: IpAddr) -> Vec<String> {
    let line = if let Some(tcp) = &probe.tcp {
        format!("timeout 10 /bin/busybox nc -w 5 {address} {} -e /bin/true", tcp.port)
    } else if let Some(http) = &probe.http {
        let (port, path) = (http.port, &http.path);
        format!("timeout 20 /bin/busybox wget -q -O /dev/null http://{address}:{port}{path}")
    } else {
        let count = probe.icmp.as_ref().map_or(1, |icmp| icmp.count);
        format!("ping -q -c {count} -W 5 {address}")
    };
    let words = line.split(' ').map(str::to_owned);
    std::iter::once("/bin/busybox".to_owned()).chain(words).collect()
}

/// Reads a command's end.
#[must_use]
pub fn reach(result: &ExecResult) -> Reach {
    let said = result.stderr.trim();
    let last = said.lines().next_back().unwrap_or("no answer").to_owned();
    let unable = ["Usage:", "invalid option", "applet not found", "ermission denied"];
    match result.exit_code {
        Some(0) => Reach::Yes,
        _ if unable.iter().any(|words| said.contains(words)) => Reach::Unknown(last),
        // 124 and 143 are `timeout`'s.
        Some(1 | 124 | 143) => Reach::No(last),
        Some(code) => Reach::Unknown(format!("exit code {code}: {last}")),
        None => Reach::Unknown("no exit code".to_owned()),
    }
}

/// Judges all tries together.
#[must_use]
pub fn judge(probe: &Probe, ends: &[(&Pair, Reach)]) -> Attempt {
    let unable = name(ends, |reach| match reach {
        Reach::Unknown(why) => Some(why.as_str()),
        _ => None,
    });
    let wrong = name(ends, |reach| match (reach, probe.reachable) {
        (Reach::No(why), true) => Some(why.as_str()),
        (Reach::Yes, false) => Some("was reached"),
        _ => None,
    });
    let all = ends.len();
    let word = if probe.reachable { "reachable" } else { "unreachable" };
    if !wrong.is_empty() {
        Attempt::failed(listing(&wrong, all, &format!("are not {word}")))
    } else if !unable.is_empty() {
        Attempt::errored(listing(&unable, all, "could not be tried"))
    } else if ends.is_empty() {
        Attempt::errored("nothing was tried")
    } else {
        Attempt::passed(format!("all {all} pairs are {word}"))
    }
}

fn name<'a>(ends: &'a [(&Pair, Reach)], pick: impl Fn(&'a Reach) -> Option<&'a str>) -> Vec<String> {
    let picked = ends.iter().filter_map(|(pair, reach)| {
        pick(reach).map(|why| format!("{} → {} ({}): {why}", pair.from, pair.to, pair.address))
    });
    picked.collect()
}

fn listing(named: &[String], all: usize, what: &str) -> String {
    let shown = &named[..named.len().min(MOST_NAMED)];
    let more = match named.len() - shown.len() {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    format!("{} of {all} pairs {what}: {}{more}", named.len(), shown.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crds::exec::ExecState;
    use crds::testrun::StepPhase;
    use serde_json::json;

    fn result(code: i32, stderr: &str) -> ExecResult {
        ExecResult {
            state: ExecState::Exited,
            exit_code: Some(code),
            stdout: String::new(),
            stderr: stderr.to_owned(),
            stdout_bytes: 0,
            stderr_bytes: stderr.len() as u64,
            boot_id: None,
        }
    }

    fn probe(value: serde_json::Value) -> Probe {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_program_that_could_not_try_proves_nothing() {
        let pair = Pair { from: "a".to_owned(), to: "b".to_owned(), address: "10.0.0.2".parse().unwrap() };
        for (reachable, code, said, phase) in [
            (true, 0, "", StepPhase::Passed),
            (true, 1, "", StepPhase::Failed),
            (true, 127, "nc: applet not found", StepPhase::Errored),
            (false, 0, "", StepPhase::Failed),
            (false, 1, "can't connect", StepPhase::Passed),
            (false, 143, "", StepPhase::Passed),
            (false, 1, "Usage: nc", StepPhase::Errored),
            (false, 1, "ping: permission denied (are you root?)", StepPhase::Errored),
            (false, 137, "", StepPhase::Errored),
        ] {
            let probe = probe(json!({"tcp": {"port": 1}, "reachable": reachable}));
            let end = judge(&probe, &[(&pair, reach(&result(code, said)))]);
            assert_eq!(end.phase, phase, "{reachable} {code} {said}");
            if phase == StepPhase::Failed {
                assert!(end.message.contains("a → b (10.0.0.2)"), "{}", end.message);
            }
        }
        assert_eq!(judge(&probe(json!({})), &[]).phase, StepPhase::Errored);
    }

    #[test]
    fn commands_are_what_busybox_takes() {
        let to = "10.0.0.2".parse().unwrap();
        let line = |value| command(&probe(value), to).join(" ");
        assert_eq!(
            line(json!({"tcp": {"port": 80}})),
            "/bin/busybox timeout 10 /bin/busybox nc -w 5 10.0.0.2 80 -e /bin/true"
        );
        assert_eq!(
            line(json!({"http": {"port": 80}})),
            "/bin/busybox timeout 20 /bin/busybox wget -q -O /dev/null http://10.0.0.2:80/"
        );
        assert_eq!(line(json!({"icmp": {"count": 2}})), "/bin/busybox ping -q -c 2 -W 5 10.0.0.2");
    }
}
