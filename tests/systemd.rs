//! The hazard: a unit that systemd partly ignores. It logs only a warning for a line that it cannot
//! parse, so a misspelt directive silently costs a protection, or the table.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd")
}

fn read(file: &str) -> String {
    let path = directory().join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Runs a tool of systemd and returns everything it printed; prints a notice and returns `None` if
/// it is not installed.
fn tool(command: &mut Command) -> Option<(bool, String)> {
    match command.output() {
        Ok(output) => {
            let printed = [output.stdout, output.stderr].concat();
            Some((output.status.success(), String::from_utf8_lossy(&printed).into_owned()))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            notice(&format!("{} is not installed", command.get_program().display()));
            None
        }
        Err(error) => panic!("{command:?}: {error}"),
    }
}

/// Bypasses the test harness's capture, which swallows the output of a passing test.
fn notice(reason: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "NOT TESTED: {reason}");
}

/// The complaints of `systemd-analyze verify` about our units, with the unit's text changed by
/// `change`.
fn complaints(change: impl Fn(String) -> String) -> Option<String> {
    let copy = tempfile::tempdir().unwrap();
    for unit in ["l1d.service", "l1d.socket"] {
        // ExecStart= and ExecReload= must name programs that exist.
        let text = change(
            read(unit)
                .replace("/usr/bin/l1ctl", env!("CARGO_BIN_EXE_l1ctl"))
                .replace("/usr/bin/l1d", env!("CARGO_BIN_EXE_l1d")),
        );
        fs::write(copy.path().join(unit), text).unwrap();
    }
    let (success, printed) = tool(
        Command::new("systemd-analyze")
            .args(["verify", "./l1d.service", "./l1d.socket"])
            // Messages about other units on this machine are not ours.
            .env("SYSTEMD_LOG_LEVEL", "warning")
            .current_dir(copy.path()),
    )?;
    let ours: Vec<&str> = printed.lines().filter(|line| line.contains("l1d.")).collect();
    // It succeeds in spite of warnings, so those count; if it cannot run at all, it fails without
    // any.
    assert!(success || !ours.is_empty(), "systemd-analyze verify failed:\n{printed}");
    Some(ours.join("\n"))
}

#[test]
fn systemd_understands_every_line_of_the_units() {
    let Some(complaints) = complaints(|text| text) else { return };
    assert_eq!(complaints, "");
}

#[test]
fn a_line_that_systemd_ignores_would_be_noticed() {
    for (good, bad) in [("LimitCORE=0", "LimitCores=0"), ("RemoveIPC=no", "RemoveIPC=perhaps")] {
        assert!(read("l1d.service").contains(good));
        let Some(complaints) = complaints(|text| text.replace(good, bad)) else { return };
        assert!(complaints.contains("l1d.service"), "{bad} went unnoticed: {complaints:?}");
    }
}

#[test]
fn the_table_survives_a_restart_of_the_service() {
    let service = read("l1d.service");
    let lines: Vec<&str> = service.lines().collect();
    assert!(lines.contains(&"RemoveIPC=no"));
    for deleting in ["DynamicUser=yes", "DynamicUser=true", "PrivateUsers=yes", "PrivateIPC=yes"] {
        assert!(!lines.contains(&deleting), "{deleting}");
    }
}

#[test]
fn every_directive_has_a_sentence_above_it() {
    for file in ["l1d.service", "l1d.socket", "l1d.sysusers.conf", "l1d.tmpfiles.conf"] {
        let text = read(file);
        let mut directives = 0;
        let mut before = "";
        for (number, line) in text.lines().enumerate() {
            if !(line.is_empty() || line.starts_with('#') || line.starts_with('[')) {
                directives += 1;
                let number = number + 1;
                let has_sentence = before.strip_prefix("# ").is_some_and(|text| {
                    text.len() > 10 && text.ends_with(['.', ',']) && text.contains(' ')
                });
                assert!(has_sentence, "{file}:{number}: no sentence above {line:?}");
            }
            before = line;
        }
        assert!(directives > 0, "{file} has no directive");
    }
}

/// Both files applied to an empty root directory, as a package would apply them to the host.
#[test]
fn user_and_directories_come_out_as_the_daemon_needs_them() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    if fs::metadata(root).unwrap().uid() != 0 {
        notice("only root can make a system user and give it a directory");
        return;
    }
    for (kind, file) in [("sysusers", "l1d.sysusers.conf"), ("tmpfiles", "l1d.tmpfiles.conf")] {
        let directory = root.join(format!("usr/lib/{kind}.d"));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("l1d.conf"), read(file)).unwrap();
    }
    fs::create_dir(root.join("etc")).unwrap();

    let at = format!("--root={}", root.display());
    let Some((success, printed)) = tool(Command::new("systemd-sysusers").args([&at, "l1d.conf"]))
    else {
        return;
    };
    assert!(success, "{printed}");
    let users = fs::read_to_string(root.join("etc/passwd")).unwrap();
    let user: Vec<&str> =
        users.lines().find(|line| line.starts_with("l1d:")).unwrap().split(':').collect();
    let [uid, gid] = [user[2], user[3]].map(|id| id.parse::<u32>().unwrap());
    assert!((1..1000).contains(&uid), "{uid} is no system user: logind would delete its table");
    assert!(user[6].ends_with("nologin"));

    let Some((success, printed)) =
        tool(Command::new("systemd-tmpfiles").args([&at, "--create", "l1d.conf"]))
    else {
        return;
    };
    assert!(success, "{printed}");
    let table = fs::metadata(root.join("dev/shm/l1d")).unwrap();
    assert_eq!((table.uid(), table.gid(), table.mode() & 0o7777), (uid, gid, 0o755));
}
