//! Which command tries a connection, and what its end says.
//!
//! busybox is what every guest has. Its exit code 1 means "no connection" and also "wrong usage", so the complaint is read
//! too: a probe that must *not* get through may never pass because the program was not able to try.

use super::Attempt;
use crds::exec::ExecResult;
use crds::testrun::Probe;
use std::net::IpAddr;

pub use reachability::probe::End as Reach;

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

/// The command that tries every address at the same time, from one machine.
///
/// One command a machine, not one a pair: starting a program in an emulated guest costs more than the try itself. Each
/// try ends as a line `ADDRESS CODE COMPLAINT`. Port and path are arguments, so that no text of a user is read as script.
#[must_use]
pub fn command(probe: &Probe, addresses: &[IpAddr]) -> Vec<String> {
    let (one, port, path) = if let Some(tcp) = &probe.tcp {
        (r#"timeout 10 /bin/busybox nc -w 5 "$to" "$port" -e /bin/true"#.to_owned(), tcp.port, "")
    } else if let Some(http) = &probe.http {
        (
            r#"timeout 20 /bin/busybox wget -q -O /dev/null "http://$to:$port$path""#.to_owned(),
            http.port,
            http.path.as_str(),
        )
    } else {
        let count = probe.icmp.as_ref().map_or(1, |icmp| icmp.count);
        (format!(r#"ping -q -c {count} -W 5 "$to""#), 0, "")
    };
    let script = format!(
        r#"port=$1 path=$2; shift 2
for to; do (
  said=$(/bin/busybox {one} 2>&1 >/dev/null); code=$?
  printf '%s %s %.40s\n' "$to" "$code" "$(echo "$said" | /bin/busybox tail -n 1)"
) & done; wait"#
    );
    let words = ["/bin/busybox", "sh", "-c", &script, "probe", &port.to_string(), path].map(str::to_owned);
    words.into_iter().chain(addresses.iter().map(IpAddr::to_string)).collect()
}

/// Reads the line of one address out of a command's end.
#[must_use]
pub fn reach(result: &ExecResult, address: IpAddr) -> Reach {
    let line = result.stdout.lines().find_map(|line| line.strip_prefix(&format!("{address} ")));
    let Some((code, said)) = line.map(|rest| rest.split_once(' ').unwrap_or((rest, ""))) else {
        let said = result.stderr.lines().next_back().unwrap_or("the command left no result");
        return Reach::Unknown(said.to_owned());
    };
    reachability::probe::judge(code, said)
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
        Attempt::failed(listing(&wrong, MOST_NAMED, all, &format!("pairs are not {word}")))
    } else if !unable.is_empty() {
        Attempt::errored(listing(&unable, MOST_NAMED, all, "pairs could not be tried"))
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

/// How many of all are wrong and how, with the first of them.
pub(super) fn listing(named: &[String], most: usize, all: usize, what: &str) -> String {
    let shown = &named[..named.len().min(most)];
    let more = match named.len() - shown.len() {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    format!("{} of {all} {what}: {}{more}", named.len(), shown.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crds::exec::ExecState;
    use crds::testrun::StepPhase;
    use serde_json::json;

    fn result(code: i32, said: &str) -> ExecResult {
        let stdout = format!("10.0.0.22 0 \n10.0.0.2 {code} {said}\n");
        ExecResult {
            state: ExecState::Exited,
            exit_code: Some(0),
            stdout_bytes: stdout.len() as u64,
            stdout,
            stderr: String::new(),
            stderr_bytes: 0,
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
            let end = judge(&probe, &[(&pair, reach(&result(code, said), pair.address))]);
            assert_eq!(end.phase, phase, "{reachable} {code} {said}");
            if phase == StepPhase::Failed {
                assert!(end.message.contains("a → b (10.0.0.2)"), "{}", end.message);
            }
        }
        assert_eq!(judge(&probe(json!({})), &[]).phase, StepPhase::Errored);
    }

    #[test]
    fn an_address_without_a_line_proves_nothing() {
        let missing = "10.0.0.3".parse().unwrap();
        assert_eq!(reach(&result(0, ""), missing), Reach::Unknown("the command left no result".to_owned()));
    }

    /// The script is run by a real shell, with a stand-in for busybox's programs that fails for one address.
    #[test]
    fn every_address_leaves_a_line_whatever_the_path_says() {
        let probe = probe(json!({"http": {"port": 80, "path": "/$(touch${IFS}x);'"}}));
        let to: Vec<IpAddr> = ["10.0.0.1", "10.0.0.2"].map(|a| a.parse().unwrap()).to_vec();
        let mut words = command(&probe, &to);
        let stand_in = "busybox() { [ $1 = tail ] && tail -n 1 && return; case \"$*\" in *10.0.0.2*) echo refused >&2; return 1;; esac; }; ";
        words[3] = format!(
            "{stand_in}{}",
            words[3].replace("/bin/busybox {one}", "busybox").replace("/bin/busybox", "busybox")
        );
        let output = std::process::Command::new("/bin/sh").args(&words[2..]).output().unwrap();
        let mut answer = result(0, "");
        answer.stdout = String::from_utf8(output.stdout).unwrap();
        assert_eq!(reach(&answer, to[0]), Reach::Yes, "{answer:?}");
        assert_eq!(reach(&answer, to[1]), Reach::No("refused".to_owned()), "{answer:?}");
        assert_eq!(words[6], "/$(touch${IFS}x);'");
    }
}
