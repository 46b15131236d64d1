//! Log lines for hits, of the client's cargo feature `tracing`: one for each hit, with its place and
//! the life that is left; none where they are not wanted.

use l1d_client::{Client, Lifetime, Memo, SetOptions};
use std::convert::Infallible;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use test_support::daemon::{Daemon, connect};
use test_support::servers::Server;
use tracing_subscriber::fmt::MakeWriter;

/// The lines of a subscriber.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Lines;

    fn make_writer(&self) -> Lines {
        self.clone()
    }
}

/// The lines about hits that `act` brings about at this level, without what is before the place.
fn lines(level: tracing::Level, act: impl FnOnce()) -> Vec<String> {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(lines.clone())
        .with_max_level(level)
        .with_ansi(false)
        .finish();
    tracing::subscriber::with_default(subscriber, act);
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let hits = text.lines().filter_map(|line| line.split_once("l1d_client::hit: hit "));
    hits.map(|(_, fields)| fields.to_owned()).collect()
}

#[test]
fn each_hit_is_logged_with_its_place_and_the_life_that_is_left() {
    let redis = Server::redis();
    let config = format!(
        "[table]\nvalue_bytes_max = \"64KiB\"\n[l3]\nurl = \"redis://{}\"\n\
         [defaults]\nttl = \"1h\"\n[[policy]]\nprefix = \"process:\"\nscope = \"process\"\n",
        redis.address()
    );
    let daemon = Daemon::start(env!("CARGO_BIN_EXE_l1d"), &config, "16MiB");
    let client = connect(&daemon);
    let lifetime = Lifetime::For(Duration::from_secs(60));
    let for_a_minute = SetOptions { lifetime, ..SetOptions::default() };
    client.set_with("key\x1b", "value", &for_a_minute).unwrap();
    redis.client().resp(&[b"SET", b"below", b"value"]);
    client.set("process:1", "value").unwrap();
    let memo = Memo::new(&client, 10).unwrap();
    let decode = |value: &[u8]| Ok::<_, Infallible>(value.len());
    memo.decoded("key\x1b", decode).unwrap();
    let reads = |client: &Client| {
        assert!(client.peek("key\x1b").is_some());
        assert!(memo.decoded("key\x1b", decode).unwrap().is_some());
        assert!(client.get("below").unwrap().is_some());
        assert!(client.get("process:1").unwrap().is_some());
        assert!(client.get("process:1").unwrap().is_some());
        assert!(client.peek("nothing").is_none());
    };
    let logged = lines(tracing::Level::TRACE, || reads(&client));
    let places: Vec<&str> =
        logged.iter().map(|line| line.split('"').nth(1).unwrap_or_default()).collect();
    let below = "daemon, L2 or L3";
    assert!(places.starts_with(&["L1", "memo", below]), "{logged:#?}");
    assert!(places.ends_with(&["process"]), "{logged:#?}");
    for line in &logged[..2] {
        assert!(line.contains("key=key\\x1b "), "{line}");
        let left = line.split("left=\"").nth(1).unwrap().split(' ').next().unwrap();
        assert!((40_000..=60_000).contains(&left.parse::<u64>().unwrap()), "{line}");
        assert!(line.ends_with(&format!("process={}", std::process::id())), "{line}");
    }
    assert_eq!(lines(tracing::Level::DEBUG, || reads(&client)), [""; 0]);
}
