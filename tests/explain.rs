//! `explain`: where a key stands and why, through the built binaries and real tiers.

use l1d_wire::snapshot::{Cause, Explanation};
use std::process::Command;
use std::time::{Duration, Instant};
use test_support::daemon::{Daemon, connect};
use test_support::servers::{Proxy, Server, until};

const L1D: &str = env!("CARGO_BIN_EXE_l1d");

fn with_tiers(memcached: &Server, redis: &Server) -> Daemon {
    let config = format!(
        "[table]\nvalue_bytes_max = \"64KiB\"\n[l2]\naddress = \"{}\"\ndeadline = \"2s\"\n\
         [l3]\nurl = \"redis://{}\"\ndeadline = \"2s\"\n\
         [[policy]]\nprefix = \"m:\"\nttl = \"30s\"\n",
        memcached.address(),
        redis.address()
    );
    Daemon::start(L1D, &config, "16MiB")
}

fn screen(daemon: &Daemon, key: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_l1ctl"));
    let output = command.arg("--socket").arg(daemon.socket()).args(["explain", key]).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let page = String::from_utf8(output.stdout).unwrap();
    assert!(page.lines().all(|line| line.chars().count() <= 80), "{page}");
    page.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn explained(client: &l1d_client::Client, key: &str) -> Explanation {
    serde_json::from_str(&client.admin().explain_json(key).unwrap()).unwrap()
}

fn cause(client: &l1d_client::Client, key: &str) -> Option<Cause> {
    explained(client, key).last_change.map(|change| change.cause)
}

/// The hazard: the monitor says 20, the web server shows 0, and nobody can say why.
#[test]
fn a_screen_says_where_a_key_stands_and_who_changed_it() {
    let (memcached, mut redis) = (Server::memcached(), Server::redis());
    let daemon = with_tiers(&memcached, &redis);
    let client = connect(&daemon);
    client.set("m:signals", "20").unwrap();
    let page = screen(&daemon, "m:signals");
    let pid = std::process::id();
    assert!(page.contains(&format!("set by process {pid} (")), "{page}");
    assert!(page.contains("Rule \"m:\": scope host, at most 30 s in L1"), "{page}");
    assert_eq!(page.matches("the same bytes as in L1").count(), 2, "{page}");
    assert!(page.contains("Every process of this host reads this value until "), "{page}");

    // Somebody writes to Redis past the daemon.
    redis.client().resp(&[b"SET", b"m:signals", b"0"]);
    let page = screen(&daemon, "m:signals");
    assert!(page.contains("L3 Redis 1 B, without end, not the same bytes as in L1"), "{page}");
    assert!(page.contains("Redis holds another value; L1 will show it in "), "{page}");

    // An explanation keeps nothing of what the tiers hold.
    client.admin().flush("m:").unwrap();
    let told = explained(&client, "m:signals");
    assert_eq!(told.in_table, None);
    assert_eq!(told.last_change.unwrap().cause, Cause::Flush);
    assert_eq!(told.l3.unwrap().found, Some(true));
    assert!(client.peek("m:signals").is_none());
    assert!(screen(&daemon, "m:signals").contains("L1 holds nothing: the next read fetches"));

    client.get("m:signals").unwrap().unwrap();
    assert!(matches!(cause(&client, "m:signals"), Some(Cause::FetchL2 | Cause::FetchL3)));
    let counted = client.increment("m:signals", 1, &l1d_client::CounterOptions::default());
    assert!(counted.unwrap().done().is_some());
    assert_eq!(cause(&client, "m:signals"), Some(Cause::Operation));
    client.delete("m:signals").unwrap();
    let told = explained(&client, "m:signals");
    assert_eq!(told.last_change.unwrap().cause, Cause::Delete);
    assert_eq!(told.last_change.unwrap().pid, i32::try_from(pid).ok());
    assert_eq!([told.l2, told.l3].map(|tier| tier.unwrap().found), [Some(false); 2]);
    assert!(client.get("m:never").unwrap().is_none());
    assert_eq!(cause(&client, "m:never"), Some(Cause::FetchAbsent));
    assert_eq!(cause(&client, "unheard of"), None);

    // A tier that is gone is said to be, and holds nothing up.
    client.set("m:signals", "21").unwrap();
    redis.kill();
    let why = until("the loss of Redis to show", || explained(&client, "m:signals").l3?.why);
    assert!(!why.is_empty());
    let page = screen(&daemon, "m:signals");
    assert!(page.contains("L3 Redis not known ("), "{page}");
    assert!(page.contains("Every process of this host reads this value until "), "{page}");
}

/// The hazard: explanations that wait for a tier use up the room of others, or are never given.
#[test]
fn many_explanations_at_once_are_all_given() {
    let (memcached, redis) = (Server::memcached(), Server::redis());
    let daemon = with_tiers(&memcached, &redis);
    let client = connect(&daemon);
    client.set("m:1", "one").unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let client = connect(&daemon);
                for _ in 0..50 {
                    let told = explained(&client, "m:1");
                    assert_eq!(told.in_table.unwrap().value_bytes, 3);
                    assert_eq!(told.l3.unwrap().same_as_l1, Some(true));
                }
            });
        }
    });
}

#[test]
fn without_tiers_the_table_and_the_changes_are_all() {
    let daemon = Daemon::start(L1D, "", "128MiB");
    let client = connect(&daemon);
    let page = screen(&daemon, "k");
    assert!(page.contains("Last change not known"), "{page}");
    assert!(page.ends_with("No process of this host finds a value until somebody sets one."));
    let added = client.add("k", "1", &l1d_client::OperationOptions::default());
    assert!(added.unwrap().done().is_some());
    assert_eq!(cause(&client, "k"), Some(Cause::Operation));
    client.set_many(&[("k", "2")]).unwrap();
    assert_eq!(cause(&client, "k"), Some(Cause::Set));
    client.delete("k").unwrap();
    assert_eq!(cause(&client, "k"), Some(Cause::Delete));
    client.get_or_load("k", || Ok::<_, String>("3")).unwrap();
    assert_eq!(cause(&client, "k"), Some(Cause::Load));
}

/// The hazard: whoever looks for the reason of a slow tier waits as long as everybody else, or the
/// questions pile up.
#[test]
fn a_tier_that_does_not_answer_holds_no_explanation_up() {
    let redis = Server::redis();
    let proxy = Proxy::before(&redis);
    let config = format!(
        "[table]\nvalue_bytes_max = \"64KiB\"\n[l3]\nurl = \"redis://{}\"\ndeadline = \"10s\"\n",
        proxy.address()
    );
    let daemon = Daemon::start(L1D, &config, "16MiB");
    let client = connect(&daemon);
    client.set("k", "one").unwrap();
    proxy.hold();
    let begun = Instant::now();
    let told: Vec<Explanation> = std::thread::scope(|scope| {
        let asked = (0..60).map(|_| scope.spawn(|| explained(&connect(&daemon), "k")));
        let asked: Vec<_> = asked.collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    let asked: Vec<_> = told.iter().filter_map(|told| told.l3.as_ref()).collect();
    assert!((1..=32).contains(&asked.len()), "{}", asked.len());
    for tier in asked {
        let why = tier.why.as_deref().unwrap();
        assert!(tier.found.is_none() && why.contains("no answer within"), "{tier:?}");
    }
    proxy.release();
    until("Redis to be asked again", || explained(&client, "k").l3?.found);
    client.set("k", "two").unwrap();
}
