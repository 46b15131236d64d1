//! What a client does beside a daemon of another build. `./dev neighbours` compiles this file into
//! a program of the previous build, too, so it uses only what both builds' clients have.

use l1d_client::{Client, Source};
use std::path::Path;
use std::time::{Duration, Instant};

/// Reads and writes through the daemon at `socket`, whose L2 has the key "from-l2", and panics at
/// the first wrong answer. `pause` is called twice: first the caller moves the entries to another
/// table, then it replaces the daemon by one of the other build.
pub fn run(socket: &Path, name: &str, mut pause: impl FnMut()) {
    let cache = Client::connect(socket).unwrap();
    let [kept, none] = ["kept", "none"].map(|key| format!("{name}:{key}").into_bytes());
    let (kept, none) = (kept.as_slice(), none.as_slice());
    write_and_read(&cache, kept, none);
    assert_eq!(&*cache.get(b"from-l2").unwrap().unwrap(), b"below");
    assert_eq!(cache.peek(b"from-l2").unwrap().meta().source, Source::Table);

    pause();
    // The table that this client has mapped is no longer in use (R0).
    assert_is_hit(&cache, kept, b"value");
    write_and_read(&cache, kept, none);

    pause();
    // The first request may be the one that finds the former daemon gone; the next one is read by
    // its successor, which has the same entries.
    let _ = cache.delete(none);
    assert_is_hit(&cache, kept, b"value");
    write_and_read(&cache, kept, none);
}

/// The program of the previous build: `neighbour SOCKET`. It says "pause" on its standard output,
/// and goes on after a line on its standard input.
#[allow(dead_code, reason = "of the program, not of the test")]
pub fn program() {
    let socket = std::env::args().nth(1).expect("the socket");
    run(Path::new(&socket), "previous", || {
        println!("pause");
        std::io::stdin().read_line(&mut String::new()).unwrap();
    });
    println!("done");
}

fn write_and_read(cache: &Client, kept: &[u8], none: &[u8]) {
    cache.set(kept, b"value").unwrap();
    assert_is_hit(cache, kept, b"value");
    assert_eq!(&*cache.get(kept).unwrap().unwrap(), b"value");
    assert!(cache.get(none).unwrap().is_none());

    // More than a record of the ring and a lane of the mailbox hold.
    let (large_key, large) = ([kept, b":large"].concat(), vec![7; 300_000]);
    let large_key = large_key.as_slice();
    cache.set(large_key, &large).unwrap();
    assert_eq!(&*cache.get(large_key).unwrap().unwrap(), large);

    let keys = [kept, none, large_key];
    let values = cache.get_many(&keys).unwrap();
    assert_eq!(values[0].as_deref(), Some(&b"value"[..]));
    assert!(values[1].is_none());
    assert_eq!(values[2].as_deref(), Some(&large[..]));

    // What this returns has changed between builds.
    cache.delete(large_key).unwrap();
    assert!(cache.peek(large_key).is_none());
    assert!(cache.get(large_key).unwrap().is_none());

    // Of process scope by the daemon's policy: kept here, not in the table.
    cache.set(b"process:key", b"own").unwrap();
    assert_eq!(cache.peek(b"process:key").unwrap().meta().source, Source::Process);
}

/// The table has the value, within the pause of a client between two attempts to attach.
fn assert_is_hit(cache: &Client, key: &[u8], value: &[u8]) {
    let begun = Instant::now();
    loop {
        if let Some(found) = cache.peek(key) {
            assert_eq!((&*found, found.meta().source), (value, Source::Table));
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "no hit");
        std::thread::sleep(Duration::from_millis(1));
    }
}
