//! The mailbox: its file, its words, its ring, and the threads that sleep on it.

use crate::attack::{Found, Target};
use l1d_wire::protocol::Request;
use nix::errno::Errno::EPERM;
use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl};
use nix::unistd::ftruncate;
use shm_layout::mailbox::SHAPE;
use shm_layout::mailbox::ring::{Head, Kind};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;
use test_support::posted::{Posted, payload};
use test_support::random::Random;

/// Threads that sleep on one word.
const SLEEPERS: usize = 500;
const SLEEPER_STACK_BYTES: usize = 32 << 10;
const SLEEP: Duration = Duration::from_millis(100);

/// An attachment whose doorbell never waits.
fn attached(target: &Target) -> Posted {
    let posted = Posted::attached(&target.socket);
    posted.stream.set_nonblocking(true).expect("a socket");
    posted
}

/// Changes the size of the mailbox, seals it, and punches holes while the daemon reads it.
pub fn file(target: &Target, found: &mut Found) {
    let mut posted = attached(target);
    let bytes = i64::try_from(SHAPE.bytes()).unwrap_or(0);
    found.refused("shorten it", ftruncate(&posted.file, 0), &[EPERM]);
    found.refused("lengthen it", ftruncate(&posted.file, bytes * 2), &[EPERM]);
    let seals = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_FUTURE_WRITE;
    found.refused("seal it", fcntl(&posted.file, FcntlArg::F_ADD_SEALS(seals)), &[EPERM]);
    let file = posted.file.try_clone().expect("a descriptor");
    thread::scope(|scope| {
        scope.spawn(|| {
            let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
            while target.goes_on() {
                let _ = fallocate(&file, flags, 0, bytes);
            }
        });
        let request = payload(&Request::Get { key: b"attack" });
        let head = Head { kind: Kind::Whole, lane: Some(0), sequence: 1 };
        while target.goes_on() {
            posted.mailbox.open_lane(0, 1);
            // A record that is gone before it is read may leave the ring full.
            if posted.is_closed() || posted.producer.push(head, &request).is_err() {
                posted = attached(target);
            }
            let _ = posted.stream.write_all(&[1]);
            found.repeats += 1;
        }
    });
    found.says("punch holes while it is read: the connection goes on, or is closed");
}

/// Writes any word at any time, while requests are under way.
pub fn words(target: &Target, found: &mut Found) {
    let mut random = Random::new();
    while target.goes_on() {
        let mut posted = attached(target);
        let (words, mut stray) = (posted.words(), random.split());
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let word = [stray.word(), stray.word() >> 40, u64::MAX][stray.below(3)];
                    words.poke(stray.below(SHAPE.words()), word);
                }
            });
            for _ in 0..200 {
                if posted.is_closed() {
                    break;
                }
                let value = vec![b'x'; random.below(3000)];
                let lane =
                    [None, Some(u8::try_from(random.below(16)).unwrap_or(0))][random.below(2)];
                let kind =
                    [Kind::Whole, Kind::First, Kind::Next, Kind::Last, Kind::More][random.below(5)];
                let head = Head { kind, lane, sequence: 1 };
                let _ = posted.producer.push(head, &value);
                let _ = posted.stream.write_all(&[1]);
                found.repeats += 1;
            }
            is_over.store(true, Ordering::Relaxed);
        });
    }
}

/// Claims more than the ring holds, and less than was there.
pub fn rings(target: &Target, found: &mut Found) {
    let mut random = Random::new();
    while target.goes_on() {
        let Some(mut posted) = Posted::try_attached(&target.socket) else { continue };
        let ring = SHAPE.ring_words as u64;
        let claim = [ring + 1, 1 << 32, u64::MAX, u64::MAX - ring, 1 << 63][random.below(5)];
        posted.poke(0, claim);
        let _ = posted.stream.write_all(&[1]);
        posted.assert_is_closed();
        found.repeats += 1;
    }
    found.says("each claim: the connection is closed");
}

/// Has many threads sleep on the word of one lane, and asks for replies there.
pub fn sleepers(target: &Target, found: &mut Found) {
    let mut posted = attached(target);
    let (words, word) = (posted.words(), posted.mailbox.lane_word(0));
    let woken = Arc::new(AtomicU64::new(0));
    let threads: Vec<_> = (0..SLEEPERS)
        .map_while(|_| {
            let (words, target) = (words.clone(), target.clone());
            let sleeper = thread::Builder::new().stack_size(SLEEPER_STACK_BYTES);
            let woken = Arc::clone(&woken);
            let sleep = move || {
                while target.goes_on() {
                    woken.fetch_add(u64::from(words.sleep(word, SLEEP)), Ordering::Relaxed);
                }
            };
            sleeper.spawn(sleep).ok()
        })
        .collect();
    found.says(format!("{} threads sleep on one lane", threads.len()));
    while target.goes_on() {
        posted.ask(0, &Request::Get { key: b"attack" });
        posted.reply_as_if_asleep(0);
        found.repeats += 1;
    }
    for thread in threads {
        let _ = thread.join();
    }
    let woken = woken.load(Ordering::Relaxed);
    found.expects(
        woken <= found.repeats,
        format!("{woken} were woken by {} replies", found.repeats),
    );
}
