//! The shell programs under the host's own shell: the same text as in the guest, only in another directory.

use std::io::Write;
use std::path::Path;
use std::process::{Command as Process, Stdio};
use std::time::{Duration, Instant};

use super::*;

const LONG: Duration = Duration::from_secs(60);

fn command(argv: &[&str]) -> Command {
    Command { argv: argv.iter().map(|word| (*word).to_owned()).collect(), ..Command::default() }
}

fn shell(args: Vec<String>, input: &[u8]) -> Vec<u8> {
    let mut process = Process::new("/bin/sh")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The program does not read it when there is nothing to start.
    let _ = process.stdin.take().unwrap().write_all(input);
    let output = process.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {stderr}", output.status);
    assert_eq!(stderr, "", "nothing of ours is printed by the way");
    output.stdout
}

fn ask(dir: &Path, name: &str, start: Option<&Command>, wait: Duration) -> Report {
    let input = start.and_then(|command| command.stdin.clone()).unwrap_or_default();
    let answer = shell(script::ask(dir.to_str().unwrap(), name, start, wait, 4096), &input);
    script::parse(name, &answer).unwrap()
}

fn forget(dir: &Path, name: &str) {
    shell(script::forget(dir.to_str().unwrap(), name), b"");
}

fn until(mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < end, "the condition does not come true");
        std::thread::yield_now();
    }
}

#[test]
fn a_command_s_outputs_and_status_come_back_whole() {
    let dir = tempfile::tempdir().unwrap();
    let script = "cat; printf out; printf err >&2; exit 7";
    let wanted = Command { stdin: Some(b"in ".to_vec()), ..command(&["sh", "-c", script]) };
    let report = ask(dir.path(), "a", Some(&wanted), LONG);
    assert_eq!(report.state, State::Exited { code: 7 });
    assert_eq!((report.stdout.bytes.as_slice(), report.stdout.size), (b"in out".as_slice(), 6));
    assert_eq!((report.stderr.bytes.as_slice(), report.truncated), (b"err".as_slice(), false));
    assert_eq!(ask(dir.path(), "a", None, Duration::ZERO), report, "it can be asked again");
}

#[test]
fn nothing_is_special_in_an_argument_or_a_variable() {
    let dir = tempfile::tempdir().unwrap();
    let odd = "$(touch /tmp/x) `id` '\" \\ * \n; exit 1 # -- é";
    let mut wanted = command(&["sh", "-c", "printf %s \"$1|$ODD|$#\"", "x", odd, "", "-n"]);
    wanted.env = vec![("ODD".into(), odd.into())];
    let report = ask(dir.path(), "odd", Some(&wanted), LONG);
    assert_eq!(String::from_utf8(report.stdout.bytes).unwrap(), format!("{odd}|{odd}|3"));
}

#[test]
fn one_name_is_started_once_however_many_ask() {
    let dir = tempfile::tempdir().unwrap();
    let mark = dir.path().join("mark");
    let script = format!("echo x >> {}", mark.display());
    let wanted = command(&["sh", "-c", &script]);
    let states: Vec<State> = std::thread::scope(|scope| {
        let asked: Vec<_> =
            (0..8).map(|_| scope.spawn(|| ask(dir.path(), "once", Some(&wanted), LONG).state)).collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    assert_eq!(states, [State::Exited { code: 0 }; 8]);
    assert_eq!(std::fs::read_to_string(mark).unwrap(), "x\n");
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "no half-made directory stays: {left:?}");
}

#[test]
fn a_running_command_is_found_waited_for_and_ended() {
    let dir = tempfile::tempdir().unwrap();
    let go = dir.path().join("go");
    let script = format!("echo here; until [ -e {} ]; do sleep 0.1; done; exit 3", go.display());
    let wanted = command(&["sh", "-c", &script]);
    assert_eq!(ask(dir.path(), "w", Some(&wanted), Duration::ZERO).state, State::Running);
    until(|| ask(dir.path(), "w", None, Duration::ZERO).stdout.bytes == b"here\n");
    assert_eq!(ask(dir.path(), "w", None, Duration::from_secs(1)).state, State::Running, "the wait has an end");
    let waited = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| ask(dir.path(), "w", None, LONG));
        std::fs::write(&go, "").unwrap();
        waiting.join().unwrap()
    });
    assert_eq!(waited.state, State::Exited { code: 3 });
    forget(dir.path(), "w");
    assert_eq!(ask(dir.path(), "w", None, LONG).state, State::Unknown);
}

#[test]
fn forgetting_ends_what_still_runs() {
    let dir = tempfile::tempdir().unwrap();
    ask(dir.path(), "f", Some(&command(&["sleep", "1000"])), Duration::ZERO);
    let pid_file = dir.path().join("f/pid");
    until(|| std::fs::read_to_string(&pid_file).is_ok_and(|pid| pid.ends_with('\n')));
    let pid: i32 = std::fs::read_to_string(pid_file).unwrap().trim().parse().unwrap();
    let runner = process::ProcessId::of(pid).unwrap();
    forget(dir.path(), "f");
    until(|| !runner.is_alive());
    forget(dir.path(), "f");
}

#[test]
fn what_ended_long_ago_is_forgotten_at_the_next_start_and_nothing_else_is() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["old", "fresh"] {
        ask(dir.path(), name, Some(&command(&["true"])), LONG);
    }
    ask(dir.path(), "long", Some(&command(&["sleep", "1000"])), Duration::ZERO);
    for file in ["old/status", "long/stdin"] {
        let touched = Process::new("touch").args(["-d", "2 hours ago"]).arg(dir.path().join(file)).status().unwrap();
        assert!(touched.success());
    }
    ask(dir.path(), "next", Some(&command(&["true"])), LONG);
    until(|| !dir.path().join("old").exists());
    assert_eq!(ask(dir.path(), "old", None, Duration::ZERO).state, State::Unknown);
    assert_eq!(ask(dir.path(), "fresh", None, Duration::ZERO).state, State::Exited { code: 0 });
    assert_eq!(ask(dir.path(), "long", None, Duration::ZERO).state, State::Running);
    forget(dir.path(), "long");
}

#[test]
fn a_killed_runner_is_lost_and_never_taken_for_success() {
    let dir = tempfile::tempdir().unwrap();
    ask(dir.path(), "k", Some(&command(&["sleep", "1000"])), Duration::ZERO);
    let pid_file = dir.path().join("k/pid");
    until(|| std::fs::read_to_string(&pid_file).is_ok_and(|pid| pid.ends_with('\n')));
    let pid = std::fs::read_to_string(pid_file).unwrap();
    let killed = Process::new("/bin/kill").args(["-KILL", "--", &format!("-{}", pid.trim())]).status().unwrap();
    assert!(killed.success());
    until(|| ask(dir.path(), "k", None, Duration::ZERO).state == State::Lost);
    let again = ask(dir.path(), "k", Some(&command(&["true"])), LONG);
    assert_eq!(again.state, State::Lost, "the name is taken, whatever became of it");
}

#[test]
fn what_is_left_running_in_the_background_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let report = ask(dir.path(), "b", Some(&command(&["sh", "-c", "sleep 30 & echo started"])), LONG);
    assert_eq!(report.state, State::Exited { code: 0 });
    assert_eq!(report.stdout.bytes, b"started\n");
    Process::new("/bin/sh").args(["-c", "kill -s KILL -- -$(cat \"$1/b/pid\")", "x"]).arg(dir.path()).status().unwrap();
}

#[test]
fn too_much_output_is_cut_and_said_to_be() {
    let dir = tempfile::tempdir().unwrap();
    let report =
        ask(dir.path(), "big", Some(&command(&["sh", "-c", "head -c 20000000 /dev/zero; echo end >&2"])), LONG);
    assert_eq!(report.state, State::Exited { code: 0 });
    assert!(report.truncated && report.stdout.size < 17 << 20, "{} bytes", report.stdout.size);
    assert_eq!((report.stdout.bytes.len(), report.stderr.bytes.as_slice()), (4096, b"end\n".as_slice()));
}

#[test]
fn an_output_is_read_from_any_offset() {
    let dir = tempfile::tempdir().unwrap();
    ask(dir.path(), "r", Some(&command(&["printf", "0123456789"])), LONG);
    let read = |offset, length| shell(script::read(dir.path().to_str().unwrap(), "r", "stdout", offset, length), b"");
    assert_eq!(read(0, 3), b"012");
    assert_eq!(read(8, 100), b"89");
    assert_eq!(read(10, 100), b"");
}

#[test]
fn a_missing_program_is_an_exit_status() {
    let dir = tempfile::tempdir().unwrap();
    let report = ask(dir.path(), "m", Some(&command(&["no-such-program"])), LONG);
    assert_eq!(report.state, State::Exited { code: 127 });
    assert!(String::from_utf8_lossy(&report.stderr.bytes).contains("no-such-program"));
}

#[test]
fn what_the_shell_programs_could_misread_is_refused() {
    for name in ["", ".hidden", "a/b", "..", "a b", "a\nb"] {
        assert!(check_name(name).is_err(), "{name:?}");
    }
    check_name("smoke-7f3a.step_2-1").unwrap();
    for argv in [&[][..], &["-x"], &["A=b"], &["a", "b\0"]] {
        assert!(command(argv).check().is_err(), "{argv:?}");
    }
    let odd = Command { env: vec![("A-B".into(), String::new())], ..command(&["true"]) };
    assert!(odd.check().is_err());
    for answer in [&b""[..], b"exited", b"exited 0 1 0 1 0 0\n", b"gone 0 0 0 0 0 0\n", b"exited x 0 0 0 0 0\n"] {
        assert!(script::parse("x", answer).is_err());
    }
}
