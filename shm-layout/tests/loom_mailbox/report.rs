//! Hit reports: every drained report was reported now or earlier; none is made up.

use super::words::{SHAPE, Words, mailbox_of, model};
use loom::thread;
use shm_layout::mailbox::report::Seen;
use shm_layout::mailbox::{Mailbox, Shape};

const STRIPE: Shape = Shape { stripe_words: 2, ..SHAPE };

/// The owner's counts.
#[derive(Default)]
struct Drained {
    seen: Seen,
    /// Reports made so far, as returned by `drain`.
    reports: u64,
    /// Reports that were passed on, and the hits that they stand for.
    taken: u64,
    hits: u64,
    last: u64,
}

impl Drained {
    fn drain(&mut self, mailbox: &Mailbox<Words>) {
        let before = self.taken;
        let Drained { seen, taken, hits, last, .. } = self;
        let new = mailbox.drain(0, seen, |hash, each| {
            // 0: counted, but not yet written.
            assert!(hash == 0 || HASHES.contains(&hash), "{hash} was never reported");
            *taken += 1;
            *hits += u64::from(each);
            *last = hash;
        });
        assert!(self.taken - before <= STRIPE.stripe_words as u64, "more than are kept");
        self.reports = self.reports.checked_add(new).expect("fewer reports than there are numbers");
    }
}

const HASHES: [u64; 4] = [0x51, 0x52, 0x53, 0x54];
const HITS: u64 = 3;

/// More reports than the stripe holds, while the owner takes some of them.
#[test]
fn one_threads_reports_are_counted_once_and_losses_are_reported() {
    model(|| {
        let mailbox = mailbox_of(STRIPE);
        let client = mailbox.clone();
        let reporting = thread::spawn(move || {
            for hash in HASHES {
                client.report(0, &[hash], HITS);
            }
        });
        let mut drained = Drained::default();
        drained.drain(&mailbox);
        drained.drain(&mailbox);
        reporting.join().unwrap();
        drained.drain(&mailbox);
        assert_eq!(drained.reports, HASHES.len() as u64, "all are told of, once");
        assert!(drained.taken <= drained.reports);
        assert!(drained.hits <= HITS * HASHES.len() as u64, "hits that nobody made");
        let before = drained.taken;
        drained.drain(&mailbox);
        assert_eq!(drained.taken, before, "taken twice");
        assert_eq!(mailbox.hits(), HITS * HASHES.len() as u64);
    });
}

/// Two threads in one stripe, one with a batch: no report and no hit is lost or made up.
#[test]
fn threads_that_share_a_stripe_lose_no_report_and_no_hit() {
    model(|| {
        let mailbox = mailbox_of(STRIPE);
        let clients = [mailbox.clone(), mailbox.clone()];
        let mut hashes = [&HASHES[..2], &HASHES[2..3]].into_iter();
        let reporting = clients.map(|client| {
            let hashes = hashes.next().unwrap_or_default();
            thread::spawn(move || client.report(0, hashes, HITS))
        });
        let mut drained = Drained::default();
        for thread in reporting {
            drained.drain(&mailbox);
            thread.join().unwrap();
        }
        drained.drain(&mailbox);
        assert_eq!((drained.reports, mailbox.hits()), (3, 3 * HITS));
        assert!(drained.hits <= 3 * HITS, "{} hits", drained.hits);
        mailbox.report(0, &HASHES[3..], HITS);
        drained.drain(&mailbox);
        assert_eq!(drained.last, HASHES[3], "a later report is taken");
    });
}
