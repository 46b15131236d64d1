//! All attacks.

use crate::attack::Attack;
use crate::attacks::{crowds, descriptors, files, floods, keys, mailbox, stalls};
use anyhow::{Context, Result};

pub const ALL: [Attack; 22] = [
    Attack {
        name: "table-file",
        is_member: true,
        defence: "clients get a descriptor opened for reading, of a file of the daemon's user with \
                  mode 0640; the daemon locks another file",
        run: files::table,
    },
    Attack {
        name: "strange-files",
        is_member: false,
        defence: "directories that only the daemon's user can write; socket modes 0660; locks of \
                  mode 0600; protected_hardlinks",
        run: files::stranger,
    },
    Attack {
        name: "mailbox-file",
        is_member: true,
        defence: "a memfd of mode 0600, sealed against other sizes and further seals; a hole reads \
                  as zeros",
        run: mailbox::file,
    },
    Attack {
        name: "mailbox-words",
        is_member: true,
        defence: "W9: each word is loaded once, bounded and copied; who breaks the rules loses the \
                  connection",
        run: mailbox::words,
    },
    Attack {
        name: "rings-out-of-range",
        is_member: true,
        defence: "W9: the owner's ends are in private memory; a claim beyond the ring ends the \
                  connection",
        run: mailbox::rings,
    },
    Attack {
        name: "many-sleepers",
        is_member: true,
        defence: "one thread is woken for a reply, and 64 for room in the ring, however many sleep \
                  there",
        run: mailbox::sleepers,
    },
    Attack {
        name: "doorbells",
        is_member: true,
        defence: "wakeups are edge-triggered, without meaning, and never waited for on either side",
        run: stalls::doorbells,
    },
    Attack {
        name: "stalled-replies",
        is_member: true,
        defence: "pieces that are not sent or taken within 5 s are dropped; their memory is \
                  bounded for all clients together",
        run: stalls::replies,
    },
    Attack {
        name: "slow-frames",
        is_member: true,
        defence: "5 s to complete a request; buffers grow with the bytes that arrive",
        run: stalls::frames,
    },
    Attack {
        name: "slow-status",
        is_member: true,
        defence: "64 connections for each listener, 5 s for each, in a thread of its own with \
                  lower priority",
        run: stalls::status,
    },
    Attack {
        name: "descriptors",
        is_member: true,
        defence: "refused by the kernel from Linux 6.16 on; before, found by a look, never \
                  received, and closed by a thread",
        run: descriptors::control,
    },
    Attack {
        name: "descriptors-status",
        is_member: true,
        defence: "refused by the kernel from Linux 6.16 on; before, they can hold up the status \
                  thread alone",
        run: descriptors::status,
    },
    Attack {
        name: "attach-loop",
        is_member: true,
        defence: "16 connections accepted in a turn, each served within its budget",
        run: floods::attaches,
    },
    Attack {
        name: "connection-flood",
        is_member: true,
        defence: "7/8 of clients_max for one user; more are told so and closed",
        run: floods::connections,
    },
    Attack {
        name: "request-flood",
        is_member: true,
        defence: "256 keys of one mailbox in a turn; what exceeds that is taken off its next turns",
        run: floods::requests,
    },
    Attack {
        name: "figures-crowd",
        is_member: true,
        defence: "what one user's sockets have done in a millisecond is bounded, and a request for \
                  figures is all of it",
        run: crowds::figures,
    },
    Attack {
        name: "values-crowd",
        is_member: true,
        defence: "the same; a KiB received, answered or sent counts as a key",
        run: crowds::values,
    },
    Attack {
        name: "mailbox-crowd",
        is_member: true,
        defence: "what one user's mailboxes have done before all others had their turn is bounded",
        run: crowds::mailboxes,
    },
    Attack {
        name: "attach-crowd",
        is_member: true,
        defence: "the same; making a mailbox, and taking it away, count as 128 keys",
        run: crowds::attaches,
    },
    Attack {
        name: "report-flood",
        is_member: true,
        defence: "one stripe of reports in a drain; what a report stands for is capped",
        run: floods::reports,
    },
    Attack {
        name: "administration-flood",
        is_member: true,
        defence: "walks over the table take bounded pieces of a turn",
        run: floods::administration,
    },
    Attack {
        name: "colliding-keys",
        is_member: true,
        defence: "two lines of eight slots for each key: a collision costs an eviction, never time",
        run: keys::collide,
    },
];

/// The attacks of these names; all, if there are none.
pub fn chosen(names: &[String]) -> Result<Vec<&'static Attack>> {
    match names {
        [] => Ok(ALL.iter().collect()),
        names => names.iter().map(|name| named(name)).collect(),
    }
}

pub fn named(name: &str) -> Result<&'static Attack> {
    let names = || ALL.map(|attack| attack.name).join(", ");
    let found = ALL.iter().find(|attack| attack.name == name);
    found.with_context(|| format!("there is no attack {name:?}; there are {}", names()))
}
