//! What a read sees of an entry that is replaced, deleted, hidden or recycled meanwhile.

use super::table::{
    A, Ack, B, ENTRY_WORDS, FIRST, NEW, OLD, Read, SECOND, Seen, Shared, entry, hash,
    model_of_reads, put, recycle, slot, table,
};
use loom::thread;
use shm_layout::Writer;
use std::sync::OnceLock;

/// What one reader sees of `A`, which is in this line, while the owner makes a change.
pub fn seen(read: Read, line: usize, change: impl Fn(&Writer<Shared>)) -> Seen {
    let (writer, reader) = table(line);
    let ack = Ack::none();
    let acknowledged = ack.clone();
    let reading = thread::spawn(move || read(&reader, &acknowledged));
    change(&writer);
    ack.give();
    reading.join().unwrap()
}

/// A key as long as `A`, and with the same first line.
pub fn neighbour() -> &'static [u8] {
    static KEY: OnceLock<String> = OnceLock::new();
    let is_neighbour = |key: &String| slot(key.as_bytes(), 0) == slot(A, 0);
    let find = || (0..1_000_000).map(|number| format!("n{number:06}")).find(is_neighbour).unwrap();
    KEY.get_or_init(find).as_bytes()
}

/// W3 against R4: a reader that sees the slot sees the entry.
#[test]
fn an_overwrite_shows_the_old_value_or_the_new_one() {
    model_of_reads(|read, line| {
        let seen = seen(read, line, |writer| {
            put(writer, slot(A, line), SECOND, &entry(A, NEW, 2));
        });
        assert!(seen.is(NEW) || seen.is(OLD) && !seen.acknowledged);
    });
}

/// W4 against R4 and R6: another key's entry takes the place of the one being read.
#[test]
fn a_recycled_segment_never_shows_another_entry() {
    model_of_reads(|read, line| {
        let seen = seen(read, line, |writer| {
            recycle(writer, slot(A, line));
            put(writer, slot(B, 0), FIRST, &entry(B, NEW, 2));
        });
        assert!(seen.is_none() || seen.is(OLD) && !seen.acknowledged, "bytes of another entry");
    });
}

/// The same key again, at the same words, under the same slot word: only the generation differs.
#[test]
fn a_key_that_returns_to_its_place_is_whole() {
    model_of_reads(|read, line| {
        let seen = seen(read, line, |writer| {
            recycle(writer, slot(A, line));
            put(writer, slot(A, line), FIRST, &entry(A, NEW, 2));
        });
        if seen.acknowledged {
            assert!(seen.is(NEW), "not the acknowledged value");
        } else {
            assert!(seen.is_none() || seen.is(OLD) || seen.is(NEW));
        }
    });
}

/// The slot in which the key was found belongs to another key by the time it is read.
#[test]
fn a_slot_that_became_another_keys_never_shows_its_value() {
    model_of_reads(|read, line| {
        let seen = seen(read, line, |writer| {
            writer.clear(slot(A, line));
            put(writer, slot(A, line), SECOND, &entry(neighbour(), NEW, 2));
        });
        assert!(seen.is_none() || seen.is(OLD) && !seen.acknowledged, "another key's value");
    });
}

/// The same, with the other key's entry in the place of the key's former entry.
#[test]
fn a_slot_that_became_another_keys_at_the_same_place_never_shows_its_value() {
    model_of_reads(|read, line| {
        let seen = seen(read, line, |writer| {
            recycle(writer, slot(A, line));
            put(writer, slot(A, line), FIRST, &entry(neighbour(), NEW, 2));
        });
        assert!(seen.is_none() || seen.is(OLD) && !seen.acknowledged, "another key's value");
    });
}

/// A kept entry is copied and its slot redirected, before its segment is recycled.
#[test]
fn an_entry_that_is_kept_is_found_where_it_is_now() {
    model_of_reads(|read, line| {
        let seen = seen(read, line, |writer| {
            writer.copy(FIRST, SECOND, ENTRY_WORDS).unwrap();
            writer.publish(slot(A, line), hash(A), SECOND);
            writer.begin_recycling(0);
            writer.end_recycling(0);
            put(writer, slot(B, 0), FIRST, &entry(B, NEW, 2));
        });
        assert!(seen.is(OLD) || seen.is_none() && !seen.acknowledged);
    });
}

/// A reader that knows of the acknowledged delete does not see the entry.
#[test]
fn a_delete_that_is_known_of_is_seen() {
    model_of_reads(|read, line| {
        let seen = seen(read, line, |writer| writer.clear(slot(A, line)));
        assert!(seen.is_none() || !seen.acknowledged, "read after its delete was acknowledged");
    });
}

/// R8: a raised floor hides older entries from a reader that knows of it.
#[test]
fn a_raised_floor_hides_older_entries() {
    model_of_reads(|read, line| {
        let seen = seen(read, line, |writer| writer.raise_policy_floor(0, 2));
        assert!(seen.is_none() || !seen.acknowledged, "read below a floor that it knew of");
    });
}
