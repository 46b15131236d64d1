//! The hazard: a unit that systemd partly ignores. It logs only a warning for a line that it cannot
//! parse, so a misspelt directive silently costs a protection, or the table.

use super::{L1CTL, L1D, notice, read, tool};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

/// All units.
const UNITS: [&str; 6] = [
    "l1d.service",
    "l1d.socket",
    "l1d@.service",
    "l1d@.socket",
    "l1d.slice",
    "var-cache-l1d.mount",
];
const DROP_INS: [&str; 3] =
    ["drop-ins/unix-tiers.conf", "drop-ins/table-mount.conf", "drop-ins/notify-reload.conf"];

/// The complaints of `systemd-analyze verify` about our units, with the unit's text changed by
/// `change`.
fn complaints(change: impl Fn(String) -> String) -> Option<String> {
    let copy = tempfile::tempdir().unwrap();
    for unit in UNITS {
        // ExecStart= and ExecReload= must name programs that exist.
        let text = change(read(unit).replace("/usr/bin/l1ctl", L1CTL).replace("/usr/bin/l1d", L1D));
        fs::write(copy.path().join(unit), text).unwrap();
    }
    let (success, printed) = tool(
        Command::new("systemd-analyze")
            .arg("verify")
            .args(UNITS.map(|unit| format!("./{}", unit.replace("l1d@.", "l1d@an-instance."))))
            // Messages about other units on this machine are not ours.
            .env("SYSTEMD_LOG_LEVEL", "warning")
            .current_dir(copy.path()),
    )?;
    let ours: Vec<&str> =
        printed.lines().filter(|line| line.contains("l1d.") || line.contains("l1d@")).collect();
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

/// The unit of an instance is that of the host with other names.
fn of_an_instance(service: &str) -> String {
    let head = "# The daemon that owns the host's L1 table. README.md beside this file says how to \
                install it.\n";
    let (first, rest) = service.split_at(head.len());
    assert_eq!(first, head);
    let mut text =
        "# One of several daemons of a host, each for one trust domain: l1d@NAME.service \
                    has the user l1d-NAME,\n# its own table, socket and configuration. README.md \
                    beside this file says how to add one. Made from\n# l1d.service by a test: \
                    change that, and run L1D_RECORD=1 cargo test --test systemd.\n"
            .to_owned();
    text.push_str(rest);
    for (host, instance) in [
        (
            "Description=l1d, one shared-memory L1 cache for every process of this host",
            "Description=l1d for %i, a shared-memory L1 cache of its own",
        ),
        ("=l1d.socket", "=l1d@%i.socket"),
        ("belongs to l1d.socket", "belongs to l1d@.socket"),
        (
            "# One daemon per host.",
            "# The configuration says nothing of places, which are the instance's.",
        ),
        (
            "ExecStart=/usr/bin/l1d serve --config /etc/l1d/l1d.toml",
            "ExecStart=/usr/bin/l1d serve --config /etc/l1d/%i.toml --socket /run/l1d@%i/l1d.sock \
          --table-directory /dev/shm/l1d@%i",
        ),
        (
            "ExecReload=/usr/bin/l1ctl policy",
            "ExecReload=/usr/bin/l1ctl --socket /run/l1d@%i/l1d.sock policy",
        ),
        ("User=l1d\n", "User=l1d-%i\n"),
        ("Group=l1d\n", "Group=l1d-%i\n"),
        ("# /run/l1d, for", "# /run/l1d@NAME, for"),
        ("RuntimeDirectory=l1d\n", "RuntimeDirectory=l1d@%i\n"),
        ("except /run/l1d and", "except /run/l1d@NAME and"),
    ] {
        assert!(text.contains(host), "{host} is not in l1d.service");
        text = text.replace(host, instance);
    }
    text
}

#[test]
fn an_instance_has_the_unit_of_the_host_with_its_own_places() {
    let made = of_an_instance(&read("l1d.service"));
    if std::env::var_os("L1D_RECORD").is_some() {
        fs::write(super::directory().join("l1d@.service"), &made).unwrap();
    }
    assert_eq!(read("l1d@.service"), made);
}

/// The exposure that `systemd-analyze security` sees, in tenths.
fn exposure(unit: &str) -> Option<u32> {
    let copy = tempfile::tempdir().unwrap();
    let file = copy.path().join("l1d.service");
    fs::write(&file, unit.replace("/usr/bin/l1ctl", L1CTL).replace("/usr/bin/l1d", L1D)).unwrap();
    let (_, printed) = tool(
        Command::new("systemd-analyze").args(["security", "--offline=yes", "--no-pager"]).arg(file),
    )?;
    let (_, level) = printed.rsplit_once("l1d.service: ")?;
    let (whole, tenths) = level.split_once(' ')?.0.split_once('.')?;
    Some(whole.parse::<u32>().ok()? * 10 + tenths.parse::<u32>().ok()?)
}

#[test]
fn the_exposure_is_what_the_documents_say() {
    let service = read("l1d.service");
    let without_network = format!("{service}\n{}", read("drop-ins/unix-tiers.conf"));
    let Some(found) = exposure(&service) else {
        return notice("systemd-analyze cannot look at a unit offline");
    };
    assert!(found <= 12, "with network tiers: {found} tenths");
    assert!(exposure(&without_network).unwrap() <= 5);
    assert!(exposure(&service.replace("SystemCallFilter", "# SystemCallFilter")).unwrap() > 12);
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
    let others = ["l1d.sysusers.conf", "l1d.tmpfiles.conf"];
    for file in UNITS.into_iter().chain(DROP_INS).chain(others) {
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
