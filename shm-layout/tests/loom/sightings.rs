//! The result of an earlier read, checked again without reading key and entry.

use super::table::{A, Ack, FIRST, NEW, SECOND, Shared, entry, model, put, recycle, slot, table};
use loom::thread;
use shm_layout::{InPlace, Outcome, Reader, Receiver, Sighting, Writer};

#[derive(Default)]
struct Sight(Option<Sighting>);

impl Receiver<Shared> for Sight {
    fn receive(&mut self, _: InPlace<'_, Shared>) {}
    fn sighted(&mut self, sighting: Sighting) {
        self.0 = Some(sighting);
    }
}

/// Reads `A` with this clock.
pub fn sight(reader: &Reader<Shared>, clock: u64) -> Sighting {
    let mut sight = Sight::default();
    assert!(matches!(reader.read(A, || Some(clock), &mut sight), Outcome::Hit(_)));
    sight.0.unwrap()
}

/// A reader sights `A` in its first line; another one, which may have the acknowledgement of
/// `change`, checks the sighting. Returns whether it had the acknowledgement, and whether the
/// sighting held.
pub fn sighted_and_asked(change: impl Fn(&Writer<Shared>)) -> (bool, bool) {
    let (writer, reader) = table(0);
    let sighting = sight(&reader, 0);
    assert!(reader.holds(&sighting, || Some(0)));
    let ack = Ack::none();
    let acknowledged = ack.clone();
    let asking =
        thread::spawn(move || (acknowledged.is_given(), reader.holds(&sighting, || Some(0))));
    change(&writer);
    ack.give();
    asking.join().unwrap()
}

/// The slot word is the same as before, but the words of the entry are another's.
#[test]
fn a_sighting_of_a_key_that_returned_to_its_place_does_not_hold() {
    model(|| {
        let (acknowledged, held) = sighted_and_asked(|writer| {
            recycle(writer, slot(A, 0));
            put(writer, slot(A, 0), FIRST, &entry(A, NEW, 2));
        });
        assert!(!(acknowledged && held), "held after a new value was acknowledged");
    });
}

/// The generation is the same as before.
#[test]
fn a_sighting_of_a_deleted_replaced_or_hidden_entry_does_not_hold() {
    let changes: [fn(&Writer<Shared>); 3] = [
        |writer| writer.clear(slot(A, 0)),
        |writer| put(writer, slot(A, 0), SECOND, &entry(A, NEW, 2)),
        |writer| writer.raise_policy_floor(0, 2),
    ];
    for change in changes {
        model(move || {
            let (acknowledged, held) = sighted_and_asked(change);
            assert!(!(acknowledged && held), "held after the change was acknowledged");
        });
    }
}
