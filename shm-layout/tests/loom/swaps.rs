//! Two slots of a line are swapped, so that a key that is hit moves to its own slot.

use super::reads::neighbour;
use super::table::{
    A, Ack, FIRST, NEW, OLD, OWN, Read, SECOND, Seen, Shared, THIRD, entry, model, put, read,
    read_by_steps, slot, table,
};
use loom::thread;
use shm_layout::Writer;

/// What a reader sees of `A`, which is in this slot with a neighbour in the other one, while the
/// two are swapped and `change` is made.
fn seen(read: Read, place: usize, change: impl Fn(&Writer<Shared>)) -> Seen {
    let (writer, reader) = table(place);
    put(&writer, slot(A, OWN - place), SECOND, &entry(neighbour(), NEW, 1));
    let ack = Ack::none();
    let acknowledged = ack.clone();
    let reading = thread::spawn(move || read(&reader, &acknowledged));
    // The slot of the key that was hit comes first.
    writer.swap_slots(slot(A, 0), slot(A, OWN));
    change(&writer);
    ack.give();
    reading.join().unwrap()
}

/// Both ways to read, with `A` as the key that moves to its own slot and as the one that leaves it.
fn model_of_swaps(run: impl Fn(Read, usize) + Copy + Sync + Send + 'static) {
    for read in [read, read_by_steps] {
        for place in [0, OWN] {
            model(move || run(read, place));
        }
    }
}

/// Never the neighbour's value; and a read that begins after the swap finds it.
#[test]
fn a_swapped_key_may_be_missed_during_the_swap_and_is_found_afterwards() {
    model_of_swaps(|read, place| {
        let seen = seen(read, place, |_| {});
        assert!(seen.is(OLD) || seen.is_none() && !seen.acknowledged);
    });
}

/// The slot that it left no longer shows it.
#[test]
fn a_key_that_was_swapped_and_replaced_shows_no_old_value() {
    model_of_swaps(|read, place| {
        let seen = seen(read, place, |writer| {
            put(writer, slot(A, OWN - place), THIRD, &entry(A, NEW, 2));
        });
        assert!(seen.is(NEW) || !seen.acknowledged, "not the acknowledged value");
        let version = seen.value.as_ref().map(|(version, _)| *version);
        assert!(seen.is_none() || version == Some(if seen.is(OLD) { 1 } else { 2 }));
    });
}

/// Nor does a reader without an acknowledgement see it after it has seen the new value.
#[test]
fn a_reader_never_goes_back_to_the_value_before_the_swap() {
    model_of_swaps(|read, place| {
        let (writer, reader) = table(place);
        put(&writer, slot(A, OWN - place), SECOND, &entry(neighbour(), NEW, 1));
        let reading = thread::spawn(move || {
            let no_ack = Ack::none();
            [read(&reader, &no_ack), read(&reader, &no_ack)]
        });
        writer.swap_slots(slot(A, 0), slot(A, OWN));
        put(&writer, slot(A, OWN - place), THIRD, &entry(A, NEW, 2));
        let [before, after] = reading.join().unwrap();
        assert!(!(before.is(NEW) && after.is(OLD)), "went back");
    });
}

/// When a key has gone, its slot is cleared: at a swap, it may be either of the two.
#[test]
fn a_key_that_was_swapped_and_deleted_is_gone() {
    model_of_swaps(|read, place| {
        let seen = seen(read, place, |writer| writer.clear(slot(A, OWN - place)));
        assert!(seen.is_none() || seen.is(OLD) && !seen.acknowledged);
    });
}

/// Recycling its segment clears the slot that it is in at that time.
#[test]
fn a_key_that_was_swapped_and_recycled_is_gone() {
    model_of_swaps(|read, place| {
        let seen = seen(read, place, |writer| {
            writer.begin_recycling(FIRST.segment);
            writer.clear(slot(A, OWN - place));
            writer.end_recycling(FIRST.segment);
        });
        assert!(seen.is_none() || seen.is(OLD) && !seen.acknowledged);
    });
}
