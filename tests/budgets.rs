//! A prefix with a share, through the built daemon. The hazard: a flood under one prefix, or of
//! keys that do not exist, evicts everything else from the table.

use l1d_client::Client;
use serde_json::Value;
use test_support::daemon::Daemon;
use test_support::servers::Server;

const VALUE: [u8; 8000] = [7; 8000];

fn stats(client: &Client) -> Value {
    serde_json::from_str(&client.admin().stats_json().unwrap()).unwrap()
}

#[test]
fn a_prefix_with_a_share_keeps_to_it() {
    let config = "[table]\nvalue_bytes_max = \"64KiB\"\n[defaults]\nttl = \"1h\"\n\
                  [[policy]]\nprefix = \"flood:\"\nshare_max = \"20%\"\n";
    let daemon = Daemon::start(env!("CARGO_BIN_EXE_l1d"), config, "16MiB");
    let client = Client::connect(daemon.socket()).unwrap();
    // Half of the table.
    for n in 0..900 {
        client.set(format!("mine:{n}").as_bytes(), VALUE).unwrap();
    }
    for n in 0..5000 {
        client.set(format!("flood:{n}").as_bytes(), VALUE).unwrap();
    }
    assert!(client.peek(b"flood:4999").is_some());
    let kept = (0..900).filter(|n| client.peek(format!("mine:{n}").as_bytes()).is_some()).count();
    let stats = stats(&client);
    assert_eq!(kept, 900, "{stats:#}");
    let [mine, flood] = [0, 1].map(|rule| &stats["policies"][rule]);
    assert_eq!(flood["prefix"], "flood:");
    assert_eq!(flood["share_max_percent"], 20.0);
    assert_eq!(mine["share_max_percent"], Value::Null);
    let share = flood["share_percent"].as_f64().unwrap();
    assert!((15.0..=20.5).contains(&share), "{stats:#}");
    assert!(stats["table"]["evicted_over_share"].as_u64().unwrap() > 3000, "{stats:#}");
    assert!(stats["daemon"]["longest_turn_us"].as_u64().is_some(), "{stats:#}");
}

#[test]
fn a_flood_of_absences_evicts_no_value() {
    let redis = Server::redis();
    let config = format!(
        "[table]\nvalue_bytes_max = \"64KiB\"\nabsent_share_max = \"1%\"\n\
         [l3]\nurl = \"redis://{}/0\"\n[defaults]\nttl = \"1h\"\nnegative_ttl = \"1h\"\n",
        redis.address()
    );
    let daemon = Daemon::start(env!("CARGO_BIN_EXE_l1d"), &config, "16MiB");
    let client = Client::connect(daemon.socket()).unwrap();
    for n in 0..900 {
        client.set(format!("mine:{n}").as_bytes(), VALUE).unwrap();
    }
    let keys: Vec<Vec<u8>> =
        (0..8000).map(|n| [format!("{n}:").as_bytes(), &[b'x'; 400]].concat()).collect();
    for some in keys.chunks(200) {
        let some: Vec<&[u8]> = some.iter().map(Vec::as_slice).collect();
        assert!(client.get_many(&some).unwrap().iter().all(Option::is_none));
    }
    let kept = (0..900).filter(|n| client.peek(format!("mine:{n}").as_bytes()).is_some()).count();
    let stats = stats(&client);
    assert_eq!(kept, 900, "{stats:#}");
    let [absent, log] = ["absent_bytes", "log_bytes"].map(|f| stats["table"][f].as_u64().unwrap());
    assert!(absent > log / 200 && absent <= log * 15 / 1000, "{stats:#}");
}
