//! Images built for real: as root, with mmdebstrap and the machine's Debian mirror.
//!
//! Package files are kept between runs below cargo's target directory, so only the first run downloads them.

#![allow(clippy::unwrap_used, reason = "a test may end itself")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use host::image::{Builder, Built, DiskFormat, Error, FileEntry, Options, Recipe, Source, Unit};

/// Where the process that is to be killed builds; set only for it.
const VICTIM_VARIABLE: &str = "IMAGE_TEST_VICTIM_CACHE";

fn options(cache: &Path) -> Options {
    Options {
        packages_dir: Some(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("image-packages")),
        ..Options::new(cache)
    }
}

fn cache_dir() -> tempfile::TempDir {
    // Beside the packages, so that package files are linked instead of copied.
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn debian(packages: &[&str]) -> Recipe {
    Recipe {
        source: Source::Debian {
            suite: "bookworm".into(),
            packages: packages.iter().map(|p| (*p).to_owned()).collect(),
            kernel_package: "linux-image-cloud-amd64".into(),
        },
        files: vec![FileEntry { path: "/etc/motd".into(), content: b"hello\n".to_vec(), mode: 0o640 }],
        units: vec![Unit {
            name: "hello.service".into(),
            content: Some("[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n".into()),
            enabled: true,
            masked: false,
        }],
        disk_bytes: None,
    }
}

fn imported(path: &Path, sha256: &str, format: DiskFormat) -> Recipe {
    Recipe {
        source: Source::File { path: path.to_owned(), sha256: sha256.to_owned(), format, kernel: None, initrd: None },
        files: vec![],
        units: vec![],
        disk_bytes: None,
    }
}

fn sha256(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap()[..64].to_owned()
}

/// Not a test by itself: the process that `a_killed_build…` kills.
#[tokio::test]
#[ignore = "only run as a child of another test"]
async fn victim() {
    let cache = std::env::var_os(VICTIM_VARIABLE).expect("run by a_killed_build_leaves_nothing");
    let builder = Builder::open(options(Path::new(&cache))).await.unwrap();
    let recipe = debian(&[]);
    let build = builder.build(&recipe, |progress| println!("progress {}", progress.step));
    build.await.unwrap();
}

/// Starts a build in another process and kills that with SIGKILL while packages are being installed.
fn kill_a_build(cache: &Path) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "victim", "--ignored", "--nocapture"])
        .env(VICTIM_VARIABLE, cache)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let reached = lines.any(|line| line.unwrap().contains("progress installing packages"));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(reached, "the build ended before it installed packages");
}

/// Waits until no process names `path` in its arguments any more.
async fn no_process_of(path: &Path) {
    let text = path.to_str().unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let left: Vec<String> = fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
            .map(|bytes| String::from_utf8_lossy(&bytes).replace('\0', " "))
            .filter(|line| line.contains(text))
            .collect();
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "these processes outlived the build: {left:#?}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_build_leaves_nothing_and_the_next_gives_the_same_bytes_as_any() {
    let (killed, other) = (cache_dir(), cache_dir());
    let path = killed.path().to_owned();
    tokio::task::spawn_blocking(move || kill_a_build(&path)).await.unwrap();
    no_process_of(killed.path()).await;
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(killed.path().to_str().unwrap()), "{mounts}");

    let resumed = Builder::open(options(killed.path())).await.unwrap();
    let left = fs::read_dir(killed.path().join("partial")).unwrap().count();
    assert_eq!(left, 0, "a partial build is left");

    // Two requests for one image at the first builder: the second is served by the first's build.
    let fresh = Builder::open(options(other.path())).await.unwrap();
    let steps = Arc::new(Mutex::new(Vec::new()));
    let count = |steps: &Arc<Mutex<Vec<&'static str>>>| {
        let steps = Arc::clone(steps);
        move |progress: host::image::Progress| steps.lock().unwrap().push(progress.step)
    };
    let recipe = debian(&[]);
    let (one, same, another) = tokio::join!(
        resumed.build(&recipe, count(&steps)),
        resumed.build(&recipe, count(&steps)),
        fresh.build(&recipe, |_| ()),
    );
    let (one, same, another) = (one.unwrap(), same.unwrap(), another.unwrap());
    assert_eq!(one, same);
    let times = steps.lock().unwrap().iter().filter(|step| **step == "making the disk").count();
    assert_eq!(times, 1, "equal content was built {times} times");

    assert_eq!(one.key, another.key);
    assert_eq!(one.digest, another.digest, "the disks differ");
    let initrds = [&one, &another].map(|built| sha256(built.initrd.as_ref().unwrap()));
    assert_eq!(initrds[0], initrds[1], "the initrds differ");
    check_content(&one);
    resumed.verify(&one).await.unwrap();
    assert_eq!(resumed.find(&one.key).await.unwrap(), Some(one.clone()));
    a_layer_without_packages_shares_the_root(&resumed, &one).await;
}

fn check_content(built: &Built) {
    let debugfs = |request: &str| {
        let output = Command::new("debugfs").args(["-R", request]).arg(&built.disk).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(debugfs("cat /etc/motd"), "hello\n");
    assert!(debugfs("stat /etc/systemd/system/multi-user.target.wants/hello.service").contains("symlink"));
    assert!(built.packages.iter().any(|(name, _)| name == "qemu-guest-agent"));
    assert!(!built.kernel_version.is_empty());
    let status = Command::new("e2fsck").arg("-fn").arg(&built.disk).output().unwrap().status;
    assert!(status.success(), "e2fsck finds faults");
}

async fn a_layer_without_packages_shares_the_root(builder: &Builder, base: &Built) {
    let recipe = Recipe {
        source: Source::Layer { base: base.key.clone(), packages: vec![] },
        files: vec![FileEntry { path: "/etc/issue".into(), content: b"layer\n".to_vec(), mode: 0o644 }],
        units: vec![],
        disk_bytes: None,
    };
    let layer = builder.build(&recipe, |_| ()).await.unwrap();
    assert_ne!(layer.key, base.key);
    assert_eq!(layer.packages, base.packages);
    check_content(&layer);
    let place = base.disk.ancestors().nth(3).unwrap();
    let impatient = Builder::open(Options { keep_unused: Duration::ZERO, ..options(place) }).await.unwrap();
    impatient.declare("test", place, [layer.key.clone()].into()).await.unwrap();
    assert_eq!(impatient.prune().await.unwrap(), std::slice::from_ref(&base.key), "the shared root must stay");
    assert!(builder.find(&base.key).await.unwrap().is_none());
}

#[tokio::test]
async fn what_nobody_needs_goes_in_the_end_whoever_shares_the_cache() {
    let cache = cache_dir();
    let patient = Builder::open(options(cache.path())).await.unwrap();
    let impatient = Builder::open(Options { keep_unused: Duration::ZERO, ..options(cache.path()) }).await.unwrap();
    let mut keys = Vec::new();
    for number in 0..3 {
        let disk = cache.path().join(format!("{number}.raw"));
        fs::write(&disk, vec![number; 1 << 20]).unwrap();
        let recipe = imported(&disk, &sha256(&disk), DiskFormat::Raw);
        keys.push(patient.build(&recipe, |_| ()).await.unwrap().key);
    }
    let (here, away) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    patient.declare("here", here.path(), [keys[0].clone()].into()).await.unwrap();
    patient.declare("away", away.path(), [keys[1].clone()].into()).await.unwrap();
    assert_eq!(patient.prune().await.unwrap(), Vec::<String>::new(), "it may be wanted again soon");
    assert_eq!(impatient.prune().await.unwrap(), [keys[2].clone()]);
    assert!(impatient.find(&keys[2]).await.unwrap().is_none());
    drop(away);
    assert_eq!(impatient.prune().await.unwrap(), [keys[1].clone()], "its user is gone");
    assert!(impatient.find(&keys[0]).await.unwrap().is_some());
}

#[tokio::test]
async fn a_package_that_does_not_exist_is_named() {
    let cache = cache_dir();
    let builder = Builder::open(options(cache.path())).await.unwrap();
    let error = builder.key(&debian(&["no-such-package"])).await.unwrap_err();
    assert!(matches!(&error, Error::UnknownPackage { package, .. } if package == "no-such-package"), "{error}");
    assert!(!error.retry());
}

#[tokio::test]
async fn a_key_depends_on_content_and_on_nothing_else() {
    let (a, b) = (cache_dir(), cache_dir());
    let one = Builder::open(options(a.path())).await.unwrap();
    let two = Builder::open(options(b.path())).await.unwrap();
    let key = one.key(&debian(&["jq", "less"])).await.unwrap();
    assert_eq!(key, two.key(&debian(&["less", "jq", "less"])).await.unwrap());
    assert_ne!(key, one.key(&debian(&["less"])).await.unwrap());
    let mut moved = debian(&["jq", "less"]);
    moved.files[0].mode = 0o600;
    assert_ne!(key, one.key(&moved).await.unwrap());
}

#[tokio::test]
async fn an_imported_qcow2_becomes_raw() {
    let cache = cache_dir();
    let (raw, qcow2) = (cache.path().join("d.raw"), cache.path().join("d.qcow2"));
    let mut bytes = vec![0; 4 << 20];
    bytes[3 << 20..][..5].copy_from_slice(b"hello");
    fs::write(&raw, bytes).unwrap();
    qemu_img(&["convert", "-f", "raw", "-O", "qcow2"], &[&raw, &qcow2]);
    let builder = Builder::open(options(cache.path())).await.unwrap();
    let built = builder.build(&imported(&qcow2, &sha256(&qcow2), DiskFormat::Qcow2), |_| ()).await.unwrap();
    assert_eq!(built.disk_format, DiskFormat::Raw);
    assert_eq!(sha256(&built.disk), sha256(&raw));
    assert_eq!(built.digest, sha256(&raw));
    assert_eq!(built.kernel, None);
}

#[tokio::test]
async fn an_import_that_would_open_other_files_is_refused_and_leaves_nothing() {
    let cache = cache_dir();
    let (base, disk) = (cache.path().join("base.raw"), cache.path().join("disk.qcow2"));
    fs::write(&base, vec![0; 1 << 20]).unwrap();
    qemu_img(&["create", "-q", "-f", "qcow2", "-F", "raw", "-b", base.to_str().unwrap()], &[&disk]);
    let builder = Builder::open(options(cache.path())).await.unwrap();
    let error = builder.build(&imported(&disk, &sha256(&disk), DiskFormat::Qcow2), |_| ()).await.unwrap_err();
    assert_eq!(error.category(), "Refused");
    assert!(error.to_string().contains("backing file"), "{error}");
    assert_eq!(fs::read_dir(cache.path().join("partial")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_changed_file_is_not_imported() {
    let cache = cache_dir();
    let disk = cache.path().join("d.raw");
    fs::write(&disk, vec![1; 1 << 20]).unwrap();
    let builder = Builder::open(options(cache.path())).await.unwrap();
    let wrong = "0".repeat(64);
    let error = builder.build(&imported(&disk, &format!("sha256:{wrong}"), DiskFormat::Raw), |_| ()).await.unwrap_err();
    assert_eq!(error.category(), "DigestMismatch");
    assert!(error.to_string().contains(&wrong), "{error}");
}

fn qemu_img(args: &[&str], files: &[&Path]) {
    let output = Command::new("qemu-img").args(args).args(files).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
