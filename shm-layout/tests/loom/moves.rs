//! An entry that moves to its key's other line to make room (one step of cuckoo hashing).

use super::reads::{neighbour, seen};
use super::sightings::sighted_and_asked;
use super::table::{
    A, Ack, FIRST, NEW, OLD, PLACES, SECOND, Shared, THIRD, entry, hash, model, model_of_reads,
    put, slot, table, table_and_memory,
};
use loom::thread;
use shm_layout::{Location, Memory, Writer};

/// A slot of the line that the given one is not in.
fn other(place: usize) -> usize {
    usize::from(place != 1)
}

/// Moves the entry of `A` at `at` from this line to the other.
fn move_from(writer: &Writer<Shared>, line: usize, at: Location) {
    writer.move_slot(slot(A, line), slot(A, other(line)), hash(A), at);
}

/// A read during the move may miss; one that begins later, or that found the old slot before, does
/// not.
#[test]
fn an_entry_that_moved_is_found_where_it_is_now() {
    model_of_reads(|read, line| {
        let seen = seen(read, line, |writer| move_from(writer, line, FIRST));
        assert!(seen.is(OLD) || seen.is_none() && !seen.acknowledged);
    });
}

/// The slot that it left belongs to the new entry.
#[test]
fn an_entry_that_moved_is_not_taken_for_the_one_that_came_in_its_slot() {
    model_of_reads(|read, line| {
        let seen = seen(read, line, |writer| {
            move_from(writer, line, FIRST);
            put(writer, slot(A, line), SECOND, &entry(neighbour(), NEW, 2));
        });
        assert!(seen.is(OLD) || seen.is_none() && !seen.acknowledged);
    });
}

/// The slot that it left does not show a value that was replaced in the new slot, although its
/// segment stays.
#[test]
fn an_entry_that_moved_and_was_replaced_is_not_seen_any_more() {
    model_of_reads(|read, line| {
        let seen = seen(read, line, |writer| {
            move_from(writer, line, FIRST);
            put(writer, slot(A, other(line)), SECOND, &entry(A, NEW, 2));
        });
        if seen.acknowledged {
            assert!(seen.is(NEW), "not the acknowledged value");
        }
        let version = seen.value.as_ref().map(|(version, _)| *version);
        assert!(seen.is_none() || version == Some(if seen.is(OLD) { 1 } else { 2 }));
    });
}

/// Nor does a reader without an acknowledgement see it after it has seen the new value.
#[test]
fn a_reader_never_goes_back_to_the_value_before_the_move() {
    model_of_reads(|read, line| {
        let (writer, reader) = table(line);
        let reading = thread::spawn(move || {
            let no_ack = Ack::none();
            [read(&reader, &no_ack), read(&reader, &no_ack)]
        });
        move_from(&writer, line, FIRST);
        put(&writer, slot(A, other(line)), SECOND, &entry(A, NEW, 2));
        let [before, after] = reading.join().unwrap();
        assert!(!(before.is(NEW) && after.is(OLD)), "went back");
    });
}

/// W10: the state that a kill at any point leaves.
#[test]
fn at_no_moment_has_a_key_two_slots() {
    for line in 0..PLACES {
        model(move || {
            let (writer, _, memory) = table_and_memory(&entry(A, OLD, 1), line);
            let looking = thread::spawn(move || {
                // SAFETY: slots of the model.
                let new = unsafe { memory.load(slot(A, other(line))) };
                memory.fence_acquire();
                // SAFETY: as above.
                let old = unsafe { memory.load(slot(A, line)) };
                new != 0 && old != 0
            });
            move_from(&writer, line, FIRST);
            assert!(!looking.join().unwrap(), "two slots at a moment");
        });
    }
}

/// A sighting names the slot that the entry has left, whichever entry has come into it since.
#[test]
fn a_sighting_of_an_entry_that_moved_and_was_replaced_does_not_hold() {
    let changes: [fn(&Writer<Shared>); 3] = [
        |writer| {
            move_from(writer, 0, FIRST);
            put(writer, slot(A, 1), SECOND, &entry(A, NEW, 2));
        },
        |writer| {
            move_from(writer, 0, FIRST);
            put(writer, slot(A, 1), SECOND, &entry(A, NEW, 2));
            move_from(writer, 1, SECOND);
        },
        |writer| {
            move_from(writer, 0, FIRST);
            put(writer, slot(A, 0), SECOND, &entry(neighbour(), NEW, 2));
            put(writer, slot(A, 1), THIRD, &entry(A, NEW, 3));
        },
    ];
    for change in changes {
        model(move || {
            let (acknowledged, held) = sighted_and_asked(change);
            assert!(!(acknowledged && held), "held after a new value was acknowledged");
        });
    }
}

/// It is the same entry, in the same slot as when it was sighted.
#[test]
fn a_sighting_of_an_entry_that_moved_there_and_back_holds_again() {
    model(|| {
        let (acknowledged, held) = sighted_and_asked(|writer| {
            move_from(writer, 0, FIRST);
            move_from(writer, 1, FIRST);
        });
        assert!(held || !acknowledged);
    });
}
