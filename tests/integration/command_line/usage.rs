//! Arguments, and the ports.

use super::{Folder, IN_ORDER};
use crate::support::process;

#[test]
fn wrong_arguments_end_with_64_and_a_hint() {
    for arguments in [
        &[][..],
        &["frobnicate"],
        &["run", "--port", "1"],
        &["run", "--config"],
        &["upgrade"],
        &["upgrade", "--pid", "first"],
        &["upgrade", "--pid", "0"],
        &["upgrade", "--pid", "4294967295"],
        &["routes"],
        &["routes", "test"],
        &["demo", "--port", "70000"],
    ] {
        let told = process::run(arguments, &[]);
        assert_eq!((told.code, &*told.out), (Some(64), ""), "{arguments:?}");
        assert!(
            told.err.contains("Usage: headcount") || told.err.contains("--help"),
            "{told:?}"
        );
    }
}

#[test]
fn help_and_version_are_no_failure() {
    let help = process::run(&["--help"], &[]);
    assert_eq!((help.code, &*help.err), (Some(0), ""));
    for command in ["run", "upgrade", "check", "routes", "migrate", "demo"] {
        assert!(help.out.contains(&format!("\n  {command} ")), "{}", help.out);
    }
    let version = process::run(&["--version"], &[]);
    assert_eq!(version.out, format!("headcount {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(version.code, Some(0));
}

#[test]
fn a_taken_port_is_named_with_the_remedy() {
    let folder = Folder::new(IN_ORDER, "");
    let address = folder.taken.as_ref().unwrap().local_addr().unwrap();
    folder.run(&["run"]).is_one_message(
        1,
        &format!(
            "{address} cannot be listened on (Address already in use (os error 98)); stop what uses it, or \
             choose another address under [listen]"
        ),
    );
}

/// Of a documentation network (RFC 5737), which no interface has.
#[test]
fn d12_an_address_that_the_machine_does_not_have_is_not_said_to_be_in_use() {
    let folder = Folder::new(IN_ORDER, "");
    let elsewhere = ("HEADCOUNT__LISTEN__HTTP", "[\"192.0.2.1:8080\"]");
    folder.run_with(&["run"], &[elsewhere]).is_one_message(
        1,
        "192.0.2.1:8080 cannot be listened on (Cannot assign requested address (os error 99)); no interface of this \
         machine has that address now: choose one that it has, or 0.0.0.0 or [::] for all of them, under [listen]",
    );
}

#[test]
fn d12_an_id_of_no_process_is_named_with_how_to_find_the_right_one() {
    for id in ["0", "-1", "first"] {
        let told = process::run(&["upgrade", &format!("--pid={id}")], &[]);
        assert_eq!(told.code, Some(64));
        assert!(
            told.err.contains("is not the id of a process") && told.err.contains("systemctl show"),
            "{}",
            told.err
        );
    }
}

#[test]
fn a_reader_who_has_seen_enough_is_no_failure() {
    let folder = Folder::new(IN_ORDER, "");
    // The reader of the pipe is gone before the first line.
    let script = r#"set -o pipefail; { read -r; "$0" check --offline --config "$1"; } < <(echo) | exec 0<&-"#;
    let script = format!("{script}; echo ${{PIPESTATUS[0]}}");
    let output = std::process::Command::new("bash")
        .args([
            "-c",
            &script,
            &*process::binary(),
            folder.config.to_str().unwrap(),
        ])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "0\n");
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}
