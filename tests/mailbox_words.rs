//! Nonsense in each word of a mailbox in turn, against the built daemon. The hazard: a word that
//! the daemon trusts.

use l1d_client::Client;
use l1d_wire::protocol::{Request, Response, Set};
use serde_json::Value;
use shm_layout::mailbox::SHAPE;
use shm_layout::mailbox::ring::Kind;
use std::io::Write;
use test_support::daemon::Daemon;
use test_support::posted::{Posted, payload};
use test_support::random::Random;
use test_support::servers::PATIENCE;

/// The effect of nonsense in a word on the mailbox's own client; other clients are never affected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It loses its attachment.
    Dropped,
    /// It is served as before.
    Served,
}

const LINE: usize = 8;
const LANES: usize = 5 * LINE;
const MARKS: usize = LANES + SHAPE.lanes * LINE;
const REPORTS: usize = MARKS + SHAPE.stripes * LINE;
const REPLIES: usize = REPORTS + SHAPE.stripes * SHAPE.stripe_words;
const RING: usize = SHAPE.words() - SHAPE.ring_words;

/// The fate for a word of a mailbox whose ring is empty, and the reason.
fn fate(word: usize) -> (Fate, &'static str) {
    match word {
        0 => (Fate::Dropped, "no record is written where it says"),
        1 => (Fate::Served, "where the client runs decides only whether its mailbox is polled"),
        8 | 9 => (Fate::Served, "what the owner tells it keeps in its own memory"),
        16 => (
            Fate::Served,
            "a wish to be rung that is lost is the owner's, stored before each sleep",
        ),
        24 => (Fate::Served, "at most a wake that reaches nobody"),
        32..=34 => (Fate::Served, "what the client says of itself is shown, and decides nothing"),
        _ if word < LANES => (Fate::Served, "nobody reads it"),
        _ if word < MARKS && (word - LANES).is_multiple_of(LINE) => {
            (Fate::Served, "the owner swaps it, and looks only whom to wake")
        }
        _ if word < MARKS => (Fate::Served, "nobody reads it"),
        _ if word < REPORTS && (word - MARKS) % LINE < 2 => {
            (Fate::Served, "no more reports than a stripe has, of no more hits than one may have")
        }
        _ if word < REPORTS => (Fate::Served, "nobody reads it"),
        _ if word < REPLIES => (Fate::Served, "a hash that no key has finds no entry"),
        _ if word < RING => (Fate::Served, "the owner only writes there"),
        _ => (Fate::Served, "behind what is written nothing is read"),
    }
}

/// The daemon, a client with a sound mailbox, and the figures before the test.
struct Host {
    daemon: Daemon,
    other: Client,
    attached: u64,
    rounds: u64,
}

impl Host {
    fn start() -> Host {
        let config = "[table]\nvalue_bytes_max = \"64KiB\"\n[defaults]\nttl = \"1h\"\n";
        let daemon = Daemon::start(env!("CARGO_BIN_EXE_l1d"), config, "16MiB");
        let builder = Client::builder().socket(daemon.socket());
        let other = builder.deadline(PATIENCE).attach_deadline(PATIENCE).connect().unwrap();
        other.set(b"kept", b"from the beginning").unwrap();
        let mut host = Host { daemon, other, attached: 0, rounds: 0 };
        host.attached = host.attaches();
        host
    }

    fn attach(&mut self) -> Posted {
        self.attached += 1;
        Posted::attached(&self.daemon.socket())
    }

    fn attaches(&self) -> u64 {
        let stats: Value = serde_json::from_str(&self.other.admin().stats_json().unwrap()).unwrap();
        stats["requests"]["attaches"].as_u64().unwrap()
    }

    /// Asserts that the other client was not affected.
    fn assert_others_are_well(&mut self, what: &str) {
        self.rounds += 1;
        let value = self.rounds.to_le_bytes();
        self.other.set(b"changed", value).unwrap();
        assert_eq!(self.other.get(b"changed").unwrap().as_deref(), Some(&value[..]), "{what}");
        let kept = self.other.get(b"kept").unwrap();
        assert_eq!(kept.as_deref(), Some(&b"from the beginning"[..]), "{what}");
    }

    /// Asserts that only this test's clients attached again, and that the table is sound.
    fn assert_is_whole(&self) {
        assert_eq!(self.attaches(), self.attached);
        let report: Value =
            serde_json::from_str(&self.other.admin().check_json().unwrap()).unwrap();
        assert_eq!(report["violation_count"], 0, "{report:#}");
        assert!(!self.daemon.log().contains("panicked"), "{}", self.daemon.log());
    }
}

fn set(value: &[u8], reply: bool) -> Request<'_> {
    Request::Set(Set { key: b"mine", value, ttl: None, flags: 0, write: None, reply })
}

/// Makes the daemon poll the mailbox, asleep or not.
fn ring(client: &mut Posted) {
    // The daemon may have hung up already.
    let _ = client.stream.write_all(&[1]);
}

/// Asserts that a request through this mailbox is answered.
fn assert_is_served(client: &mut Posted, lane: u8, what: &str) {
    client.ask(lane, &set(what.as_bytes(), true));
    let reply = client.reply(lane);
    assert!(matches!(Response::decode(&reply).unwrap(), Response::Stored { .. }), "{what}");
    assert!(!client.is_closed(), "{what}");
}

#[test]
fn nonsense_in_any_word_costs_at_most_its_writer() {
    let mut random = Random::new();
    let mut host = Host::start();
    let mut client = host.attach();
    for word in 0..SHAPE.words() {
        let (fate, why) = fate(word);
        // Words with a meaning get all special values, others a random one.
        let special = [0, 1, 1 << 20, 1 << 63, u64::MAX - 1, u64::MAX];
        let some = if word < REPORTS { &special[..] } else { &[] };
        for nonsense in some.iter().copied().chain([random.word() | 1 << 32]) {
            let what = format!("word {word}: {nonsense:#x}; {fate:?}: {why}");
            if word == 0 {
                // Advances the words, so that their correct value is none of these.
                (0..3).for_each(|_| assert_is_served(&mut client, 1, &what));
            }
            client.poke(word, nonsense);
            ring(&mut client);
            match fate {
                Fate::Dropped => {
                    client.assert_is_closed();
                    client = host.attach();
                }
                Fate::Served => {
                    let lane = u8::try_from(word % SHAPE.lanes).unwrap();
                    assert_is_served(&mut client, lane, &what);
                }
            }
            if word < REPORTS || word % 64 == 0 {
                host.assert_others_are_well(&what);
            }
        }
    }
    host.assert_is_whole();
}

/// The owner reads a lane's word when it replies, so the nonsense must be there at that time.
#[test]
fn nonsense_in_a_lane_that_waits_costs_at_most_its_writer() {
    let mut host = Host::start();
    let mut client = host.attach();
    for lane in 0..SHAPE.lanes {
        // Waiting, sleeping, polled or answered, for this request or another.
        for nonsense in (0..16).chain([1 << 63, u64::MAX - 1, u64::MAX]) {
            let what = format!("lane {lane}: {nonsense:#x}");
            let number = u8::try_from(lane).unwrap();
            client.ask_with(number, &set(what.as_bytes(), true), |client| {
                client.poke(LANES + lane * LINE, nonsense);
            });
            client.reply(number);
            assert_is_served(&mut client, number, &what);
        }
        host.assert_others_are_well("lanes");
    }
    host.assert_is_whole();
}

/// A record is read once it is published: an invalid head drops the client, and the other words of
/// it are part of a request like any other.
#[test]
fn nonsense_in_any_word_of_a_record_costs_at_most_its_writer() {
    let mut random = Random::new();
    let mut host = Host::start();
    let request = payload(&set(&[7; 100], false));
    let words = 1 + request.len().div_ceil(8);
    for word in 0..words {
        let bits = random.word();
        // Bits 16 and up of a head hold its kind.
        let nonsense: [&dyn Fn(u64) -> u64; 5] =
            [&|_| 0, &|_| u64::MAX, &|word| word ^ 0x40 << 16, &|_| bits | 0x80 << 16, &|_| {
                bits & !(0xff << 16)
            }];
        for spoil in nonsense {
            let mut client = host.attach();
            // Written by hand, so that it is published only after it was corrupted.
            let head = request.len() as u64 | (Kind::Whole as u64) << 16 | 0xff << 24;
            client.poke(RING, head);
            for (index, bytes) in request.chunks(8).enumerate() {
                let mut whole = [0; 8];
                whole[..bytes.len()].copy_from_slice(bytes);
                client.poke(RING + 1 + index, u64::from_le_bytes(whole));
            }
            let nonsense = spoil(client.words().peek(RING + word));
            let what = format!("word {word} of a record: {nonsense:#x}");
            client.poke(RING + word, nonsense);
            client.poke(0, words as u64);
            ring(&mut client);
            let ends = || client.is_closed() || client.mailbox.is_consumed(words as u64);
            test_support::servers::until("the record to be read", || ends().then_some(()));
            if word == 0 {
                client.assert_is_closed();
            }
            host.assert_others_are_well(&what);
        }
    }
    host.assert_is_whole();
}
