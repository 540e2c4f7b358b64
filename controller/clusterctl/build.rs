//! How the program is linked.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Without this a tenth of what each of our processes has in memory is a list of addresses that only the loader reads. The
    // short form of that list needs glibc 2.36, which Debian 12 has.
    if std::env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "gnu") {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
