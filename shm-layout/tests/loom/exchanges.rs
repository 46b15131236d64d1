//! Two slots of a line that are exchanged, so that a key that is hit stands in its own.

use super::reads::neighbour;
use super::table::{
    A, FIRST, NEW, OLD, OWN, Read, SECOND, Seen, Shared, THIRD, Told, entry, model, put, read,
    read_by_steps, slot, table,
};
use loom::thread;
use shm_layout::Writer;

/// What a reader of `A`, which stands in the one place and a neighbour in the other, sees while
/// they are exchanged and `change` is made.
fn seen(read: Read, place: usize, change: impl Fn(&Writer<Shared>)) -> Seen {
    let (writer, reader) = table(place);
    put(&writer, slot(A, OWN - place), SECOND, &entry(neighbour(), NEW, 1));
    let told = Told::nobody();
    let heard = told.clone();
    let reading = thread::spawn(move || read(&reader, &heard));
    // The one that is hit comes first.
    writer.swap_slots(slot(A, 0), slot(A, OWN));
    change(&writer);
    told.tell();
    reading.join().unwrap()
}

/// Both ways to read, `A` being the key that takes its own slot, and the one that leaves it.
fn model_of_exchanges(run: impl Fn(Read, usize) + Copy + Sync + Send + 'static) {
    for read in [read, read_by_steps] {
        for place in [0, OWN] {
            model(move || run(read, place));
        }
    }
}

/// Never the neighbour's value; and whoever begins behind it finds it.
#[test]
fn what_is_exchanged_is_found_or_missed_while_it_goes_on_and_found_afterwards() {
    model_of_exchanges(|read, place| {
        let seen = seen(read, place, |_| {});
        assert!(seen.is(OLD) || seen.is_none() && !seen.heard);
    });
}

/// The slot that it left shows nothing of it any more.
#[test]
fn what_was_exchanged_and_replaced_is_not_seen_any_more() {
    model_of_exchanges(|read, place| {
        let seen = seen(read, place, |writer| {
            put(writer, slot(A, OWN - place), THIRD, &entry(A, NEW, 2));
        });
        assert!(seen.is(NEW) || !seen.heard, "not what it has heard of");
        let version = seen.value.as_ref().map(|(version, _)| *version);
        assert!(seen.is_none() || version == Some(if seen.is(OLD) { 1 } else { 2 }));
    });
}

/// Nor by a reader that nobody tells, after it has seen the new value.
#[test]
fn a_reader_does_not_go_back_to_what_was_there_before_the_exchange() {
    model_of_exchanges(|read, place| {
        let (writer, reader) = table(place);
        put(&writer, slot(A, OWN - place), SECOND, &entry(neighbour(), NEW, 1));
        let reading = thread::spawn(move || {
            let nobody = Told::nobody();
            [read(&reader, &nobody), read(&reader, &nobody)]
        });
        writer.swap_slots(slot(A, 0), slot(A, OWN));
        put(&writer, slot(A, OWN - place), THIRD, &entry(A, NEW, 2));
        let [before, after] = reading.join().unwrap();
        assert!(!(before.is(NEW) && after.is(OLD)), "went back");
    });
}

/// A key's slot is cleared when it has gone: both of the moment's two are.
#[test]
fn what_was_exchanged_and_deleted_is_gone() {
    model_of_exchanges(|read, place| {
        let seen = seen(read, place, |writer| writer.clear(slot(A, OWN - place)));
        assert!(seen.is_none() || seen.is(OLD) && !seen.heard);
    });
}

/// Recycling its segment clears the slot where it stands then.
#[test]
fn what_was_exchanged_and_recycled_is_gone() {
    model_of_exchanges(|read, place| {
        let seen = seen(read, place, |writer| {
            writer.begin_recycling(FIRST.segment);
            writer.clear(slot(A, OWN - place));
            writer.end_recycling(FIRST.segment);
        });
        assert!(seen.is_none() || seen.is(OLD) && !seen.heard);
    });
}
