//! Linking of release builds.
//!
//! - What is hardly ever run stands apart from the rest, so that it is not in memory with its neighbours: 0.7 MiB of an idle
//!   process.
//! - Relocations are in the packed form, a twentieth of the binary's size. Only where the C library here can read it (glibc from
//!   2.36 on): the binary then needs that where it runs. `HEADCOUNT_PLAIN_RELOCATIONS=1` leaves them as they are, for a system
//!   that is older than the builder's.

use std::process::Command;

/// The first glibc that reads packed relocations.
const READS_PACKED: (u32, u32) = (2, 36);
/// Leaves relocations as they are.
const PLAIN: &str = "HEADCOUNT_PLAIN_RELOCATIONS";

fn main() {
    println!("cargo::rerun-if-changed=.cargo/build.rs");
    println!("cargo::rerun-if-env-changed={PLAIN}");
    let of_target = |name: &str| std::env::var(name).unwrap_or_default();
    // The linker that Rust brings along is the default of this target alone; others may not know the form.
    let is_known =
        of_target("TARGET") == "x86_64-unknown-linux-gnu" && of_target("HOST") == of_target("TARGET");
    if !is_known || of_target("PROFILE") != "release" {
        return;
    }
    println!("cargo::rustc-link-arg-bins=-Wl,-z,keep-text-section-prefix");
    let is_plain = std::env::var_os(PLAIN).is_some();
    if !is_plain && glibc().is_some_and(|version| version >= READS_PACKED) {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// The version of the C library here.
fn glibc() -> Option<(u32, u32)> {
    let told = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let text = String::from_utf8(told.stdout).ok()?;
    let (major, minor) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
}
