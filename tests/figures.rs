//! The figures of a real daemon: documented, right, and the same for everybody who asks.

use l1d_wire::snapshot::{HELD_BACK_PER_THREAD_MAX, Snapshot};
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use test_support::daemon::{Daemon, connect};
use test_support::servers::Server;

const PATIENCE: Duration = Duration::from_secs(20);

fn start(config: &str) -> Daemon {
    let config = format!("[table]\nvalue_bytes_max = \"64KiB\"\n{config}");
    Daemon::start(env!("CARGO_BIN_EXE_l1d"), &config, "16MiB")
}

fn snapshot(client: &l1d_client::Client) -> Snapshot {
    serde_json::from_str(&client.admin().stats_json().unwrap()).unwrap()
}

/// Adds the path of each figure in `value`, as the document writes it.
fn paths(value: &Value, path: &str, all: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                let path = format!("{path}.{name}");
                let list = if field.is_array() { "[]" } else { "" };
                all.insert(format!("{}{list}", path.trim_start_matches('.')));
                paths(field, &path, all);
            }
        }
        Value::Array(items) => {
            items.iter().for_each(|item| paths(item, &format!("{path}[]"), all));
        }
        _ => {}
    }
}

/// The hazard: a figure that no document explains, or one that is explained and not there.
#[test]
fn a_daemon_tells_what_the_document_lists() {
    let (memcached, redis) = (Server::memcached(), Server::redis());
    let daemon = start(&format!(
        "[l2]\naddress = \"{}\"\n[l3]\nurl = \"redis://{}\"\n",
        memcached.address(),
        redis.address()
    ));
    let client = connect(&daemon);
    client.set("k", "v").unwrap();
    let document = include_str!("../docs/src/figures.md");
    let (stats, rest) = document.split_once("## `l1ctl --json clients`").unwrap();
    let (clients, _) = rest.split_once("## `l1ctl --json explain").unwrap();
    for (part, json) in [
        (stats, client.admin().stats_json().unwrap()),
        (clients, client.admin().clients_json().unwrap()),
    ] {
        let rows = part.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
        // No move is under way, and nothing is advised.
        let documented: BTreeSet<String> = rows
            .map(|(path, _)| path.to_owned())
            .filter(|path| !["moves.under_way.", "advice[]."].iter().any(|p| path.starts_with(p)))
            .collect();
        let mut told = BTreeSet::new();
        paths(&serde_json::from_str(&json).unwrap(), "", &mut told);
        assert_eq!(told, documented);
    }
}

/// The hazard: hits that are not counted, or counted for another rule; and an observer who takes
/// figures away from another.
#[test]
fn hits_are_counted_for_the_host_and_for_each_rule() {
    let daemon = start("[[policy]]\nprefix = \"a:\"\n[[policy]]\nprefix = \"b:\"\n");
    let (reader, observer) = (connect(&daemon), connect(&daemon));
    reader.set("a:1", "one").unwrap();
    reader.set("b:1", "one").unwrap();
    const A: u64 = 300_000;
    let mut value = Vec::new();
    let mut random = 1_u64;
    for _ in 0..A * 4 / 3 {
        // In no rhythm, which reports might keep step with.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let key = if random.is_multiple_of(4) { "b:1" } else { "a:1" };
        assert!(reader.peek_into(key, &mut value).is_some());
    }
    for n in 0..30 {
        assert_eq!(reader.get(format!("b:absent {n}")).unwrap(), None);
    }
    let begun = Instant::now();
    let told = loop {
        let told = snapshot(&observer);
        if told.hits.hits + HELD_BACK_PER_THREAD_MAX >= A * 4 / 3 {
            break told;
        }
        assert!(begun.elapsed() < PATIENCE, "{:?}", told.hits);
    };
    // A report stands for the hits of an interval that is drawn anew now and then.
    assert!(told.hits.hits <= A * 4 / 3 + HELD_BACK_PER_THREAD_MAX, "{:?}", told.hits);
    assert_eq!(told.hits.misses, 30);
    assert!(told.hits.hit_percent.unwrap() > 99.9, "{:?}", told.hits);
    let rule = |prefix| told.policies.iter().find(|rule| rule.prefix == prefix).unwrap();
    let (a, b) = (rule("a:"), rule("b:"));
    assert_eq!((a.misses, b.misses), (0, 30));
    // Some hundred reports; what was told after the last of them counts for the rules as well.
    assert!(a.hits + b.hits <= told.hits.hits && a.hits + b.hits + 2 >= told.hits.hits);
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    let share = a.hits as f64 / (a.hits + b.hits) as f64;
    assert!((0.6..0.9).contains(&share), "{share}: {a:?} {b:?}");

    // What one observer asks for is there for the next.
    let again = snapshot(&reader);
    assert!(again.daemon.longest_turn_us >= told.daemon.longest_turn_us);
    let longest = |told: &Snapshot| told.daemon.longest_turn_each_second_us.iter().max().copied();
    assert!(longest(&again) >= longest(&told), "{:?}", [told.daemon, again.daemon]);
    assert!(again.recent.longest_turn_us > 0);
    assert!(again.hits.hits >= told.hits.hits);
}
