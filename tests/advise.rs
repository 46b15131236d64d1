//! `l1ctl advise` beside measured hit ratios, through the built programs. The hazard: somebody buys
//! memory because of a figure that is unrelated to the actual reads.

use l1d_client::Client;
use serde_json::Value;
use std::process::Command;
use test_support::daemon::{Daemon, connect};
use test_support::servers::until;

const CONFIG: &str = "[table]\nvalue_bytes_max = \"16KiB\"\naverage_entry_bytes = 1100\n\
                      [defaults]\nttl = \"1h\"\n\
                      [[policy]]\nprefix = \"once:\"\n";
const KEYS: u64 = 24_000;

fn ctl(daemon: &Daemon, arguments: &[&str]) -> String {
    let program = env!("CARGO_BIN_EXE_l1ctl");
    let output = Command::new(program)
        .arg("--socket")
        .arg(daemon.socket())
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Reads keys as a service would, and stores the missing ones. Returns reads and hits.
fn serve(client: &Client, reads: u64, seed: u64) -> (u64, u64) {
    let (mut random, mut hits) = (seed, 0);
    for n in 0..reads {
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let key = match n % 10 {
            0 => format!("once:{n}"),
            _ => format!("key:{}", (random >> 33) % KEYS),
        };
        if client.get(key.as_bytes()).unwrap().is_some() {
            hits += 1;
        } else {
            client.set(key.as_bytes(), [7; 1000]).unwrap();
        }
    }
    (reads, hits)
}

#[test]
fn the_advice_is_what_tables_of_these_sizes_really_come_to() {
    let daemon = Daemon::start(env!("CARGO_BIN_EXE_l1d"), CONFIG, "12MiB");
    let empty = ctl(&daemon, &["advise"]);
    assert!(empty.starts_with("Too little was read to say"), "{empty}");

    let client = connect(&daemon);
    let (reads, hits) = serve(&client, 100_000, 1);
    let told = || -> Value { serde_json::from_str(&client.admin().stats_json().unwrap()).unwrap() };
    // Hits are reported in batches of sixteen when the owner has time, and each report stands for
    // one sampling interval of hits, which changes.
    let hits_told = || told()["requests"]["hits_told"].as_u64().unwrap();
    until("the reports to arrive", || (hits_told() + 32 >= hits * 95 / 100).then_some(()));
    assert!(hits_told() <= hits * 105 / 100 + 32, "{} of {hits}", hits_told());
    let advice: Value = serde_json::from_str(&ctl(&daemon, &["--json", "advise"])).unwrap();
    let percent = |place: usize| advice["hit_percent"][place].as_f64().unwrap();
    #[expect(clippy::cast_precision_loss, reason = "small counts")]
    let real = hits as f64 * 100.0 / reads as f64;
    assert!((percent(1) - real).abs() < 1.0, "{real} %, {advice:#}");
    // The measured hit ratio of a daemon with twice the memory.
    let other = Daemon::start(env!("CARGO_BIN_EXE_l1d"), CONFIG, "24MiB");
    let (reads, hits) = serve(&connect(&other), 100_000, 1);
    #[expect(clippy::cast_precision_loss, reason = "small counts")]
    let real = hits as f64 * 100.0 / reads as f64;
    // Twice the file has somewhat more than twice the room for live entries.
    assert!((percent(2) - real).abs() < 5.0, "{real} %, {advice:#}");
    assert!(percent(0) < percent(1) - 5.0 && percent(3) > percent(2), "{advice:#}");
    let once =
        advice["policies"].as_array().unwrap().iter().find(|p| p["prefix"] == "once:").unwrap();
    assert_eq!(once["hit_percent"][3].as_f64().map(f64::round), Some(0.0), "{advice:#}");

    // The same in the figures, in JSON and as text.
    assert_eq!(advice["advice"][0]["kind"], "more-memory", "{advice:#}");
    assert_eq!(told()["advice"], advice["advice"]);
    let sentence = advice["advice"][0]["sentence"].as_str().unwrap();
    assert!(sentence.contains("l1ctl resize 24MiB"), "{sentence}");
    let page = ctl(&daemon, &["advise"]);
    assert!(page.starts_with("To change    Twice the memory would bring"), "{page}");
    assert!(page.contains("Twice the memory would lift the hit ratio from"), "{page}");
    assert!(page.lines().count() > 8, "{page}");
}
