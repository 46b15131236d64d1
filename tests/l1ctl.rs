//! The tool, through the built binary: answers, exit codes, and error messages.

use std::process::{Command, Output};
use test_support::daemon::Daemon;

fn l1ctl(socket: &std::path::Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_l1ctl"))
        .arg("--socket")
        .arg(socket)
        .args(arguments)
        .output()
        .unwrap()
}

#[test]
fn every_command_answers_with_its_exit_code() {
    let config =
        "[table]\nvalue_bytes_max = \"64KiB\"\n[[policy]]\nprefix = \"a:\"\nttl = \"5s\"\n";
    let daemon = Daemon::start(env!("CARGO_BIN_EXE_l1d"), config, "16MiB");
    let socket = daemon.socket();
    let run = |arguments: &[&str]| {
        let output = l1ctl(&socket, arguments);
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.code().unwrap(), text)
    };
    assert_eq!(run(&["get", "a:1"]).0, 1);
    assert_eq!(run(&["set", "a:1", "one", "--flags", "3"]), (0, String::new()));
    assert_eq!(run(&["get", "a:1"]), (0, "one".into()));
    assert_eq!(run(&["--hex", "get", "613a31"]).1, "one");
    let (_, json) = run(&["--json", "get", "a:1"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((json["value"]["text"].as_str(), json["flags"].as_u64()), (Some("one"), Some(3)));
    let (code, explained) = run(&["--json", "explain", "a:1"]);
    let explained: serde_json::Value = serde_json::from_str(&explained).unwrap();
    assert_eq!((code, explained["policy"]["prefix"].as_str()), (0, Some("a:")));
    assert_eq!(explained["in_table"]["flags"], 3);
    assert!(run(&["check"]).1.contains("violation count"));
    for (screen, words) in [
        (&["stats"][..], "Hit ratio"),
        (&["clients"], "l1ctl"),
        (&["policies"], "a:"),
        (&["tiers"], "No tiers are configured"),
    ] {
        let (code, page) = run(screen);
        assert!(code == 0 && page.contains(words), "{page}");
        assert!(page.lines().all(|line| line.chars().count() <= 80), "{page}");
        assert!(!page.contains('\x1b'), "no colours into a pipe: {page}");
        let (code, json) = run(&[&["--json"], screen].concat());
        assert!(code == 0 && serde_json::from_str::<serde_json::Value>(&json).is_ok(), "{json}");
    }
    assert!(run(&["policy"]).1.contains("a:"));
    assert_eq!(run(&["delete", "a:1"]).0, 0);
    assert_eq!(run(&["delete", "a:1"]).0, 1);
    let forever = ["set", "a:2", "two", "--ttl", "forever"];
    let output = l1ctl(&socket, &forever);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && told.contains("lives for 1day only"), "{told}");
    let (_, told) = run(&["--json", "set", "a:2", "two", "--ttl", "2days"]);
    assert!(told.contains("\"shortened_to_seconds\":86400.0"), "{told}");
    run(&["set", "a:2", "two"]);
    run(&["set", "b:2", "two"]);
    assert_eq!(run(&["flush", "a:"]).0, 0);
    assert_eq!((run(&["get", "a:2"]).0, run(&["get", "b:2"]).0), (1, 0));
    assert_eq!(run(&["flush"]).0, 0);
    assert_eq!(run(&["get", "b:2"]).0, 1);
    assert_eq!(run(&["frobnicate"]).0, 2);
    assert_eq!(run(&["--hex", "get", "6x"]).0, 2);
    assert_eq!(run(&["set", "a:1", &"x".repeat((64 << 10) + 1)]).0, 2);
}

#[test]
fn operations_say_whether_they_were_done() {
    let config = "[table]\nvalue_bytes_max = \"64KiB\"\n";
    let daemon = Daemon::start(env!("CARGO_BIN_EXE_l1d"), config, "16MiB");
    let socket = daemon.socket();
    let run = |arguments: &[&str]| {
        let output = l1ctl(&socket, arguments);
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.code().unwrap(), text)
    };
    let json = |arguments: &[&str]| {
        let (code, text) = run(&[&["--json"], arguments].concat());
        (code, serde_json::from_str::<serde_json::Value>(&text).unwrap())
    };
    for absent in [&["replace", "k", "v"][..], &["append", "k", "v"], &["touch", "k", "5s"]] {
        assert_eq!(run(absent), (1, String::new()), "{absent:?}");
    }
    let (code, added) = json(&["add", "k", "one", "--ttl", "30", "--flags", "3"]);
    assert_eq!((code, added["done"].as_bool()), (0, Some(true)));
    assert_eq!(json(&["add", "k", "two"]).1["reason"], "exists");
    assert_eq!(run(&["append", "k", "!"]).0, 0);
    assert_eq!(run(&["prepend", "k", "?"]).0, 0);
    let old = added["version"].to_string();
    let (code, conflict) = json(&["cas", "k", &old, "three"]);
    assert_eq!((code, conflict["reason"].as_str()), (1, Some("conflict")));
    // Exact, though it is larger than a double can tell.
    let version = json(&["get", "k"]).1["version"].as_u64().unwrap();
    assert!(version > 1 << 53);
    assert_eq!(run(&["cas", "k", &version.to_string(), "three"]).0, 0);
    assert_eq!(run(&["get", "k"]).1, "three");
    assert_eq!(run(&["cas", "k", "0", "four"]).0, 2);
    assert_eq!(run(&["touch", "k", "forever"]).0, 0);
    assert_eq!(run(&["replace", "k", "x"]).0, 0);
    assert_eq!(run(&["incr", "k"]).0, 4, "not a number");

    assert_eq!(run(&["incr", "n"]).0, 1, "no counter, and nothing to begin with");
    assert_eq!(run(&["incr", "n", "--initial", "-5", "--ttl", "1m"]), (0, "-5\n".into()));
    assert_eq!(run(&["incr", "n"]), (0, "-4\n".into()));
    assert_eq!(run(&["incr", "n", "-6"]), (0, "-10\n".into()));
    assert_eq!(run(&["decr", "n", "32"]), (0, "-42\n".into()));
    assert_eq!(json(&["incr", "n", "0"]).1["value"], -42);
}

/// `l1ctl stats | head -1`, and a full disk.
#[test]
fn a_closed_pipe_is_no_failure_and_a_full_disk_is_one() {
    let daemon = Daemon::start(env!("CARGO_BIN_EXE_l1d"), "", "128MiB");
    let run = |arguments: &[&str], out: std::process::Stdio| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_l1ctl"));
        command.arg("--socket").arg(daemon.socket()).args(arguments).stdout(out);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(run(&["set", "k", "value"], std::process::Stdio::null()).0, Some(0));
    for arguments in [
        &["stats"][..],
        &["--json", "stats"],
        &["stats", "--clients"],
        &["stats", "--watch", "0.1"],
        &["clients"],
        &["policies"],
        &["tiers"],
        &["explain", "k"],
        &["explain", "--table"],
        &["check"],
        &["policy"],
        &["advise"],
        &["get", "k"],
        &["--json", "get", "k"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        assert_eq!(run(arguments, writer.into()), (Some(0), String::new()), "{arguments:?}");
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let (code, said) = run(arguments, full.into());
        assert_eq!(code, Some(2), "{arguments:?}");
        let words = "cannot write to standard output: No space left on device; ";
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
}

/// `l1ctl get absent 2>&1 | true`: exit codes do not depend on whether the message can be written.
#[test]
fn a_message_that_nobody_reads_changes_no_exit_code() {
    let daemon = Daemon::start(env!("CARGO_BIN_EXE_l1d"), "", "128MiB");
    let socket = daemon.socket();
    let nowhere = std::path::Path::new("/nonexistent/l1d.sock");
    let wrong = nowhere.to_str().unwrap();
    let l1d = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_l1d"));
        command.args(arguments);
        command
    };
    let l1ctl = |socket: &std::path::Path, arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_l1ctl"));
        command.arg("--socket").arg(socket).args(arguments);
        command
    };
    for (mut command, code) in [
        (l1ctl(&socket, &["get", "absent"]), 1),
        (l1ctl(&socket, &["delete", "absent"]), 1),
        (l1ctl(&socket, &["--hex", "get", "6x"]), 2),
        (l1ctl(&socket, &["frobnicate"]), 2),
        (l1ctl(&socket, &["--help"]), 0),
        (l1ctl(nowhere, &["stats"]), 3),
        (l1d(&["check-config", wrong]), 2),
        (l1d(&["serve", "--config", wrong]), 2),
        (l1d(&["serve", "--socket", wrong, "--table-directory", wrong]), 4),
        (l1d(&["--help"]), 0),
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        command.stdout(writer.try_clone().unwrap()).stderr(writer);
        let status = command.status().unwrap();
        assert_eq!(status.code(), Some(code), "{command:?}");
    }
}

/// `l1ctl stats --watch | ...`: screens until nobody reads on.
#[test]
fn a_watch_goes_on_until_nobody_reads() {
    let daemon = Daemon::start(env!("CARGO_BIN_EXE_l1d"), "", "128MiB");
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_l1ctl"));
    command.arg("--socket").arg(daemon.socket()).args(["stats", "--watch", "0.1"]).stdout(writer);
    let mut watching = command.spawn().unwrap();
    drop(command);
    let lines = std::io::BufRead::lines(std::io::BufReader::new(reader));
    let ratios = lines.map(Result::unwrap).filter(|line| line.starts_with("Hit ratio")).take(3);
    assert_eq!(ratios.count(), 3);
    assert!(watching.wait().unwrap().success());
}

#[test]
fn without_a_daemon_it_says_so() {
    let output = l1ctl(std::path::Path::new("/nonexistent/l1d.sock"), &["stats"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8(output.stderr).unwrap().contains("/nonexistent/l1d.sock"));
}

/// A daemon with bad input fails to start with its own message and exit code, and leaves nothing
/// behind.
#[test]
fn a_daemon_that_cannot_start_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let config = path.join("l1d.toml");
    let serve = |text: &str, size: &str| {
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_l1d"));
        command.arg("serve").arg("--config").arg(&config);
        command.arg("--socket").arg(path.join("sock")).args(["--table-size", size]);
        command.arg("--table-directory").arg(path.join("tables"));
        let output = command.output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, error) = serve("[table]\nsiez = 1\n", "64MiB");
    assert!(code == 2 && error.contains("l1d.toml:2:1"), "{error}");
    let (code, error) = serve("", "1MiB");
    assert!(code == 4 && error.contains("the smallest that would do"), "{error}");
    let (code, error) = serve("", "900TiB");
    assert!(code == 4, "{error}");
    std::fs::write(path.join("sock"), "no socket").unwrap();
    let (code, error) = serve("", "128MiB");
    assert!(code == 4 && error.contains("--socket"), "{error}");
    assert!(!path.join("tables/table").exists() && !path.join("tables/table.new").exists());
}
