//! Processes as the kernel sees them: they outlive their starter, end when told, and leave no zombie.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::fs;
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use process::{ProcessId, Spawn, find_owned};

const DEADLINE: Duration = Duration::from_secs(20);

fn shell(dir: &Path, script: &str) -> Spawn {
    let mut spawn = Spawn::new("/bin/sh", dir.join("log"));
    spawn.args = vec!["-c".into(), script.into()];
    spawn.env = vec![("PATH".into(), "/usr/bin:/bin".into())];
    spawn.tag = "owner-1".into();
    spawn
}

async fn ended(id: ProcessId) {
    tokio::time::timeout(DEADLINE, id.exited()).await.expect("the process ends in time");
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < DEADLINE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_process_gets_its_environment_session_and_output_only() {
    let dir = tempfile::tempdir().unwrap();
    let mut spawn = shell(dir.path(), "env; ps -o sid= -p $$; readlink /proc/self/fd/0; pwd; echo bad >&2");
    spawn.env.push(("ONE".into(), "1".into()));
    let id = spawn.start().unwrap();
    ended(id).await;
    let log = fs::read_to_string(dir.path().join("log")).unwrap();
    let lines: Vec<&str> = log.lines().map(str::trim).collect();
    for expected in ["ONE=1", "CLUSTERCTL_OWNER=owner-1", &id.pid.to_string(), "/dev/null", "/", "bad"] {
        assert!(lines.contains(&expected), "{expected} in {log}");
    }
    assert!(!log.contains("CARGO"), "our environment leaked: {log}");
}

#[tokio::test]
async fn output_is_appended_over_restarts() {
    let dir = tempfile::tempdir().unwrap();
    for word in ["first", "second"] {
        ended(shell(dir.path(), &format!("echo {word}")).start().unwrap()).await;
    }
    assert_eq!(fs::read_to_string(dir.path().join("log")).unwrap(), "first\nsecond\n");
}

#[tokio::test]
async fn descriptors_arrive_under_their_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let mut file = tempfile::tempfile().unwrap();
    let mut other = tempfile::tempfile().unwrap();
    other.write_all(b"from us").unwrap();
    other.rewind().unwrap();
    let mut spawn = shell(dir.path(), "cat <&4 >&3");
    spawn.fds = vec![(file.try_clone().unwrap().into(), 3), (other.into(), 4)];
    ended(spawn.start().unwrap()).await;
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "from us");
}

#[tokio::test]
async fn an_ended_child_is_reaped() {
    let dir = tempfile::tempdir().unwrap();
    let ids: Vec<_> = (0..50).map(|_| shell(dir.path(), "exit 3").start().unwrap()).collect();
    eventually("no zombie is kept", || ids.iter().all(|id| !Path::new(&format!("/proc/{}", id.pid)).exists())).await;
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let threads: usize = status.lines().find_map(|line| line.strip_prefix("Threads:")).unwrap().trim().parse().unwrap();
    assert!(threads < 20, "{threads} threads for 50 children");
}

#[tokio::test]
async fn a_process_outlives_the_thread_that_started_it() {
    let dir = tempfile::tempdir().unwrap();
    let spawn = shell(dir.path(), "exec sleep 60");
    let id = std::thread::spawn(|| spawn.start().unwrap()).join().unwrap();
    assert!(id.is_alive());
    id.terminate(DEADLINE).await.unwrap();
    assert!(!id.is_alive());
}

#[tokio::test]
async fn a_process_is_found_by_its_tag() {
    let dir = tempfile::tempdir().unwrap();
    let tag = format!("tag-of-{}", dir.path().display());
    assert_eq!(find_owned(&tag), []);
    let id = Spawn { tag: tag.clone(), ..shell(dir.path(), "exec sleep 60") }.start().unwrap();
    assert_eq!(find_owned(&tag), [id]);
    assert_eq!(find_owned(&tag[..tag.len() - 1]), [], "the whole tag counts");
    id.terminate(DEADLINE).await.unwrap();
    assert_eq!(find_owned(&tag), []);
}

/// A process has no environment to show while the kernel puts a program in its place; this one does little else.
#[tokio::test]
async fn a_process_is_found_while_it_becomes_another_program() {
    let dir = tempfile::tempdir().unwrap();
    let tag = format!("tag-of-{}", dir.path().display());
    let script = dir.path().join("script");
    fs::write(&script, "exec /bin/sh \"$0\"").unwrap();
    let id =
        Spawn { tag: tag.clone(), args: vec![script.display().to_string()], ..shell(dir.path(), "") }.start().unwrap();
    for time in 0..100 {
        assert_eq!(find_owned(&tag), [id], "the {time}th time");
    }
    id.terminate(DEADLINE).await.unwrap();
}

/// The test binary starts itself as the short-lived parent: see the next test.
#[test]
#[ignore = "run by a_process_outlives_its_parent only"]
fn parent_that_ends_at_once() {
    let dir = std::env::var("LIFETIME_DIR").expect("set by the other test");
    let id = shell(Path::new(&dir), "trap '' HUP; exec sleep 60").start().unwrap();
    fs::write(Path::new(&dir).join("id"), serde_json::to_vec(&id).unwrap()).unwrap();
}

#[tokio::test]
async fn a_process_outlives_its_parent() {
    let dir = tempfile::tempdir().unwrap();
    let status = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "parent_that_ends_at_once"])
        .env("LIFETIME_DIR", dir.path())
        .stdout(std::process::Stdio::null())
        .status()
        .await
        .unwrap();
    assert!(status.success());
    let id: ProcessId = serde_json::from_slice(&fs::read(dir.path().join("id")).unwrap()).unwrap();
    assert!(id.is_alive(), "it must not end with its parent");
    id.terminate(DEADLINE).await.unwrap();
    assert!(!id.is_alive());
}

#[tokio::test]
async fn terminate_escalates_when_term_is_ignored() {
    let dir = tempfile::tempdir().unwrap();
    let ready = dir.path().join("ready");
    let script = format!("trap '' TERM; touch {}; while :; do sleep 1; done", ready.display());
    let id = shell(dir.path(), &script).start().unwrap();
    eventually("the trap is set", || ready.exists()).await;
    id.terminate(Duration::from_millis(100)).await.unwrap();
    assert!(!id.is_alive());
    id.terminate(Duration::ZERO).await.expect("an ended process is no error");
}

#[tokio::test]
async fn a_program_that_cannot_run_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let error = Spawn::new("/no/such/program", dir.path().join("log")).start().unwrap_err();
    assert!(error.to_string().contains("/no/such/program"), "{error}");
    let error = Spawn::new("/bin/true", "/no/such/dir/log").start().unwrap_err();
    assert!(error.to_string().contains("/no/such/dir/log"), "{error}");
}

#[tokio::test]
async fn a_process_runs_as_the_user_given() {
    let dir = tempfile::tempdir().unwrap();
    let mut spawn = shell(dir.path(), "id -u; id -g; id -G");
    spawn.uid_gid = Some((300_001, 300_002));
    ended(spawn.start().expect("this test needs root")).await;
    assert_eq!(fs::read_to_string(dir.path().join("log")).unwrap(), "300001\n300002\n300002\n");
}
