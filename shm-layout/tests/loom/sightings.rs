//! What an earlier read has found, asked for again without a look at key and entry.

use super::table::{A, FIRST, NEW, SECOND, Shared, Told, entry, model, put, recycle, slot, table};
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

/// Reads `A` by this clock.
pub fn sight(reader: &Reader<Shared>, clock: u64) -> Sighting {
    let mut sight = Sight::default();
    assert!(matches!(reader.read(A, || clock, &mut sight), Outcome::Hit(_)));
    sight.0.unwrap()
}

/// A reader sights `A` in its first line; another one, which may hear of what `change` does, asks
/// for it again. Whether it had heard, and whether the sighting held.
pub fn sighted_and_asked(change: impl Fn(&Writer<Shared>)) -> (bool, bool) {
    let (writer, reader) = table(0);
    let sighting = sight(&reader, 0);
    assert!(reader.holds(&sighting, || 0));
    let told = Told::nobody();
    let heard = told.clone();
    let asking = thread::spawn(move || (heard.is_heard(), reader.holds(&sighting, || 0)));
    change(&writer);
    told.tell();
    asking.join().unwrap()
}

/// The slot word is the same as before, and the words of the entry are another's.
#[test]
fn a_sighting_does_not_hold_for_what_returned_to_its_place() {
    model(|| {
        let (heard, held) = sighted_and_asked(|writer| {
            recycle(writer, slot(A, 0));
            put(writer, slot(A, 0), FIRST, &entry(A, NEW, 2));
        });
        assert!(!(heard && held), "held after a new value was acknowledged");
    });
}

/// The generation is the same as before.
#[test]
fn a_sighting_does_not_hold_for_what_was_deleted_replaced_or_hidden() {
    let changes: [fn(&Writer<Shared>); 3] = [
        |writer| writer.clear(slot(A, 0)),
        |writer| put(writer, slot(A, 0), SECOND, &entry(A, NEW, 2)),
        |writer| writer.raise_policy_floor(0, 2),
    ];
    for change in changes {
        model(move || {
            let (heard, held) = sighted_and_asked(change);
            assert!(!(heard && held), "held after the change was acknowledged");
        });
    }
}
