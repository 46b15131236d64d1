//! The hazard: a client that writes nonsense into its mailbox, at any moment, harms the daemon or
//! another client, or a wakeup is lost between a side that sleeps and one that does not.

use super::peer::bytes;
use super::*;
use l1d_wire::protocol::{PROTOCOL_VERSION, Request, Set};
use nix::fcntl::{FallocateFlags, fallocate};
use shm_layout::mailbox::SHAPE;
use shm_layout::mailbox::ring::Kind;
use std::io::Write;
use std::time::Instant;
use test_support::posted::{Posted, payload};
use test_support::random::Random;

fn set(key: &'static [u8], value: &[u8], reply: bool) -> Vec<u8> {
    payload(&Request::Set(Set { key, value, ttl: None, flags: 0, write: None, reply }))
}

#[test]
fn requests_and_replies_of_every_size_arrive() {
    for spin in [Duration::ZERO, Duration::from_millis(5)] {
        let daemon = Daemon::start(Limits { spin, ..limits() });
        let mut client = Posted::attached(&daemon.socket());
        for bytes in [0, 1, 8000, SHAPE.lane_bytes, 20_000, 500_000] {
            assert_eq!(client.get(3, format!("bytes {bytes}").as_bytes()).len(), bytes);
        }
        let long = vec![b'k'; 60_000];
        assert_eq!(client.get(4, &long), long, "a request in pieces");
        // A set in pieces that wants no reply leaves its lane free.
        let request = Request::Set(Set {
            key: b"large",
            value: &vec![1; 200_000],
            ttl: None,
            flags: 0,
            write: None,
            reply: false,
        });
        client.ask(4, &request);
        client.push(Kind::Whole, None, &set(b"small", b"1", false));
        let heard = [daemon.hear(), daemon.hear()];
        assert!(matches!(&heard[0], Heard::Asked(_, key) if key == b"large"), "{heard:?}");
        assert!(matches!(&heard[1], Heard::Asked(_, key) if key == b"small"), "{heard:?}");
        assert_eq!(client.get(4, b"again"), b"again");
    }
}

/// The hazard: a reply, or the next piece of one, comes without a wake, and the client sleeps until
/// it looks whether the daemon is still there.
#[test]
fn a_thread_that_sleeps_is_woken_for_each_piece_of_its_reply() {
    for spin in [Duration::ZERO, Duration::from_millis(5)] {
        let daemon = Daemon::start(Limits { spin, ..limits() });
        let mut client = Posted::attached(&daemon.socket());
        for bytes in [0, 8000, SHAPE.lane_bytes, 20_000, 500_000] {
            client.ask(3, &Request::Get { key: format!("bytes {bytes}").as_bytes() });
            assert!(client.reply_asleep(3).len() >= bytes, "{bytes}");
        }
        client.ask(4, &Request::Get { key: b"later" });
        let Heard::Asked(origin, _) = daemon.hear() else { panic!() };
        daemon.answer(origin, b"now");
        assert!(client.reply_asleep(4).windows(3).any(|bytes| bytes == b"now"));
    }
}

#[test]
fn lanes_are_answered_in_any_order_and_forgotten_with_their_client() {
    let daemon = Daemon::start(limits());
    let mut client = Posted::attached(&daemon.socket());
    client.ask(0, &Request::Get { key: b"later 0" });
    client.ask(9, &Request::Get { key: b"later 9" });
    let Heard::Asked(first, _) = daemon.hear() else { panic!() };
    let Heard::Asked(second, _) = daemon.hear() else { panic!() };
    assert_eq!(client.get(5, b"at once"), b"at once");
    daemon.answer(second, b"nine");
    assert!(client.reply(9).windows(4).any(|bytes| bytes == b"nine"));
    drop(client);
    let gone = [daemon.hear(), daemon.hear()];
    assert!(gone.contains(&Heard::Gone(first)), "{gone:?}");
    assert!(!gone.contains(&Heard::Gone(second)), "{gone:?}");
    daemon.answer(first, b"too late");
    Peer::attached(&daemon).assert_is_served();
}

/// The hazard: the mailbox of a client that died is put to rest, to be polled when a wakeup comes
/// that nobody sends.
#[test]
fn a_client_that_dies_while_the_tiers_are_full_is_forgotten_when_they_have_room() {
    let daemon = Daemon::start(limits());
    let mut client = Posted::attached(&daemon.socket());
    client.push(Kind::Whole, None, &set(b"full", b"value", false));
    let Heard::Asked(origin, _) = daemon.hear() else { panic!() };
    let turns = daemon.turns();
    drop(client);
    let begun = Instant::now();
    while daemon.turns() == turns {
        assert!(begun.elapsed() < NEVER, "nobody notices the end of the client");
        std::thread::yield_now();
    }
    daemon.release();
    // Nobody waits for this answer: it causes a turn.
    daemon.answer(origin, b"");
    assert_eq!(daemon.hear(), Heard::Gone(origin));
}

#[test]
fn hits_are_reported_though_nothing_is_asked() {
    let daemon = Daemon::start(limits());
    let client = Posted::attached(&daemon.socket());
    client.mailbox.report(7, &[0xabcd], 5);
    let mut other = Peer::attached(&daemon);
    let begun = Instant::now();
    loop {
        other.assert_is_served();
        if daemon.unheard().contains(&Heard::Hit(0xabcd, 5)) {
            return;
        }
        assert!(begun.elapsed() < NEVER, "the report does not come");
    }
}

/// Each client breaks one rule and loses its connection; no other client notices.
#[test]
fn a_client_that_breaks_the_rules_is_dropped() {
    let get = payload(&Request::Get { key: b"k" });
    let later = payload(&Request::Get { key: b"later" });
    type Act<'a> = &'a dyn Fn(&mut Posted);
    let breaks: [(&str, Act<'_>); 12] = [
        ("more is written than the ring holds", &|c| {
            c.poke(0, 1 << 40);
            c.ring();
        }),
        ("what was written goes back", &|c| {
            c.push(Kind::Whole, None, &set(b"k", b"v", false));
            c.push(Kind::Whole, None, &set(b"k", b"v", false));
            while !c.mailbox.is_consumed(c.producer.position()) {
                std::thread::yield_now();
            }
            c.poke(0, 1);
            // Awake or asleep; it may have hung up already.
            let _ = c.stream.write_all(&[1]);
        }),
        ("no request", &|c| c.push(Kind::Whole, Some(1), b"nonsense")),
        ("of no kind", &|c| {
            let ring = SHAPE.words() - SHAPE.ring_words;
            c.poke(ring, 99 << 16);
            c.poke(0, 1);
            c.ring();
        }),
        ("a lane that is none", &|c| {
            let ring = SHAPE.words() - SHAPE.ring_words;
            c.poke(ring, 1 << 16 | 200 << 24);
            c.poke(0, 1);
            c.ring();
        }),
        ("two requests on a lane", &|c| {
            c.push(Kind::Whole, Some(1), &later);
            c.push(Kind::Whole, Some(1), &get);
        }),
        ("a piece of nothing", &|c| c.push(Kind::Next, Some(1), &get)),
        ("more of nothing", &|c| c.push(Kind::More, Some(1), &[])),
        ("a piece without a lane", &|c| c.push(Kind::First, None, &get)),
        ("an answer to nowhere", &|c| c.push(Kind::Whole, None, &get)),
        ("what the socket is for", &|c| {
            c.push(Kind::Whole, Some(1), &payload(&Request::Stats));
        }),
        ("a request without end", &|c| {
            c.push(Kind::First, Some(1), &vec![4; SHAPE.piece_bytes()]);
            // The limit of 1 MiB per request applies, long before the one for all clients together.
            let mut pieces = 0;
            while !c.is_closed() {
                c.push(Kind::Next, Some(1), &vec![4; SHAPE.piece_bytes()]);
                pieces += 1;
            }
            assert!(pieces < 200, "{pieces}");
        }),
    ];
    let daemon = Daemon::start(limits());
    let mut other = Posted::attached(&daemon.socket());
    for (what, act) in breaks {
        println!("{what}");
        let mut client = Posted::attached(&daemon.socket());
        act(&mut client);
        client.assert_is_closed();
        assert_eq!(other.get(0, b"others"), b"others", "{what}");
    }
}

#[test]
fn a_hole_in_the_mailbox_is_nonsense_like_any_other() {
    let daemon = Daemon::start(limits());
    let mut client = Posted::attached(&daemon.socket());
    for _ in 0..100 {
        client.push(Kind::Whole, None, &set(b"k", b"v", false));
    }
    while !client.mailbox.is_consumed(client.producer.position()) {
        std::thread::yield_now();
    }
    let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    let bytes = i64::try_from(SHAPE.bytes()).unwrap();
    fallocate(&client.file, flags, 0, bytes).unwrap();
    client.stream.write_all(&[1]).unwrap();
    client.assert_is_closed();
    Peer::attached(&daemon).assert_is_served();
}

/// The hazard: a request that the daemon neither handles nor drops keeps its loop awake.
#[test]
fn requests_over_the_socket_after_an_attach_with_a_mailbox_are_mere_wakeups() {
    let daemon = Daemon::start(limits());
    let mut peer = Peer::connect(&daemon);
    let mut sent = bytes(&Request::Attach { protocol: PROTOCOL_VERSION, mailbox: true });
    sent.extend_from_slice(&bytes(&Request::Get { key: b"later" }));
    peer.send_bytes(&sent);
    assert!(peer.payload().is_some(), "the attach gets its reply");
    peer.send(&Request::Get { key: b"later" });
    Peer::attached(&daemon).assert_is_served();
    let before = daemon.turns();
    std::thread::sleep(Duration::from_millis(200));
    let turns = daemon.turns() - before;
    assert!(turns < 20, "{turns} turns of an idle daemon");
    let asked = daemon.unheard().into_iter().any(|heard| matches!(heard, Heard::Asked(..)));
    assert!(!asked, "a request over the socket was handled");
    peer.stream.shutdown(std::net::Shutdown::Both).unwrap();
    let Heard::Gone(_) = daemon.hear() else { panic!("the mailbox outlives its client") };
}

#[test]
fn a_client_that_stops_between_pieces_loses_that_request_only() {
    let stall = Duration::from_millis(200);
    let daemon = Daemon::start(Limits { stall, ..limits() });
    let mut client = Posted::attached(&daemon.socket());
    client.push(Kind::First, Some(1), &[4; 100]);
    client.ask(2, &Request::Get { key: b"bytes 100000" });
    std::thread::sleep(3 * stall);
    assert_eq!(client.get(3, b"another thread"), b"another thread");
    // What comes too late is ignored, and what is asked for too late ends with an empty piece.
    client.push(Kind::Next, Some(1), &[4; 100]);
    client.push(Kind::Last, Some(1), &[4; 100]);
    assert!(client.reply(2).len() < 100_000);
    for lane in [1, 2, 3] {
        assert_eq!(client.get(lane, b"still here"), b"still here");
        let bytes = client.get(lane, b"bytes 100000");
        assert_eq!(bytes.len(), 100_000, "lane {lane}");
    }
}

/// The memory for incomplete requests and replies is taken from those that hold it, and nobody
/// loses a connection.
#[test]
fn mailboxes_that_hold_too_much_lose_what_is_incomplete_and_stay() {
    let daemon = Daemon::start(Limits { buffer_bytes_max: 1 << 20, ..limits() });
    let mut clients: Vec<_> = (0..4).map(|_| Posted::attached(&daemon.socket())).collect();
    for client in &mut clients {
        client.ask(1, &Request::Get { key: b"bytes 600000" });
    }
    for client in &mut clients {
        assert_eq!(client.get(2, b"served"), b"served");
    }
    let whole =
        clients.iter_mut().filter_map(|client| (client.reply(1).len() > 600_000).then_some(()));
    assert_eq!(whole.count(), 1, "more than one fits, or the last that came does not");
}

/// Writes any word at any moment, also while the daemon reads it.
#[test]
fn a_mailbox_that_changes_while_it_is_read_harms_nobody() {
    let mut random = Random::new();
    let daemon = Daemon::start(Limits { spin: Duration::from_millis(1), ..limits() });
    let mut other = Posted::attached(&daemon.socket());
    let mut sent = 0_u32;
    for _ in 0..200 {
        let mut client = Posted::attached(&daemon.socket());
        for _ in 0..random.below(30) {
            // Honest requests, and random words, mostly where the daemon reads.
            match random.below(4) {
                0 => client.push(Kind::Whole, None, &set(b"k", &vec![7; random.below(300)], false)),
                1 => {
                    let lane = u8::try_from(random.below(SHAPE.lanes)).unwrap();
                    let size = format!("bytes {}", random.below(30_000));
                    client.push(
                        Kind::Whole,
                        Some(lane),
                        &payload(&Request::Get { key: size.as_bytes() }),
                    );
                }
                _ => {
                    let ring = SHAPE.words() - SHAPE.ring_words;
                    let place = match random.below(3) {
                        0 => random.below(64),
                        1 => ring + random.below(200),
                        _ => random.below(SHAPE.words()),
                    };
                    let word = match random.below(3) {
                        0 => random.below(9000) as u64,
                        1 => {
                            (random.below(7) << 16 | random.below(300) | random.below(20) << 24)
                                as u64
                        }
                        _ => random.word(),
                    };
                    client.poke(place, word);
                    let _ = client.stream.write_all(&[1]);
                }
            }
            if client.is_closed() {
                break;
            }
        }
        sent += 1;
        assert_eq!(other.get(0, &sent.to_le_bytes()), sent.to_le_bytes());
        daemon.unheard();
    }
}
