//! The hazards of a policy that changes while processes use it: a rule that has not changed loses
//! its entries, an entry outlives what its rule allows now, a process goes on under the former
//! policy, a mistake in the file takes effect. Through the built binaries.

use l1d_client::{Client, Error, Source};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};
use test_support::daemon::{Daemon, connect};
use test_support::random::Random;
use test_support::servers::until;

const PROGRAM: &str = env!("CARGO_BIN_EXE_l1d");

fn rule(prefix: &str, settings: &str) -> String {
    format!("[[policy]]\nprefix = \"{prefix}\"\n{settings}\n")
}

fn config(rules: &[(&str, &str)]) -> String {
    let rules: String = rules.iter().map(|(prefix, settings)| rule(prefix, settings)).collect();
    format!("[table]\nvalue_bytes_max = \"64KiB\"\n[defaults]\nttl = \"1h\"\n{rules}")
}

fn start(config: &str) -> Daemon {
    Daemon::start(PROGRAM, config, "16MiB")
}

fn l1ctl(socket: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_l1ctl"));
    command.arg("--socket").arg(socket).args(arguments).output().unwrap()
}

/// Reloads `config`, and returns what the daemon says has happened.
fn reload(daemon: &Daemon, config: &str) -> Value {
    daemon.configure(config);
    let output = l1ctl(&daemon.socket(), &["--json", "policy", "reload"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Which of `keys` are in the table.
fn kept<'a>(client: &Client, keys: &[&'a str]) -> Vec<&'a str> {
    keys.iter().copied().filter(|key| client.peek(key).is_some()).collect()
}

fn fill(client: &Client, keys: &[&str]) {
    for key in keys {
        client.set(key, key).unwrap();
    }
}

fn ttl_ms(client: &Client, key: &str) -> u64 {
    let explained: Value =
        serde_json::from_str(&client.admin().explain_json(key).unwrap()).unwrap();
    explained["policy"]["ttl_ms"].as_u64().unwrap()
}

#[test]
fn a_reload_by_a_signal_the_tool_and_the_library_drops_the_changed_rule_alone() {
    let with = |ttl: &str| config(&[("a:", ttl), ("b:", "ttl = \"10m\"")]);
    let daemon = start(&with("ttl = \"10m\""));
    let client = connect(&daemon);
    let keys = ["a:1", "b:1", "other"];
    let ttls = ["ttl = \"9m\"", "ttl = \"8m\"", "ttl = \"7m\""];
    for (way, ttl) in ttls.into_iter().enumerate() {
        fill(&client, &keys);
        daemon.configure(&with(ttl));
        match way {
            0 => {
                daemon.signal(Signal::SIGHUP);
                let wanted = 9 * 60_000;
                until("the reload", || (ttl_ms(&client, "a:1") == wanted).then_some(()));
                until("the log", || daemon.log().contains("was reloaded").then_some(()));
            }
            1 => assert!(l1ctl(&daemon.socket(), &["policy", "reload"]).status.success()),
            _ => drop(client.admin().reload_policy().unwrap()),
        }
        assert_eq!(kept(&client, &keys), ["b:1", "other"], "{ttl}");
    }
    let log = daemon.log();
    let said = "rule \"a:\": changed; its entries are dropped, because its ttl is shorter \
                (ttl_ms 600000 -> 540000)";
    assert!(log.contains(said), "{log}");
}

#[test]
fn settings_that_no_entry_depends_on_drop_nothing() {
    let daemon = start(&config(&[("a:", "ttl = \"1m\""), ("b:", ""), ("c:", "")]));
    let client = connect(&daemon);
    let keys = ["a:1", "b:1", "c:1", "other"];
    fill(&client, &keys);
    let changed =
        [("c:", "share_max = \"10%\""), ("b:", "l2_ttl = \"1s\""), ("a:", "ttl = \"2m\"")];
    let report = reload(&daemon, &config(&changed));
    assert_eq!(kept(&client, &keys), keys);
    assert_eq!(report["rules"].as_array().unwrap().len(), 3, "{report}");
    let report = reload(&daemon, &config(&changed));
    assert_eq!(report["rules"].as_array().unwrap().len(), 0, "{report}");
}

#[test]
fn a_new_and_a_removed_prefix_drop_the_keys_whose_rule_changes_and_no_others() {
    let long = "ttl = \"30m\"";
    let daemon = start(&config(&[("a:", ""), ("a:old:", long), ("b:", "")]));
    let client = connect(&daemon);
    let keys = ["a:1", "a:new:1", "a:new:2", "a:old:1", "b:1", "c:1", "c:new:1"];
    fill(&client, &keys);
    let report =
        reload(&daemon, &config(&[("b:", ""), ("c:new:", ""), ("a:new:", ""), ("a:", "")]));
    assert_eq!(kept(&client, &keys), ["a:1", "b:1", "c:1"]);
    assert_eq!(report["entries_of_other_rules_dropped"], 3, "{report}");
    // A number that was used before means nothing to entries of its former rule.
    fill(&client, &keys);
    reload(&daemon, &config(&[("a:old:", long), ("b:", ""), ("c:new:", ""), ("a:", "")]));
    assert_eq!(kept(&client, &keys), ["a:1", "b:1", "c:1", "c:new:1"]);
}

#[test]
fn a_smaller_value_and_another_scope_hold_for_attached_processes_at_their_next_call() {
    let daemon = start(&config(&[("p:", "scope = \"process\""), ("h:", "")]));
    let (client, other) = (connect(&daemon), connect(&daemon));
    client.set(b"p:1", b"one").unwrap();
    assert_eq!(client.peek(b"p:1").unwrap().meta().source, Source::Process);
    assert!(other.peek(b"p:1").is_none());
    let polled = connect(&daemon);
    polled.set(b"p:1", b"zero").unwrap();
    reload(&daemon, &config(&[("p:", ""), ("h:", "value_bytes_max = \"10B\"")]));
    assert!(client.peek(b"p:1").is_none(), "kept in the process under the former policy");
    let mut pending = polled.request(b"p:1");
    let answer = until("the answer", || pending.poll()).unwrap();
    assert!(answer.found().is_none(), "nor by a request that is polled");
    assert!(matches!(client.set(b"h:1", [0; 11]), Err(Error::TooLarge { .. })));
    other.set(b"p:1", b"two").unwrap();
    assert_eq!(&*client.peek(b"p:1").unwrap(), b"two", "now in the table");
    reload(&daemon, &config(&[("p:", "scope = \"process\""), ("h:", "")]));
    assert!(client.peek(b"p:1").is_none(), "left in the table under the former policy");
    client.set(b"p:1", b"three").unwrap();
    assert_eq!(client.peek(b"p:1").unwrap().meta().source, Source::Process);
    client.set(b"h:1", [0; 11]).unwrap();
}

#[test]
fn an_error_in_the_file_changes_nothing_and_is_shown_with_its_line() {
    let right = config(&[("a:", "ttl = \"1m\"")]);
    let daemon = start(&right);
    let client = connect(&daemon);
    fill(&client, &["a:1"]);
    let wrong = config(&[("a:", "ttl = \"0s\""), ("b:", "scope = \"planet\"")]);
    let lines: Vec<usize> = ["\"0s\"", "planet"]
        .map(|text| wrong.lines().position(|line| line.contains(text)).unwrap() + 1)
        .into();
    for wrong in [wrong.as_str(), "[[policy]\n"] {
        daemon.configure(wrong);
        let output = l1ctl(&daemon.socket(), &["policy", "reload"]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(4), "{said}");
        assert!(said.contains("nothing has changed"), "{said}");
        let shown = if wrong.len() > 20 { lines.as_slice() } else { &[1] };
        for line in shown {
            assert!(said.contains(&format!("l1d.toml:{line}:")), "{line}: {said}");
            until("the log", || daemon.log().contains(&format!("l1d.toml:{line}:")).then_some(()));
        }
    }
    assert_eq!((kept(&client, &["a:1"]), ttl_ms(&client, "a:1")), (vec!["a:1"], 60_000));
    reload(&daemon, &right);
}

#[test]
fn settings_outside_the_policy_are_applied_or_need_a_restart() {
    let daemon = start("[table]\nvalue_bytes_max = \"64KiB\"\n");
    let report = reload(
        &daemon,
        "[daemon]\nclients_max = 99\nlog = \"debug\"\n[table]\nvalue_bytes_max = \"32KiB\"\n\
         ttl_max = \"2h\"\nabsent_share_max = \"1%\"\n[l2]\naddress = \"127.0.0.1:1\"\n\
         [status]\nlisten = \"127.0.0.1:9401\"\n",
    );
    let names = |field: &str| {
        let names = report[field].as_array().unwrap().iter().map(|name| name.as_str().unwrap());
        names.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(names("applied"), ["[table] absent_share_max", "[table] ttl_max"]);
    let needs = [
        "[daemon] clients_max",
        "[daemon] log",
        "[l2]",
        "[status] listen",
        "[table] value_bytes_max",
    ];
    assert_eq!(names("needs_restart"), needs);
    until("the log", || daemon.log().contains("clients_max has changed and needs").then_some(()));
}

#[test]
fn the_tool_shows_which_rule_holds_and_where_its_settings_come_from() {
    let daemon = start(&config(&[("a:", "ttl = \"1m\""), ("a:b:", "share_max = \"20%\"")]));
    let show = |key: &str| -> Value {
        let output = l1ctl(&daemon.socket(), &["--json", "policy", "show", key]);
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let shown = show("a:b:c");
    assert_eq!(shown["rule"], "\"a:b:\"");
    assert_eq!(shown["rule_number"], 2);
    let matching = ["\"a:b:\"", "\"a:\"", "[defaults], which holds for all keys"];
    assert_eq!(shown["matching"], Value::from(matching.to_vec()));
    let from = |setting: &str| shown["settings"][setting]["from"].as_str().unwrap().to_owned();
    assert_eq!(from("share_max_percent"), "the rule");
    assert_eq!(from("ttl_ms"), "[defaults]");
    assert!(from("scope").starts_with("built in"), "{shown}");
    assert_eq!(shown["settings"]["ttl_ms"]["value"], 3_600_000);
    let text = l1ctl(&daemon.socket(), &["policy", "show", "x"]).stdout;
    assert!(String::from_utf8(text).unwrap().contains("[defaults]"));
    assert!(l1ctl(&daemon.socket(), &["policy"]).status.success());
}

#[test]
fn no_hit_under_unchanged_rules_is_lost_while_100_rules_are_reloaded() {
    let prefixes: Vec<String> = (0..100).map(|n| format!("p{n:02}:")).collect();
    let with = |ttl: &str, backwards: bool| {
        let ttl = format!("ttl = \"{ttl}\"");
        let mut rules: Vec<(&str, &str)> =
            prefixes.iter().map(|prefix| (prefix.as_str(), "ttl = \"20m\"")).collect();
        rules.push(("local:", "scope = \"process\""));
        rules[50].1 = &ttl;
        if backwards {
            rules.reverse();
            rules.insert(7, ("new:", ""));
        }
        config(&rules)
    };
    let daemon = start(&with("20m", false));
    let client = connect(&daemon);
    let key = |n: usize| format!("p{:02}:{n}", n % 100);
    let mut keys: Vec<String> = (0..2000).map(key).filter(|key| !key.starts_with("p50:")).collect();
    keys.extend((0..20).map(|n| format!("local:{n}")));
    for key in &keys {
        client.set(key, b"value").unwrap();
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let read = || {
            let (mut hits, mut lost) = (0_u64, Vec::new());
            while !stop.load(Ordering::Relaxed) {
                for key in &keys {
                    match client.peek(key) {
                        Some(_) => hits += 1,
                        None => lost.push(key.clone()),
                    }
                }
            }
            (hits, lost)
        };
        let readers = [scope.spawn(read), scope.spawn(read)];
        for n in 0..20 {
            let ttls = ["10m", "20m", "5m"];
            reload(&daemon, &with(ttls[n % 3], n % 2 == 0));
        }
        stop.store(true, Ordering::Relaxed);
        for reader in readers {
            let (hits, lost) = reader.join().unwrap();
            assert!(hits > 10_000 && lost.is_empty(), "{hits} hits, {} lost: {lost:?}", lost.len());
        }
    });
}

#[test]
fn a_restart_with_a_changed_file_is_like_a_reload() {
    let mut daemon =
        start(&config(&[("a:", "ttl = \"30m\""), ("b:", ""), ("c:", ""), ("gone:", "")]));
    let client = connect(&daemon);
    let keys = ["a:1", "b:1", "c:1", "c:new:1", "gone:1", "other"];
    fill(&client, &keys);
    for is_killed in [true, false] {
        match is_killed {
            true => daemon.kill(),
            false => drop(daemon.terminate()),
        }
        daemon.configure(&config(&[
            ("c:new:", ""),
            ("c:", ""),
            ("b:", ""),
            ("a:", if is_killed { "ttl = \"20m\"" } else { "ttl = \"10m\"" }),
        ]));
        daemon.restart();
        assert_eq!(kept(&connect(&daemon), &keys), ["b:1", "c:1", "other"]);
        let log = daemon.log();
        assert!(log.contains("rule \"a:\": changed; its entries are dropped"), "{log}");
        assert!(!log.contains("all entries were dropped"), "{log}");
        if is_killed {
            assert!(log.contains("rule \"gone:\": removed"), "{log}");
            assert!(log.contains("rule \"c:new:\": new"), "{log}");
        }
        fill(&connect(&daemon), &["a:1"]);
    }
    // Without the numbers, nothing is known of the entries' rules.
    daemon.kill();
    std::fs::remove_file(daemon.table().with_file_name("policy-numbers")).unwrap();
    daemon.restart();
    assert_eq!(kept(&connect(&daemon), &keys).len(), 0);
    assert!(daemon.log().contains("all entries were dropped"), "{}", daemon.log());
}

#[test]
fn the_numbers_follow_a_move_of_the_table() {
    let mut daemon = start(&config(&[("a:", ""), ("b:", ""), ("c:", "")]));
    let client = connect(&daemon);
    let keys = ["b:1", "c:1", "d:1"];
    reload(&daemon, &config(&[("d:", ""), ("c:", ""), ("b:", "")]));
    fill(&client, &keys);
    client.admin().resize(Some(24 << 20), None).unwrap();
    daemon.resize("24MiB");
    daemon.kill();
    daemon.restart();
    assert_eq!(kept(&connect(&daemon), &keys), keys);
    assert!(!daemon.log().contains("has changed since"), "{}", daemon.log());
}

#[test]
fn a_stopped_or_slow_file_does_not_hold_up_the_daemon_and_both_who_ask_are_answered() {
    let daemon = start(&config(&[("a:", "ttl = \"30m\"")]));
    let client = connect(&daemon);
    fill(&client, &["a:1"]);
    // Opening a pipe for reading waits until someone writes to it.
    let file = daemon.socket().with_file_name("l1d.toml");
    std::fs::remove_file(&file).unwrap();
    nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::thread::scope(|scope| {
        let ask = || l1ctl(&daemon.socket(), &["--deadline", "20s", "policy", "reload"]).status;
        let began = Instant::now();
        let hasty = l1ctl(&daemon.socket(), &["--deadline", "200ms", "policy", "reload"]);
        assert!(!hasty.status.success() && began.elapsed() < Duration::from_secs(10));
        // Its reload is under way, and is the one that the first of these waits for.
        let asked = [scope.spawn(ask), scope.spawn(ask)];
        sleep(Duration::from_millis(200));
        let began = Instant::now();
        for n in 0..1000 {
            client.set(format!("a:{n}"), b"value").unwrap();
        }
        assert!(began.elapsed() < Duration::from_secs(5));
        // Once for the first, and once more for the second, who came after it was read.
        for _ in 0..2 {
            std::fs::write(&file, config(&[("a:", "ttl = \"10m\"")])).unwrap();
            sleep(Duration::from_millis(200));
        }
        for asked in asked {
            assert!(asked.join().unwrap().success());
        }
    });
    assert_eq!(ttl_ms(&client, "a:1"), 600_000);
}

const PREFIXES: [&str; 5] = ["a:", "a:x:", "a:x:y:", "b:", "c:"];

/// Some of the prefixes, in any order, with any lives.
fn any_config(random: &mut Random) -> String {
    let mut rules = Vec::new();
    for prefix in PREFIXES {
        if random.below(3) > 0 {
            let ttl = ["ttl = \"5s\"", "ttl = \"50s\"", "ttl = \"500s\""][random.below(3)];
            rules.insert(random.below(rules.len() + 1), (prefix, ttl));
        }
    }
    config(&rules)
}

/// Every entry is under its key's rule, and lives no longer than that allows.
fn assert_lawful(client: &Client, keys: &[String]) -> usize {
    let mut visible = 0;
    for key in keys {
        let explained: Value =
            serde_json::from_str(&client.admin().explain_json(key).unwrap()).unwrap();
        let (entry, rule) = (&explained["in_table"], &explained["policy"]);
        if entry.is_null() {
            continue;
        }
        visible += 1;
        assert_eq!(entry["stored_under_policy"], rule["id"], "{explained}");
        let (left, most) = (entry["ttl_ms"].as_u64().unwrap(), rule["ttl_ms"].as_u64().unwrap());
        assert!(left <= most + 20, "{explained}");
    }
    visible
}

#[test]
fn a_kill_at_any_moment_of_a_reload_leaves_no_entry_under_a_wrong_rule() {
    let mut random = Random::new();
    let keys: Vec<String> = ["", "a:", "a:x:", "a:x:y:", "b:", "c:"]
        .iter()
        .flat_map(|prefix| (0..20).map(move |n| format!("{prefix}{n}")))
        .collect();
    // A large index, so that the walk takes a while.
    let any_config = |random: &mut Random| {
        any_config(random).replacen("[table]", "[table]\naverage_entry_bytes = 48", 1)
    };
    let mut former = any_config(&mut random);
    let mut daemon = start(&former);
    let began = Instant::now();
    let mut visible = 0;
    while began.elapsed() < Duration::from_secs(6) {
        let client = connect(&daemon);
        for key in &keys {
            client.set(key, b"before").unwrap();
        }
        let reloaded = any_config(&mut random);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let quick = Client::builder().socket(daemon.socket());
                let Ok(writer) = quick.deadline(Duration::from_millis(50)).connect() else {
                    return;
                };
                for key in keys.iter().cycle().take_while(|_| !stop.load(Ordering::Relaxed)) {
                    let _ = writer.set(key, b"meanwhile");
                }
            });
            daemon.configure(&reloaded);
            daemon.signal(Signal::SIGHUP);
            sleep(Duration::from_micros(random.below(8000) as u64));
            daemon.signal(Signal::SIGKILL);
            stop.store(true, Ordering::Relaxed);
        });
        daemon.kill();
        former = match random.below(3) {
            0 => former,
            1 => reloaded,
            _ => any_config(&mut random),
        };
        daemon.configure(&former);
        daemon.restart();
        visible += assert_lawful(&connect(&daemon), &keys);
    }
    assert!(visible > 0, "nothing has survived anything");
}
