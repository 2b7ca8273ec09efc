//! How tools give a route file a new text: the real ones where Debian has them and they need no desktop, others by the
//! sequence of what they do.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::RUBBISH;
use crate::support::service::wait_until;

/// A file that gets a new text.
pub(super) struct Edit<'a> {
    pub folder: &'a Path,
    pub name: &'a str,
    pub text: &'a str,
    /// Has the folder read as it is now, in the middle of the edit.
    pub look: &'a dyn Fn(),
}

/// A tool, and what it does.
pub(super) type Way = (&'static str, fn(&Edit<'_>));

pub(super) const WAYS: [Way; 9] = [
    ("in place", in_place),
    ("vim", vim),
    ("vim, in place", vim_in_place),
    ("nano", nano),
    ("Emacs", emacs),
    ("atomically", atomically),
    ("rsync", rsync),
    ("git checkout", git),
    ("Kubernetes", kubernetes),
];

impl Edit<'_> {
    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.join(name), text).unwrap();
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.folder.join(name)).unwrap();
    }

    fn link(&self, to: &str, name: &str) {
        symlink(to, self.folder.join(name)).unwrap();
    }

    fn now(&self) -> String {
        fs::read_to_string(self.folder.join(self.name)).unwrap()
    }

    fn has(&self, name: &str) -> bool {
        self.folder.join(name).exists()
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let mut command = Command::new(program);
        let output = command
            .current_dir(self.folder)
            .args(arguments)
            .output()
            .expect(program);
        assert!(output.status.success(), "{program}: {output:?}");
    }

    /// Starts an editor, which waits for what is typed.
    fn open(&self, editor: &mut Command) -> Child {
        let editor = editor.current_dir(self.folder);
        let open = editor.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        open.expect("an editor")
    }

    /// The new text in a file outside of the folder, and its path.
    fn elsewhere(&self) -> (TempDir, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new");
        fs::write(&path, self.text).unwrap();
        let path = path.to_str().expect("UTF-8").to_owned();
        (folder, path)
    }
}

/// Types into an editor that then ends.
fn type_into(mut editor: Child, keys: &str) {
    let mut keyboard = editor.stdin.take().expect("a pipe");
    keyboard.write_all(keys.as_bytes()).expect("an editor");
    if let Some(mut screen) = editor.stdout.take() {
        std::io::copy(&mut screen, &mut std::io::sink()).expect("its end");
    }
    assert!(editor.wait().expect("an editor").success());
}

/// The file is empty for a moment.
fn in_place(edit: &Edit<'_>) {
    edit.write(edit.name, edit.text);
}

/// The real vim, as it is by itself: with a swap file, a file that it tries the folder with, and a new file in the old
/// one's place.
fn vim(edit: &Edit<'_>) {
    vim_with("set backupskip=", edit);
    assert!(!edit.has(&format!("{}~", edit.name)));
}

/// The real vim where it keeps the file, as one that is a link: written in place, with a backup beside it that stays.
fn vim_in_place(edit: &Edit<'_>) {
    vim_with("set backupskip= backupcopy=yes backup", edit);
    assert!(edit.has(&format!("{}~", edit.name)));
}

/// Below /tmp it makes no backups unless it is told to.
fn vim_with(settings: &str, edit: &Edit<'_>) {
    let (_folder, new) = edit.elsewhere();
    let mut vim = Command::new("vim.tiny");
    let vim = edit.open(vim.args(["-u", "NONE", "-N", "-es", edit.name]));
    wait_until("vim", || edit.has(&format!(".{}.swp", edit.name)));
    (edit.look)();
    type_into(vim, &format!("{settings}\n%!cat '{new}'\nwq\n"));
    assert_eq!(edit.now(), edit.text);
}

/// The real nano, at a terminal, with a lock and a backup.
fn nano(edit: &Edit<'_>) {
    let (_folder, new) = edit.elsewhere();
    let mut terminal = Command::new("script");
    let nano = format!("nano --ignorercfiles --backup --locking {}", edit.name);
    let terminal = terminal.args(["--quiet", "--return", "--command", &nano, "/dev/null"]);
    let mut nano = edit.open(terminal.env("TERM", "xterm"));
    // Keys that come before it looks are not for it.
    let screen = nano.stdout.as_mut().expect("a pipe");
    let (mut shown, mut piece) = (Vec::new(), [0; 1024]);
    while !String::from_utf8_lossy(&shown).contains(edit.name) {
        let length = screen.read(&mut piece).expect("a screen");
        assert_ne!(length, 0, "{}", String::from_utf8_lossy(&shown));
        shown.extend_from_slice(&piece[..length]);
    }
    assert!(edit.has(&format!(".{}.swp", edit.name)));
    (edit.look)();
    // Cuts everything, reads the new text, writes it out, and exits.
    type_into(nano, &format!("\x1bT\x12{new}\r\x0f\r\x18"));
    assert_eq!(edit.now(), edit.text);
    assert!(edit.has(&format!("{}~", edit.name)));
}

/// With a lock that is a link to nowhere, an autosave and a backup.
fn emacs(edit: &Edit<'_>) {
    let (lock, autosave) = (format!(".#{}", edit.name), format!("#{}#", edit.name));
    edit.link("user@host.4711:1700000000", &lock);
    edit.write(&autosave, RUBBISH);
    (edit.look)();
    edit.write(&format!("{}~", edit.name), &edit.now());
    edit.write(edit.name, edit.text);
    edit.remove(&autosave);
    edit.remove(&lock);
}

/// A temporary file that is moved into its place, as editors that save atomically and `kubectl cp` do.
fn atomically(edit: &Edit<'_>) {
    let temporary = format!(".{}.tmp-4711", edit.name);
    edit.write(&temporary, RUBBISH);
    (edit.look)();
    edit.write(&temporary, edit.text);
    fs::rename(edit.folder.join(temporary), edit.folder.join(edit.name)).unwrap();
}

/// The real rsync.
fn rsync(edit: &Edit<'_>) {
    let source = tempfile::tempdir().unwrap();
    fs::write(source.path().join(edit.name), edit.text).unwrap();
    let from = format!("{}/", source.path().display());
    edit.run("rsync", &["--recursive", "--checksum", &from, "."]);
}

/// The real git: a checkout of another branch.
fn git(edit: &Edit<'_>) {
    let git = |arguments: &[&str]| {
        let identity = [
            "-c",
            "user.name=x",
            "-c",
            "user.email=x@x.test",
            "-c",
            "core.hooksPath=/dev/null",
        ];
        edit.run("git", &[&identity[..], arguments].concat());
    };
    git(&["init", "--quiet"]);
    git(&["add", edit.name]);
    git(&["commit", "--quiet", "--message", "old"]);
    git(&["checkout", "--quiet", "-b", "new"]);
    let old = edit.now();
    edit.write(edit.name, edit.text);
    git(&["commit", "--quiet", "--all", "--message", "new"]);
    git(&["checkout", "--quiet", "-"]);
    assert_eq!(edit.now(), old);
    git(&["checkout", "--quiet", "new"]);
}

/// A volume of Kubernetes: the files are links through `..data`, and that is a link that is replaced.
fn kubernetes(edit: &Edit<'_>) {
    let version = |number: u32, text: &str| {
        let data = format!("..2026_11_28_{number}");
        fs::create_dir(edit.folder.join(&data)).unwrap();
        edit.write(&format!("{data}/{}", edit.name), text);
        edit.link(&data, "..data_tmp");
        (edit.look)();
        fs::rename(edit.folder.join("..data_tmp"), edit.folder.join("..data")).unwrap();
    };
    version(1, &edit.now());
    edit.remove(edit.name);
    edit.link(&format!("..data/{}", edit.name), edit.name);
    version(2, edit.text);
    fs::remove_dir_all(edit.folder.join("..2026_11_28_1")).unwrap();
}
