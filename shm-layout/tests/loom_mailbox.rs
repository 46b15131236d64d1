//! The mailbox from both sides, over the interleavings and weak orders that loom explores:
//! `./dev loom`.
//!
//! The hazards: a side that sleeps for ever because its wake was lost, a record that is read before
//! it is whole or written over before it was read, a reply that is read before it is whole, and
//! reports of hits that nobody made.
//!
//! A sleep is a park that ends when the other side says so, so a wake that is lost, in whichever
//! round, is a deadlock, which loom reports.
//!
//! Each mechanism was taken out once, and a model failed:
//!
//! | taken out | the model that fails |
//! |---|---|
//! | the release before `produced`, or the acquire behind its load | records wrap, a split record, both sides sleep |
//! | the second part of the copy of a record that goes on at the ring's beginning, on either side | a split record |
//! | the fence of `must_ring`, or of `may_sleep`; the look of `may_sleep` | a sleeping owner, both sides sleep |
//! | the fence of `want_room`, or of `wakes_for_room`; the push between wish and sleep | a full ring, both sides sleep |
//! | `wakes_for_room` after records were read, or that it says so to all who wait | both sides sleep, two wait for room |
//! | the exchange of `sleep_in` (a store instead), or the acquire of `reply` | a sleeping client, a reply in pieces |
//! | that a lane which says "sleeping" already may be slept in again | a client that slept in vain |
//! | the sequence in the lane's word | a lane that is asked again |
//! | the mark that more follows; the lane opened before `More` is pushed, not behind it | a reply in pieces |
//! | that the reply to a polled lane makes the descriptor readable; that it is heard before lanes are looked at | replies that are polled for |
//! | that a mark which went back tells of nothing new | threads that share a stripe |
//! | that no more is taken than a stripe keeps, or that what was seen is kept in mind | one thread's reports |
//!
//! The release before `consumed` and the acquire behind its load keep the owner's copy of a record
//! before the client's stores over it. No model misses them, because loom never lets a load see a
//! store that comes later; they stay, because a weakly ordered processor may.
#![cfg(loom)]

#[path = "loom_mailbox/lane.rs"]
mod lane;
#[path = "loom_mailbox/report.rs"]
mod report;
#[path = "loom_mailbox/ring.rs"]
mod ring;
#[path = "loom_mailbox/words.rs"]
mod words;
