//! The hazard: a value comes back from Redis without its client flags, by which other clients of
//! memcached then decode it wrongly. Through a real daemon, with both servers.

use l1d_client::{Client, SetOptions};
use test_support::daemon::Daemon;
use test_support::servers::{PATIENCE, Server, until};

const L1D: &str = env!("CARGO_BIN_EXE_l1d");
/// Longer than an L1 copy lives.
const TTL_MAX: &str = "100ms";

fn start(l2: &Server, l3: &Server) -> (Daemon, Client) {
    let mut config = format!(
        "[table]\nvalue_bytes_max = \"400KiB\"\n[l2]\naddress = \"{}\"\ndeadline = \"2s\"\n[l3]\n\
         url = \"redis://{}\"\ndeadline = \"2s\"\n[defaults]\nttl = \"{TTL_MAX}\"\n",
        l2.address(),
        l3.address(),
    );
    for policy in ["never-fill-l2", "frame", "ignore"] {
        config += &format!("[[policy]]\nprefix = \"{policy}:\"\nclient_flags = \"{policy}\"\n");
    }
    let daemon = Daemon::start(L1D, &config, "32MiB");
    let client = Client::builder().socket(daemon.socket()).deadline(PATIENCE).connect();
    (daemon, client.unwrap())
}

fn flagged() -> SetOptions {
    SetOptions { flags: 7, ..SetOptions::default() }
}

#[test]
fn by_default_flags_that_would_be_lost_are_refused_with_the_settings_name() {
    let (l2, l3) = (Server::memcached(), Server::redis());
    let (_daemon, client) = start(&l2, &l3);
    let refused = client.set_with("key", "value", &flagged()).unwrap_err().to_string();
    assert!(refused.contains("client_flags"), "{refused}");
    assert_eq!(l3.client().resp(&[b"GET", b"key"]), b"$-1");
    assert_eq!(l2.client().ascii_get("key"), None);
    client.set("key", "value").unwrap();
    assert_eq!(l2.client().ascii_get("key"), Some((0, b"value".to_vec())));
}

#[test]
fn what_redis_gives_back_has_its_flags_or_stays_out_of_memcached_or_is_as_it_was() {
    let (l2, l3) = (Server::memcached(), Server::redis());
    let (_daemon, client) = start(&l2, &l3);
    let (mut ascii, mut resp) = (l2.client(), l3.client());
    let frame = b"\0l1d\0flg\x07\0\0\0value";
    for (policy, stored, flags, filled) in [
        ("frame", &frame[..], 7, Some((7, b"value".to_vec()))),
        ("never-fill-l2", b"value", 0, None),
        ("ignore", b"value", 0, Some((0, b"value".to_vec()))),
    ] {
        let key = format!("{policy}:key");
        client.set_with(&key, "value", &flagged()).unwrap();
        assert_eq!(ascii.ascii_get(&key), Some((7, b"value".to_vec())), "{policy}");
        assert_eq!(resp.resp(&[b"GET", key.as_bytes()]), stored, "{policy}");
        // memcached loses it, and L1 as well.
        ascii.ascii(&format!("delete {key}"));
        std::thread::sleep(std::time::Duration::from_millis(250));
        let value = client.get(&key).unwrap().expect("Redis has it");
        assert_eq!((&*value, value.meta().flags), (&b"value"[..], flags), "{policy}");
        // Fills are carried out in order: this one comes after it.
        client.set(format!("{policy}:other"), "value").unwrap();
        assert_eq!(ascii.ascii_get(&key), filled, "{policy}");
    }
    // What other clients store in Redis is read as it is.
    resp.resp(&[b"SET", b"frame:plain", b"theirs"]);
    assert_eq!(&*client.get("frame:plain").unwrap().unwrap(), b"theirs");
    until("a fill", || (ascii.ascii_get("frame:plain")? == (0, b"theirs".to_vec())).then_some(()));
}
