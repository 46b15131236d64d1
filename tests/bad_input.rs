//! Unusable input: each kind has its own error and exit code, nothing is lost, nothing is left
//! behind, and nothing wrong is ever served.

use l1d_client::{Client, Error};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::process::{Command, Output};
use test_support::daemon::Daemon;
use test_support::servers::until;

const PROGRAM: &str = env!("CARGO_BIN_EXE_l1d");
const SMALL: &str = "[table]\nvalue_bytes_max = \"64KiB\"\n";
const KEYS: u32 = 2000;

fn start() -> Daemon {
    Daemon::start(PROGRAM, SMALL, "16MiB")
}

fn connect(daemon: &Daemon) -> Client {
    Client::connect(daemon.socket()).unwrap()
}

fn fill(daemon: &Daemon) {
    let client = connect(daemon);
    for n in 0..KEYS {
        client.set(format!("key:{n}").as_bytes(), format!("value of {n}").as_bytes()).unwrap();
    }
}

/// Reads every key, asserts that each has its own value or none, and returns how many have one.
fn held(daemon: &Daemon) -> u32 {
    let client = connect(daemon);
    let mut held = 0;
    for n in 0..KEYS {
        if let Some(value) = client.get(format!("key:{n}").as_bytes()).unwrap() {
            assert_eq!(&*value, format!("value of {n}").as_bytes(), "key:{n}");
            held += 1;
        }
    }
    held
}

/// The message and exit code of a daemon that fails to start.
fn refused(mut command: Command) -> (String, i32) {
    let Output { status, stderr, .. } = command.output().unwrap();
    let said = String::from_utf8_lossy(&stderr).into_owned();
    assert!(!said.contains("panicked"), "{said}");
    (said, status.code().expect("an exit code"))
}

#[test]
fn a_sound_table_is_taken_over() {
    let mut daemon = start();
    fill(&daemon);
    daemon.terminate();
    daemon.restart();
    assert_eq!(held(&daemon), KEYS);
}

#[test]
fn a_table_that_is_not_ours_is_left_for_a_new_one_which_says_why() {
    type Spoil = fn(&std::fs::File);
    // Both identity copies hold the layout version after the magic; see LAYOUT.md.
    let cases: [(&str, Spoil, &str); 5] = [
        ("another program's file", |file| file.write_all_at(&[0x55; 4096], 0).unwrap(), "l1d"),
        ("another size", |file| file.set_len((16 << 20) + 4096).unwrap(), "bytes"),
        (
            "others can write",
            |file| {
                file.set_permissions(std::fs::Permissions::from_mode(0o666)).unwrap();
            },
            "others can write",
        ),
        ("empty", |file| file.set_len(0).unwrap(), "bytes"),
        // Byte 1024: the ceiling of the versions that were given out.
        ("no version left", |file| file.write_all_at(&[0xff; 8], 1024).unwrap(), "version ceiling"),
    ];
    for (what, spoil, said) in cases {
        let mut daemon = start();
        fill(&daemon);
        // Even a reader that never asks the daemon leaves the old table.
        daemon.terminate();
        let table = daemon.table();
        spoil(&std::fs::OpenOptions::new().read(true).write(true).open(table).unwrap());
        daemon.restart();
        assert_eq!(held(&daemon), 0, "{what}");
        assert!(daemon.log().contains(said), "{what}: {}", daemon.log());
        connect(&daemon).set(b"key:1", b"value of 1").unwrap();
        assert_eq!(held(&daemon), 1, "{what}");
    }
}

#[test]
fn damaged_bytes_anywhere_cost_entries_and_serve_nothing_wrong() {
    let seed = std::process::id();
    println!("seed {seed}");
    let mut random = u64::from(seed) | 1;
    let mut next = move |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    let mut daemon = start();
    let mut lost = 0;
    for round in 0..12 {
        fill(&daemon);
        daemon.terminate();
        let table =
            std::fs::OpenOptions::new().read(true).write(true).open(daemon.table()).unwrap();
        let bytes = table.metadata().unwrap().len();
        // Header, generations, segment headers and index are in the first part; entries after it.
        let part = [8192, 1 << 20, bytes][round % 3];
        for _ in 0..200 {
            let junk = next(u64::MAX).to_le_bytes();
            table.write_all_at(&junk, next(part - 8)).unwrap();
        }
        damage_values(&table, round % 3 * 10, &mut next);
        daemon.restart();
        lost += KEYS - held_or_damaged(&daemon);
        until("every entry to be verified", || is_verified(&daemon).then_some(()));
        held(&daemon);
        let report = connect(&daemon).admin().check_json().unwrap();
        assert!(report.contains("violation"), "{report}");
    }
    assert!(lost > 0, "nothing was damaged: the test looks in the wrong place");
}

/// Changes a digit in `count` of the values.
fn damage_values(table: &std::fs::File, count: usize, next: &mut impl FnMut(u64) -> u64) {
    const BEGINNING: &[u8] = b"value of ";
    let mut bytes = vec![0; usize::try_from(table.metadata().unwrap().len()).unwrap()];
    table.read_exact_at(&mut bytes, 0).unwrap();
    // Values begin at words.
    let words = (0..bytes.len()).step_by(8);
    let values: Vec<usize> = words.filter(|at| bytes[*at..].starts_with(BEGINNING)).collect();
    for _ in 0..count {
        let at = values[usize::try_from(next(values.len() as u64)).unwrap()] + BEGINNING.len();
        table.write_all_at(&[bytes[at] ^ 1], at as u64).unwrap();
    }
}

fn is_verified(daemon: &Daemon) -> bool {
    let stats: serde_json::Value =
        serde_json::from_str(&connect(daemon).admin().stats_json().unwrap()).unwrap();
    !stats["table"]["is_verifying"].as_bool().unwrap()
}

/// Like `held`. A value whose own bytes were damaged on the medium may be returned until the
/// owner's sweep has found it, but never the value of another key.
fn held_or_damaged(daemon: &Daemon) -> u32 {
    let client = connect(daemon);
    let mut held = 0;
    for n in 0..KEYS {
        if let Some(value) = client.get(format!("key:{n}").as_bytes()).unwrap() {
            let text = String::from_utf8_lossy(&value).into_owned();
            if let Some(other) = text.strip_prefix("value of ").and_then(|n| n.parse::<u32>().ok())
            {
                // A digit may be damaged; an entirely different value belongs to another key.
                assert!(
                    other == n
                        || value.len() != format!("value of {other}").len()
                        || near(other, n),
                    "key:{n} gave {text:?}"
                );
            }
            held += 1;
        }
    }
    held
}

/// One damaged byte could turn one number into the other.
fn near(a: u32, b: u32) -> bool {
    let (a, b) = (a.to_string(), b.to_string());
    a.len() == b.len() && a.bytes().zip(b.bytes()).filter(|(x, y)| x != y).count() <= 1
}

#[test]
fn a_daemon_refuses_to_start_without_the_memory_or_socket_it_needs() {
    let daemon = start();
    fill(&daemon);
    // The socket and the table have an owner.
    let (said, code) = refused(daemon.command());
    assert_eq!(code, 4, "{said}");
    assert!(said.contains("another l1d owns the table"), "{said}");
    assert_eq!(held(&daemon), KEYS, "the one that runs is untouched");

    let mut other = Daemon::start(PROGRAM, SMALL, "16MiB");
    other.terminate();
    other.resize("1MiB");
    let (said, code) = refused(other.command());
    assert!(said.contains("too small") || said.contains("at least"), "{said}");
    assert!(code == 2 || code == 4, "{code}: {said}");

    other.resize("100TiB");
    let (said, code) = refused(other.command());
    assert!(said.contains("the largest has"), "{code}: {said}");

    // A daemon whose table exists goes on with that one.
    std::fs::remove_file(other.table()).unwrap();
    other.resize("4TiB");
    let (said, code) = refused(other.command());
    assert_eq!(code, 4, "{said}");
    assert!(said.contains("free"), "{said}");
    let free = said.split(" bytes are free").next().and_then(|s| s.rsplit(' ').next()).unwrap();
    assert!(free.parse::<u64>().unwrap() > 0, "{said}");
    let left: Vec<_> = std::fs::read_dir(other.table().parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("new"))
        .collect();
    assert!(left.is_empty(), "{left:?}");

    other.resize("16MiB");
    other.configure("[table]\nvalue_bytes_max = 7 lemons\n");
    let (said, code) = refused(other.command());
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("l1d.toml:2"), "{said}");

    other.configure(SMALL);
    other.restart();
    assert_eq!(held(&other), 0);
}

/// Where the daemon is told to be, and what it says instead of starting.
#[test]
fn a_place_that_cannot_be_had_is_refused_in_a_line_that_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).display().to_string();
    std::fs::write(at("file"), "").unwrap();
    std::fs::create_dir(at("tables")).unwrap();
    std::fs::create_dir(at("open")).unwrap();
    std::fs::set_permissions(at("open"), std::fs::Permissions::from_mode(0o777)).unwrap();
    std::os::unix::fs::symlink(at("tables"), at("link")).unwrap();
    let (socket, tables) = ("--socket", "--table-directory");
    let long = "x".repeat(108);
    let cases: &[(&str, &str, &[&str])] = &[
        (tables, "file", &["cannot open the directory", "Not a directory; name a directory"]),
        (tables, "link", &["no symbolic link", tables]),
        (
            tables,
            "missing/tables",
            &["cannot make the directory", "No such file or directory; make"],
        ),
        (tables, "file/tables", &["Not a directory; name a directory", tables]),
        (tables, "open", &["can be written by others (mode 777)", "use a directory that only"]),
        (socket, "file", &["the file there is no socket; remove it, or name another", socket]),
        (socket, "missing/l1d.sock", &["No such file or directory; make its directory", socket]),
        (socket, "file/l1d.sock", &["Not a directory; name another socket", socket]),
        (socket, &long, &["File name too long; name another socket", "107 bytes"]),
        ("--config", "missing.toml", &["cannot be read: No such file or directory; give the path"]),
        ("--config", "tables", &["cannot be read: Is a directory; give the path"]),
    ];
    for (option, name, words) in cases {
        let mut command = Command::new(PROGRAM);
        command.arg("serve");
        let others = [(socket, at("l1d.sock")), (tables, at("t")), ("--table-size", "5MiB".into())];
        for (other, value) in others.iter().filter(|(other, _)| other != option) {
            command.arg(other).arg(value);
        }
        command.arg(option).arg(at(name));
        let (said, code) = refused(command);
        assert_eq!(code, if *option == "--config" { 2 } else { 4 }, "{said}");
        let last = said.lines().last().unwrap_or_default();
        assert!(last.contains(&at(name)), "it does not say where: {last}");
        for word in *words {
            assert!(last.contains(word), "{option} {name}: no {word:?}: {last}");
        }
        for below in ["os error", "entity", "system's message"] {
            assert!(!said.contains(below), "{said}");
        }
    }
}

#[test]
fn a_key_or_value_out_of_bounds_is_refused_and_changes_nothing() {
    let daemon = start();
    let client = connect(&daemon);
    client.set(b"key", b"before").unwrap();
    for (key, value) in [
        (vec![], vec![1]),
        (vec![b'k'; 65_001], vec![1]),
        (b"key".to_vec(), vec![0; (64 << 10) + 1]),
    ] {
        let refused = client.set(&key, &value);
        assert!(matches!(refused, Err(Error::TooLarge { .. })), "{refused:?}");
    }
    client.set(b"largest", vec![7; 64 << 10]).unwrap();
    assert_eq!(client.peek(b"largest").unwrap().len(), 64 << 10);
    assert_eq!(&*client.peek(b"key").unwrap(), b"before");
}

#[cfg(feature = "demo")]
#[test]
fn a_demo_on_a_dead_tier_says_which_and_leaves_nothing() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut demo = Command::new(PROGRAM);
    demo.args(["demo", "--seconds", "1", "--memcached", &closed.to_string()]);
    let (said, code) = refused(demo);
    assert_eq!(code, 5, "{said}");
    assert!(said.contains("memcached") && said.contains(&closed.to_string()), "{said}");
}
