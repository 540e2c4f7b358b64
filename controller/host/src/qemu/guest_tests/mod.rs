//! A real guest under TCG: Debian's kernel with nothing but an agent. One boot, one story, since boots are what costs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::exec::{self, State, Stream};
use super::guest_agent::{self, GuestAgent, Program};
use super::machine::{Disk, DiskFormat, Kernel, Machine, samples};
use super::monitor::{Event, Monitor};
use super::stop::{self, Ended};
use super::{serial_log, start};

/// For one answer of a guest on a machine that is busy with everything else.
const LONG: Duration = Duration::from_secs(120);
/// For a boot there.
const BOOT: Duration = Duration::from_secs(300);

fn assets() -> PathBuf {
    // Beside the build's own output, which outlives one run of the tests.
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/test-guest");
    std::fs::create_dir_all(&dir).unwrap();
    let dir = dir.canonicalize().unwrap();
    let script = include_str!("build.sh");
    let built = Command::new("/bin/sh").args(["-c", script, "build.sh"]).arg(&dir).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    dir
}

fn machine(run_dir: &Path) -> Machine {
    let assets = assets();
    let volume = run_dir.join("volume, odd.raw");
    crate::blockdev::ensure_volume(&volume, 16 << 20, None, None).unwrap();
    Machine {
        kernel: Some(Kernel {
            image: assets.join("vmlinuz"),
            initrd: Some(assets.join("initrd")),
            cmdline: "console=ttyS0 quiet panic=-1".into(),
        }),
        disks: vec![Disk {
            node_name: "data".into(),
            path: volume,
            format: DiskFormat::Raw,
            read_only: false,
            serial: "vol-6f1c2d3e".into(),
        }],
        memory_bytes: 192 << 20,
        ..samples::bare(run_dir)
    }
}

/// Waits for an agent in another boot than `not`, and tells the present one.
async fn up(agent: &GuestAgent, not: &str) -> String {
    let end = Instant::now() + BOOT;
    loop {
        match agent.boot_id(Duration::from_secs(5)).await {
            Ok(boot_id) if boot_id != not => return boot_id,
            result => assert!(Instant::now() < end, "the guest does not come up: {result:?}"),
        }
    }
}

fn command(argv: &[&str]) -> exec::Command {
    exec::Command { argv: argv.iter().map(|word| (*word).to_owned()).collect(), ..exec::Command::default() }
}

struct Killed(process::ProcessId);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.signal(rustix::process::Signal::KILL);
    }
}

#[tokio::test]
async fn a_guest_is_booted_asked_adopted_reset_and_shut_down() {
    let dir = tempfile::tempdir().unwrap();
    let machine = machine(dir.path());
    let begun = Instant::now();
    let id = start::spawn(&machine, None, vec![]).unwrap();
    let _killed = Killed(id);
    let monitor = start::ready(dir.path(), id, LONG).await.unwrap();
    println!("QMP ready after {} ms", begun.elapsed().as_millis());
    let mut events = monitor.events();
    monitor.resume().await.unwrap();
    let agent = GuestAgent::open(dir.path());
    let first_boot = up(&agent, "").await;
    println!("guest agent after {} ms", begun.elapsed().as_millis());
    while events.recv().await.unwrap() != (Event::GuestAgent { open: true }) {}

    answers(&agent).await;
    named_commands(&agent).await;
    let agent = adopted(agent, dir.path()).await;

    assert!(serial_log::rotate(dir.path(), 0).unwrap());
    monitor.reset().await.unwrap();
    let second_boot = up(&agent, &first_boot).await;
    assert_eq!(second_boot.len(), first_boot.len());
    let forgotten = exec::status(&agent, "long", Duration::ZERO, 0).await.unwrap();
    assert_eq!(forgotten.state, State::Unknown, "a reboot ends every command");

    drop(monitor);
    let monitor = Monitor::open(dir.path(), LONG).await.unwrap();
    let ended = stop::stop(dir.path(), Some(&monitor), Some(&agent), BOOT).await.unwrap();
    assert_eq!(ended, Ended::Gracefully);
    let previous = std::fs::read(serial_log::previous_path(dir.path())).unwrap();
    for log in [previous, serial_log::tail(dir.path(), 1 << 20).unwrap()] {
        let log = String::from_utf8_lossy(&log).into_owned();
        assert_eq!(log.matches("the guest is up").count(), 1, "one boot in each: {log}");
        assert!(!log.contains('\0'), "QEMU goes on at the end of the cut file");
    }
    let error = agent.ping(LONG).await.unwrap_err();
    assert!(matches!(error, guest_agent::Error::NotConnected { .. }), "{error}");
}

async fn answers(agent: &GuestAgent) {
    agent.ping(LONG).await.unwrap();
    let serial = agent.read_file("/sys/block/vda/serial", 100, LONG).await.unwrap();
    assert_eq!(serial, b"vol-6f1c2d3e");
    let bytes: Vec<u8> = (0..600_000u32).map(|number| number as u8).collect();
    agent.write_file("/tmp/file", &bytes, LONG).await.unwrap();
    assert!(agent.read_file("/tmp/file", 1 << 20, LONG).await.unwrap() == bytes);
    let error = agent.read_file("/no/such/file", 1, LONG).await.unwrap_err();
    assert!(matches!(error, guest_agent::Error::CommandFailed { .. }), "{error}");
    let interfaces = agent.interfaces(LONG).await.unwrap();
    assert!(interfaces.iter().any(|interface| interface.name == "lo"));
    // One that is given up, at whatever point, must not spoil the next.
    let slow = Program { path: "/bin/sleep".into(), args: vec!["600".into()], ..Program::default() };
    let error = agent.run(&slow, Duration::from_millis(300)).await.unwrap_err();
    assert!(matches!(error, guest_agent::Error::Timeout { .. }), "{error}");
    let echo = Program { path: "/bin/cat".into(), input: Some(b"in".to_vec()), capture: true, ..Program::default() };
    for _ in 0..3 {
        let _ = tokio::time::timeout(Duration::from_micros(50), agent.ping(LONG)).await;
        let output = agent.run(&echo, LONG).await.unwrap();
        assert_eq!((output.code, output.stdout.as_slice()), (Some(0), b"in".as_slice()));
    }
}

async fn named_commands(agent: &GuestAgent) {
    let mut wanted = command(&["sh", "-c", "cat; echo \"$1 $V\" >&2; exit 5", "x", "$(odd) 'arg'"]);
    wanted.env = vec![("V".into(), "a b".into())];
    wanted.stdin = Some(b"0123456789".to_vec());
    let begun = Instant::now();
    let report = exec::start(agent, "step-1", &wanted, LONG, 4).await.unwrap();
    println!("a named command took {} ms", begun.elapsed().as_millis());
    assert_eq!(report.state, State::Exited { code: 5 });
    assert_eq!((report.stdout.bytes.as_slice(), report.stdout.size), (b"6789".as_slice(), 10));
    assert_eq!(report.stderr.bytes, b"a b\n");
    let read = exec::read_output(agent, "step-1", Stream::Stdout, 2, 3).await.unwrap();
    assert_eq!(read, b"234");
    let long = exec::start(agent, "long", &command(&["sleep", "100000"]), Duration::from_secs(1), 0).await.unwrap();
    assert_eq!(long.state, State::Running);
}

/// As after a restart of ours: the connection and every bit of knowledge are gone.
async fn adopted(agent: GuestAgent, run_dir: &Path) -> GuestAgent {
    drop(agent);
    let agent = GuestAgent::open(run_dir);
    let again = exec::start(&agent, "step-1", &command(&["never-run"]), LONG, 0).await.unwrap();
    assert_eq!(again.state, State::Exited { code: 5 }, "the same step, not a new one");
    exec::forget(&agent, "step-1").await.unwrap();
    let long = exec::status(&agent, "long", Duration::ZERO, 0).await.unwrap();
    assert_eq!(long.state, State::Running);
    agent
}
