//! Hazards: a server's error is told to the wrong caller, is taken for an absence, or takes a tier
//! away from callers whose requests it serves; a server that cannot serve is never left.

use l1d_wire::snapshot::Breaker;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::mpsc::channel;

use l1d::tiers::{Fetched, Job, Tier, TierEvent, Written};

use crate::bench::{Bench, LONG, found, is_absent};
use test_support::servers::{PATIENCE, Proxy, Server, until};

const MENDED_BY_PEOPLE: &str = "does not end by itself";
const TRY_AGAIN: &str = "try again when it is back";

fn why_failed(fetched: Fetched) -> String {
    match fetched {
        Fetched::Failed { why, .. } | Fetched::Refused { why, .. } => why,
        other => panic!("{other:?}"),
    }
}

fn why_not_applied(written: Written) -> String {
    match written {
        Written::NotApplied { why, .. } | Written::Refused { why, .. } => why,
        other => panic!("{other:?}"),
    }
}

/// Redis with a user `app` who has these rights, and tiers that use it.
fn with_rights(rights: &[&str]) -> (Server, Bench) {
    let l3 = Server::redis();
    set_rights(&l3, &[&["on", ">secret"], rights].concat());
    let address = format!("app:secret@{}", l3.address());
    (l3, Bench::new(None, Some((address, LONG))))
}

fn set_rights(l3: &Server, rights: &[&str]) {
    let words: Vec<&[u8]> =
        [&["ACL", "SETUSER", "app"], rights].concat().into_iter().map(str::as_bytes).collect();
    assert_eq!(l3.client().resp(&words), b"+OK");
}

/// Makes bare GETs likely (`true`), or transactions.
fn make_usual(bench: &Bench, absent: bool) {
    for n in 0..100 {
        let key = if absent { format!("ok:none:{n}") } else { "ok:some".into() };
        bench.fetch(key.as_bytes());
    }
}

#[test]
fn a_key_of_another_type_is_an_error_for_its_caller_alone() {
    let l3 = Server::redis();
    let bench = Bench::new(None, Some((l3.address(), LONG)));
    let mut resp = l3.client();
    resp.resp(&[b"LPUSH", b"list", b"x"]);
    resp.resp(&[b"SET", b"ok:some", b"v"]);
    for absent in [false, true] {
        make_usual(&bench, absent);
        match bench.fetch(b"list") {
            Fetched::Refused { why, .. } => assert!(why.starts_with("WRONGTYPE"), "{why}"),
            other => panic!("{other:?}"),
        }
        bench.tiers.submit_all(batch("list"));
        assert_own_answers(&bench, "WRONGTYPE");
    }
    assert!(bench.tiers.available(Tier::L3));
    // A set overwrites any type.
    assert!(matches!(bench.set(b"list", b"v"), Written::Applied { .. }));
    assert_eq!(found(bench.fetch(b"list")).1, b"v");
}

/// Keys that are there, keys that are not, and `odd` as number 7.
fn batch(odd: &str) -> Vec<Job> {
    let job = |n: u64| match n {
        7 => Bench::fetch_job(n, odd.as_bytes()),
        n if n % 2 == 0 => Bench::fetch_job(n, b"ok:some"),
        n => Bench::fetch_job(n, format!("ok:none:{n}").as_bytes()),
    };
    (0..40).map(job).collect()
}

fn assert_own_answers(bench: &Bench, word: &str) {
    for _ in 0..40 {
        let TierEvent::Fetched { flight, outcome } = bench.done() else { panic!("not a fetch") };
        match flight {
            7 => assert!(why_failed(outcome).starts_with(word)),
            n if n % 2 == 0 => assert_eq!(found(outcome).1, b"v", "{n}"),
            n => assert!(is_absent(&outcome, true), "{n}: {outcome:?}"),
        }
    }
}

#[test]
fn a_key_without_permission_is_refused_to_its_caller_alone() {
    let (l3, bench) = with_rights(&["~ok:*", "+@all"]);
    l3.client().resp(&[b"SET", b"ok:some", b"v"]);
    for absent in [false, true] {
        make_usual(&bench, absent);
        for _ in 0..5 {
            bench.tiers.submit_all(batch("private"));
            assert_own_answers(&bench, "NOPERM");
        }
    }
    for _ in 0..5 {
        let why = why_not_applied(bench.set(b"private", b"v"));
        assert!(why.starts_with("NOPERM") && !why.contains(TRY_AGAIN), "{why}");
    }
    assert!(matches!(bench.set(b"ok:new", b"v"), Written::Applied { .. }));
    let stats = bench.tiers.stats().l3.unwrap();
    assert_eq!((stats.breaker, stats.epoch), (Breaker::Closed, 0), "nobody else is concerned");
}

#[test]
fn a_command_that_is_forbidden_takes_no_other_one_away() {
    let (l3, bench) = with_rights(&["~*", "+@all", "-set"]);
    l3.client().resp(&[b"SET", b"key", b"v"]);
    for _ in 0..10 {
        let why = why_not_applied(bench.set(b"key", b"new"));
        assert!(why.contains("NOPERM") && why.contains(MENDED_BY_PEOPLE), "{why}");
        assert!(bench.tiers.available(Tier::L3), "reads are served");
    }
    assert_eq!(found(bench.fetch(b"key")).1, b"v");

    set_rights(&l3, &["+set", "-get", "-mget"]);
    until("the breaker to open", || {
        let why = why_failed(bench.fetch(b"key"));
        assert!(why.contains("NOPERM") && why.contains(MENDED_BY_PEOPLE), "{why}");
        assert!(!why.contains(TRY_AGAIN), "{why}");
        (!bench.tiers.available(Tier::L3)).then_some(())
    });
    set_rights(&l3, &["+get", "+mget"]);
    until("the tier to be back", || {
        matches!(bench.fetch(b"key"), Fetched::Found { .. }).then_some(())
    });
}

#[test]
fn commands_that_the_server_lacks_are_named_and_done_without_where_possible() {
    let l3 = Server::redis_with(&["--rename-command", "SET", "", "--rename-command", "MGET", ""]);
    let bench = Bench::new(None, Some((l3.address(), LONG)));
    l3.client().resp(&[b"SETEX", b"ok:some", b"1000", b"v"]);
    l3.client().resp(&[b"LPUSH", b"list", b"x"]);
    for _ in 0..5 {
        let why = why_not_applied(bench.set(b"key", b"v"));
        assert!(why.starts_with("ERR unknown command 'SET';"), "{why}");
        assert!(why.contains(MENDED_BY_PEOPLE), "{why}");
    }
    for absent in [false, true] {
        make_usual(&bench, absent);
        bench.tiers.submit_all(batch("list"));
        assert_own_answers(&bench, "WRONGTYPE");
    }
}

/// The hazard: a demoted server refuses all writes until the daemon is restarted.
#[test]
fn after_a_failover_behind_one_address_the_demoted_server_is_left() {
    let (old, new) = (Server::redis(), Server::redis());
    let proxy = Proxy::before(&old);
    let bench = Bench::new(None, Some((proxy.address(), LONG)));
    assert!(matches!(bench.set(b"key", b"one"), Written::Applied { .. }));
    let port = new.port.to_string();
    assert_eq!(old.client().resp(&[b"REPLICAOF", b"127.0.0.1", port.as_bytes()]), b"+OK");
    proxy.lead_to(&new);
    // Nobody has closed the connection to the old one. All of these are under way together.
    let sets = (0..20).map(|n| Bench::set_job(n, format!("key:{n}").as_bytes(), b"two"));
    bench.tiers.submit_all(sets.collect());
    for _ in 0..20 {
        let written = bench.written();
        assert!(matches!(written, Written::Applied { .. }), "{written:?}");
    }
    assert_eq!(new.client().resp(&[b"GET", b"key:7"]), b"two");
    assert_eq!(proxy.connections(), 2);
    assert_eq!(bench.tiers.stats().l3.unwrap().breaker, Breaker::Closed);
}

#[test]
fn a_replica_is_never_taken_for_the_record_and_does_not_cost_a_connection_for_each_write() {
    let (l3, primary) = (Server::redis(), Server::redis());
    let port = primary.port.to_string();
    assert_eq!(l3.client().resp(&[b"REPLICAOF", b"127.0.0.1", port.as_bytes()]), b"+OK");
    let proxy = Proxy::before(&l3);
    let bench = Bench::new(None, Some((proxy.address(), LONG)));
    until("the breaker to open", || {
        let why = why_not_applied(bench.set(b"key", b"v"));
        assert!(why.contains("READONLY") && why.contains(TRY_AGAIN), "{why}");
        (!bench.tiers.available(Tier::L3)).then_some(())
    });
    assert!(proxy.connections() <= 4, "{}", proxy.connections());
    assert_eq!(l3.client().resp(&[b"REPLICAOF", b"NO", b"ONE"]), b"+OK");
    until("writes to be taken", || {
        matches!(bench.set(b"key", b"v"), Written::Applied { .. }).then_some(())
    });
}

#[test]
fn a_server_that_takes_no_writes_goes_on_with_reads() {
    let directory = tempfile("misconf");
    std::fs::create_dir_all(&directory).unwrap();
    let dir = directory.to_str().unwrap();
    let l3 = Server::redis_with(&["--dir", dir, "--dbfilename", "dump", "--save", "3600 1000"]);
    // A snapshot cannot be renamed to a directory.
    std::fs::create_dir_all(directory.join("dump/full")).unwrap();
    let bench = Bench::new(None, Some((l3.address(), LONG)));
    let mut resp = l3.client();
    resp.resp(&[b"SET", b"key", b"v"]);
    let refuses = |word: &str, is_for_people: bool| {
        for _ in 0..5 {
            let why = why_not_applied(bench.set(b"key", b"new"));
            assert!(why.starts_with(word), "{why}");
            assert_eq!(why.contains(MENDED_BY_PEOPLE), is_for_people, "{why}");
        }
        assert!(bench.tiers.available(Tier::L3));
        assert_eq!(found(bench.fetch(b"key")).1, b"v");
    };
    resp.resp(&[b"CONFIG", b"SET", b"min-replicas-to-write", b"1"]);
    refuses("NOREPLICAS", false);
    resp.resp(&[b"CONFIG", b"SET", b"min-replicas-to-write", b"0"]);
    resp.resp(&[b"BGSAVE"]);
    until("the snapshot to fail", || {
        resp.resp(&[b"SET", b"other", b"v"]).starts_with(b"-MISCONF").then_some(())
    });
    refuses("MISCONF", true);
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_server_that_is_loading_has_no_absences_and_is_waited_for() {
    let directory = tempfile("loading");
    std::fs::create_dir_all(&directory).unwrap();
    let dir = directory.to_str().unwrap();
    let plain = ["--dir", dir, "--rdbcompression", "no"];
    let mut first = Server::redis_with(&plain);
    for n in 0..40 {
        first.client().resp(&[b"SET", format!("key:{n}").as_bytes(), &[b'v'; 3000]]);
    }
    assert_eq!(first.client().resp(&[b"SAVE"]), b"+OK");
    first.kill();
    let slowly = ["--key-load-delay", "40000", "--loading-process-events-interval-bytes", "2048"];
    let mut l3 = Server::redis_with(&[&plain[..], &slowly].concat());
    let bench = Bench::new(None, Some((l3.address(), LONG)));
    let why = why_failed(bench.fetch(b"key:1"));
    assert!(why.contains("LOADING") && why.contains(TRY_AGAIN), "{why}");
    assert!(why_not_applied(bench.set(b"new", b"v")).contains("LOADING"));
    let value = until("the data to be loaded", || match bench.fetch(b"key:1") {
        Fetched::Failed { .. } => None,
        fetched => Some(found(fetched).1),
    });
    assert_eq!(value, [b'v'; 3000]);

    // The tests' own restart waits for that. A run of `l1d-lab torture` that did not took the
    // refusal for a damaged value.
    l3.kill();
    l3.restart();
    assert!(l3.client().resp_get(b"key:1").is_some());
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn what_is_wrong_with_a_session_is_said_and_ends_when_it_is_mended() {
    let l3 = Server::redis();
    l3.client().resp(&[b"CONFIG", b"SET", b"requirepass", b"secret"]);
    let mut admin = l3.client();
    admin.resp(&[b"AUTH", b"secret"]);
    let bench = |address| Bench::new(None, Some((address, LONG)));
    let cases = [
        (bench(l3.address()), "NOAUTH"),
        (bench(format!(":wrong@{}", l3.address())), "WRONGPASS"),
        (bench(format!(":secret@{}/99", l3.address())), "DB index"),
    ];
    for (bench, word) in &cases {
        for _ in 0..5 {
            let why = why_failed(bench.fetch(b"key"));
            assert!(why.contains(word) && why.contains(MENDED_BY_PEOPLE), "{why}");
            assert!(!why.contains(TRY_AGAIN), "{why}");
        }
        assert!(!bench.tiers.available(Tier::L3), "{word}");
    }
    admin.resp(&[b"CONFIG", b"SET", b"requirepass", b""]);
    until("the tier to be back", || is_absent(&cases[0].0.fetch(b"key"), true).then_some(()));
}

/// The hazard: a server that does not know meta commands carries out the lines of a value.
#[test]
fn a_memcached_without_meta_commands_gets_no_value() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            for line in BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok) {
                sender.send(line).unwrap();
                let _ = (&stream).write_all(b"ERROR\r\n");
            }
        }
    });
    let bench = Bench::new(Some((address, LONG)), None);
    for _ in 0..5 {
        let why = why_not_applied(bench.set(b"key", b"x\r\nflush_all\r\n"));
        assert!(why.contains("memcached 1.6") && why.contains(MENDED_BY_PEOPLE), "{why}");
    }
    assert!(lines.try_iter().all(|line| line == "mn"));
}

#[test]
fn a_memcached_that_is_not_ready_is_asked_over_another_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().map_while(Result::ok).enumerate() {
            let reader = BufReader::new(stream.try_clone().unwrap());
            std::thread::spawn(move || {
                for line in reader.lines().map_while(Result::ok) {
                    let opaque = line.rsplit(' ').next().unwrap();
                    let answer = match (line.as_str(), number) {
                        ("mn", _) => "MN\r\n".to_owned(),
                        (_, 0) => "SERVER_ERROR out of memory reading request\r\n".to_owned(),
                        _ => format!("VA 1 t-1 f0 {opaque}\r\nv\r\n"),
                    };
                    (&stream).write_all(answer.as_bytes()).unwrap();
                }
            });
        }
    });
    let bench = Bench::new(Some((address, PATIENCE)), None);
    assert_eq!(found(bench.fetch(b"key")).1, b"v");
    assert_eq!(bench.tiers.stats().l2.unwrap().breaker, Breaker::Closed);
}

/// A directory that does not exist yet.
fn tempfile(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("l1d-errors-{name}-{}", std::process::id()))
}
