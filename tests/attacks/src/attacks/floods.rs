//! As much as possible of what a client may do: attach, connect, ask, report, administrate.

use crate::attack::{Found, Target};
use l1d_client::{Client, SetOptions};
use l1d_wire::protocol::Request;
use shm_layout::mailbox::SHAPE;
use std::thread;
use std::time::Duration;
use test_support::posted::Posted;
use test_support::random::Random;
use test_support::servers::PATIENCE;

/// Attaches and leaves.
pub fn attaches(target: &Target, found: &mut Found) {
    while target.goes_on() {
        found.repeats += u64::from(Posted::try_attached(&target.socket).is_some());
    }
}

/// Holds as many connections with mailboxes as it gets, all of whose pages are in memory, and asks
/// for more.
pub fn connections(target: &Target, found: &mut Found) {
    let mut held = Vec::new();
    while target.goes_on() {
        match Posted::try_attached(&target.socket) {
            Some(posted) => {
                let words = posted.words();
                (1..SHAPE.words()).step_by(512).for_each(|index| words.poke(index, 0));
                held.push(posted);
            }
            None => thread::sleep(Duration::from_millis(1)),
        }
        found.repeats += 1;
    }
    found.says(format!("{} connections with mailboxes held at once", held.len()));
}

fn client(target: &Target) -> Client {
    let builder = Client::builder().socket(&target.socket);
    let client = builder.deadline(PATIENCE).attach_deadline(PATIENCE).connect();
    client.expect("a member may attach")
}

/// Keeps its ring full of unanswered sets, and asks for many keys meanwhile.
pub fn requests(target: &Target, found: &mut Found) {
    let client = client(target);
    let no_wait = SetOptions { no_wait: true, ..SetOptions::default() };
    let value = vec![b'f'; 1000];
    thread::scope(|scope| {
        scope.spawn(|| {
            let keys: Vec<String> = (0..2000).map(|number| format!("attack:no:{number}")).collect();
            while target.goes_on() {
                let _ = client.get_many(&keys);
            }
        });
        while target.goes_on() {
            // Busy when the ring is full.
            let key = format!("attack:{}", found.repeats % 1000);
            let _ = client.set_with(key, &value, &no_wait);
            found.repeats += 1;
        }
    });
}

/// Reports hits that never were, as fast as it can.
pub fn reports(target: &Target, found: &mut Found) {
    let mut posted = Posted::attached(&target.socket);
    let mut random = Random::new();
    while target.goes_on() {
        for _ in 0..1000 {
            let hash = random.word();
            posted.mailbox.report(random.below(SHAPE.stripes), &[hash], u64::MAX);
            found.repeats += 1;
        }
        // Has the daemon look at the mailbox.
        posted.ask(0, &Request::Get { key: b"attack" });
        posted.reply(0);
    }
}

/// Asks for everything that walks over the table.
pub fn administration(target: &Target, found: &mut Found) {
    let client = client(target);
    while target.goes_on() {
        let admin = client.admin();
        let _ = (admin.stats_json(), admin.check_json(), admin.clients_json());
        let _ = (admin.advise_json(), admin.explain_json(b"victim:000001"), admin.policy_json());
        let _ = admin.flush(b"attack:");
        found.repeats += 1;
    }
}
