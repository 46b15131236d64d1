//! Strict entries, which are visible only under a lease.

use super::sightings::sight;
use super::table::{A, Ack, OLD, Shared, entry, model, model_of_reads, slot, table_with};
use loom::thread;
use shm_layout::{Entry, Writer};

fn strict() -> Entry<'static> {
    Entry { strict: true, ..entry(A, OLD, 1) }
}

/// The owner's invalidations for missed changes, before it renews an expired lease.
const INVALIDATIONS: [fn(&Writer<Shared>, usize); 2] =
    [|writer, _| writer.raise_strict_floor(2), |writer, line| writer.clear(slot(A, line))];

/// W8 against R8: an entry that was invalid before the lease was renewed is never seen under the
/// new lease, not even by a reader that began earlier.
#[test]
fn a_renewed_lease_does_not_bring_an_invalid_entry_back() {
    for invalidate in INVALIDATIONS {
        model_of_reads(move |read, line| {
            let (writer, reader) = table_with(&strict(), line);
            let reading = thread::spawn(move || read(&reader, &Ack::none()));
            invalidate(&writer, line);
            writer.set_lease_until(10);
            let seen = reading.join().unwrap();
            assert!(seen.is_none(), "seen under a lease that began behind its end");
        });
    }
}

/// The same for an entry that was sighted under the previous lease.
#[test]
fn a_renewed_lease_does_not_bring_an_invalid_sighting_back() {
    for invalidate in INVALIDATIONS {
        model(move || {
            let (writer, reader) = table_with(&strict(), 0);
            writer.set_lease_until(10);
            let sighting = sight(&reader, 5);
            let asking = thread::spawn(move || reader.holds(&sighting, || Some(15)));
            invalidate(&writer, 0);
            writer.set_lease_until(20);
            assert!(!asking.join().unwrap(), "held under a lease that began behind its end");
        });
    }
}
