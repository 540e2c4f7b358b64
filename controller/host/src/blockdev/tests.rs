//! Real files, judged by the programs that will read them.

use super::*;

fn run(program: &str, args: &[&str]) -> String {
    let program = process::find_program(program, "CLUSTERCTL_TEST_PROGRAM").unwrap();
    let output = Command::new(program).args(args).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[test]
fn qemu_finds_our_overlay_in_order_and_its_base_below() {
    let dir = tempfile::tempdir().unwrap();
    let (base, middle, top) = (dir.path().join("base, odd.raw"), dir.path().join("middle"), dir.path().join("top"));
    fs::write(&base, vec![7; 3 << 20]).unwrap();
    assert!(ensure_overlay(&base, DiskFormat::Raw, &middle, None, None).unwrap());
    assert!(ensure_overlay(&middle, DiskFormat::Qcow2, &top, Some(40 << 30), None).unwrap());
    assert!(!ensure_overlay(&middle, DiskFormat::Qcow2, &top, None, None).unwrap());
    assert_eq!(base_of(&top).unwrap(), Some(middle.clone()));
    for image in [&middle, &top] {
        run("qemu-img", &["check", "-f", "qcow2", image.to_str().unwrap()]);
    }
    let info: serde_json::Value =
        serde_json::from_str(&run("qemu-img", &["info", "--output=json", top.to_str().unwrap()])).unwrap();
    assert_eq!(
        (info["virtual-size"].as_u64(), info["backing-filename-format"].as_str()),
        (Some(40 << 30), Some("qcow2"))
    );
    let top = top.to_str().unwrap();
    run("qemu-io", &["-f", "qcow2", "-c", "read -P 7 0 3M", "-c", "read -P 0 3M 1M", "-c", "write -P 9 39G 1M", top]);
    run("qemu-io", &["-f", "qcow2", "-c", "read -P 9 39G 1M", "-c", "read -P 7 1M 1M", top]);
    run("qemu-img", &["check", "-f", "qcow2", top]);
    assert_eq!(fs::read(&base).unwrap(), vec![7; 3 << 20], "the base is untouched");
}

#[test]
fn a_volume_is_sparse_formatted_once_and_only_grows() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sub/volume");
    let ext4 = Ext4 { uuid: Uuid::from_u128(42), label: "data".into() };
    assert!(ensure_volume(&path, 64 << 20, Some(&ext4), None).unwrap());
    run("e2fsck", &["-fn", path.to_str().unwrap()]);
    let uuid = run("blkid", &["-p", "-s", "UUID", "-o", "value", path.to_str().unwrap()]);
    assert_eq!(uuid.trim(), ext4.uuid.to_string());
    let before = digest(&path).unwrap();
    assert!(!ensure_volume(&path, 32 << 20, Some(&ext4), None).unwrap());
    check_digest(&path, &format!("sha256:{before}")).unwrap();
    assert!(!ensure_volume(&path, 128 << 20, Some(&ext4), None).unwrap());
    assert_eq!(fs::metadata(&path).unwrap().len(), 128 << 20);
    remove(&path).unwrap();
    remove(&path).unwrap();
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 0);
}

#[test]
fn what_was_half_made_is_made_anew_and_what_fails_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("volume");
    fs::write(partial(&path), "half").unwrap();
    assert!(ensure_volume(&path, 1 << 20, None, None).unwrap());
    assert_eq!(fs::read(&path).unwrap(), vec![0; 1 << 20]);
    let bad = dir.path().join("bad");
    let tiny = Ext4 { uuid: Uuid::nil(), label: String::new() };
    let error = ensure_volume(&bad, 1000, Some(&tiny), None).unwrap_err();
    assert!(matches!(error, Error::Program { .. }), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_full_disk_is_said_before_anything_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let error = ensure_volume(&dir.path().join("v"), u64::MAX / 2, None, None).unwrap_err();
    assert_eq!(error.category(), "NoSpace");
    assert!(error.to_string().contains("free some space"), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn an_image_from_elsewhere_must_be_what_it_says_and_nothing_more() {
    let dir = tempfile::tempdir().unwrap();
    let (raw, good, evil) = (dir.path().join("raw"), dir.path().join("good"), dir.path().join("evil"));
    fs::write(&raw, vec![1; 4096]).unwrap();
    run("qemu-img", &["create", "-q", "-f", "qcow2", good.to_str().unwrap(), "8M"]);
    ensure_overlay(&raw, DiskFormat::Raw, &evil, None, None).unwrap();
    assert_eq!(check_untrusted(&raw, DiskFormat::Raw).unwrap(), 4096);
    assert_eq!(check_untrusted(&good, DiskFormat::Qcow2).unwrap(), 8 << 20);
    let why = |path: &Path, declared| match check_untrusted(path, declared).unwrap_err() {
        Error::Refused { source, .. } => source.to_string(),
        other => panic!("{other}"),
    };
    assert!(why(&evil, DiskFormat::Qcow2).contains("backing file"));
    assert!(why(&good, DiskFormat::Raw).contains("declared as raw"));
    assert!(why(&raw, DiskFormat::Qcow2).contains("declared as qcow2"));
    let outside = dir.path().join("outside");
    let options = format!("data_file={}", dir.path().join("data").display());
    run("qemu-img", &["create", "-q", "-f", "qcow2", "-o", &options, outside.to_str().unwrap(), "8M"]);
    assert!(why(&outside, DiskFormat::Qcow2).contains("another file"));
    assert!(check_digest(&raw, "sha256:00").is_err());
}
