//! An entry that moves to its key's other line to make room (one step of cuckoo hashing).

use super::reads::{neighbour, seen};
use super::sightings::sighted_and_asked;
use super::table::{
    A, FIRST, NEW, OLD, PLACES, SECOND, Shared, THIRD, Told, entry, hash, model, model_of_reads,
    put, slot, table, table_and_memory,
};
use loom::thread;
use shm_layout::{Location, Memory, Writer};

/// A place of the line that this one is not of.
fn other(place: usize) -> usize {
    usize::from(place != 1)
}

/// Moves the entry of `A` at `at` from this line to the other.
fn move_from(writer: &Writer<Shared>, line: usize, at: Location) {
    writer.move_slot(slot(A, line), slot(A, other(line)), hash(A), at);
}

/// A read in the midst of it may miss; one that begins later, or that found the old slot before,
/// does not.
#[test]
fn an_entry_that_moved_is_found_where_it_is_now() {
    model_of_reads(|read, line| {
        let seen = seen(read, line, |writer| move_from(writer, line, FIRST));
        assert!(seen.is(OLD) || seen.is_none() && !seen.heard);
    });
}

/// The slot that it left is the newcomer's.
#[test]
fn an_entry_that_moved_is_not_taken_for_the_one_that_came_in_its_slot() {
    model_of_reads(|read, line| {
        let seen = seen(read, line, |writer| {
            move_from(writer, line, FIRST);
            put(writer, slot(A, line), SECOND, &entry(neighbour(), NEW, 2));
        });
        assert!(seen.is(OLD) || seen.is_none() && !seen.heard);
    });
}

/// The slot that it left does not show what was replaced in the new one, though its segment stays.
#[test]
fn an_entry_that_moved_and_was_replaced_is_not_seen_any_more() {
    model_of_reads(|read, line| {
        let seen = seen(read, line, |writer| {
            move_from(writer, line, FIRST);
            put(writer, slot(A, other(line)), SECOND, &entry(A, NEW, 2));
        });
        if seen.heard {
            assert!(seen.is(NEW), "not what it has heard of");
        }
        let version = seen.value.as_ref().map(|(version, _)| *version);
        assert!(seen.is_none() || version == Some(if seen.is(OLD) { 1 } else { 2 }));
    });
}

/// Nor by a reader that nobody tells, after it has seen the new value.
#[test]
fn a_reader_does_not_go_back_to_what_was_there_before_the_move() {
    model_of_reads(|read, line| {
        let (writer, reader) = table(line);
        let reading = thread::spawn(move || {
            let nobody = Told::nobody();
            [read(&reader, &nobody), read(&reader, &nobody)]
        });
        move_from(&writer, line, FIRST);
        put(&writer, slot(A, other(line)), SECOND, &entry(A, NEW, 2));
        let [before, after] = reading.join().unwrap();
        assert!(!(before.is(NEW) && after.is(OLD)), "went back");
    });
}

/// W10: what a kill at any moment leaves.
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

/// A sighting names the slot that the entry has left, whatever has come into it since.
#[test]
fn a_sighting_does_not_hold_for_what_moved_and_was_replaced() {
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
            let (heard, held) = sighted_and_asked(change);
            assert!(!(heard && held), "held after a new value was acknowledged");
        });
    }
}

/// It is the same entry, in the same slot as when it was sighted.
#[test]
fn a_sighting_holds_again_for_what_moved_there_and_back() {
    model(|| {
        let (heard, held) = sighted_and_asked(|writer| {
            move_from(writer, 0, FIRST);
            move_from(writer, 1, FIRST);
        });
        assert!(held || !heard);
    });
}
