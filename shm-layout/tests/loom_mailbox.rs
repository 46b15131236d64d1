//! The mailbox from both sides, over the interleavings and weak orders that loom explores:
//! `./dev loom`.
//!
//! The hazards: a side that sleeps forever because its wakeup was lost, a record that is read
//! before it is whole or overwritten before it was read, a reply that is read before it is whole,
//! and hit reports that nobody made.
//!
//! A sleep is a park that ends when the other side unparks it, so a lost wakeup is a deadlock,
//! which loom reports.
//!
//! Each mechanism was removed once, and a model failed:
//!
//! | removed | failing model |
//! |---|---|
//! | the release before `produced`, or the acquire after its load | records wrap, a split record, both sides sleep |
//! | the second part of the copy of a record that wraps around, on either side | a split record |
//! | the fence of `must_ring`, or of `may_sleep`; the load in `may_sleep` | a sleeping owner, both sides sleep |
//! | that `may_end` asks every caller of `must_ring` to ring, or that it looks after asking | an owner that ends |
//! | the fence of `want_room`, or of `wakes_for_room`; the push between request and sleep | a full ring, both sides sleep |
//! | `wakes_for_room` after records were read, or that it wakes all that wait | both sides sleep, two wait for room |
//! | the exchange of `sleep_in` (a store instead), or the acquire of `reply` | a sleeping client, a reply in pieces |
//! | that a lane which already says "sleeping" may be slept on again | a client that slept in vain |
//! | the sequence in the lane's word | a lane that is asked again |
//! | the flag that more follows; opening the lane before `More` is pushed, not after it | a reply in pieces |
//! | that the reply to a polled lane makes the descriptor readable; that the descriptor is read before lanes are | replies that are polled for |
//! | that a mark which went back announces nothing new | threads that share a stripe |
//! | that no more is taken than a stripe holds, or that the last count is remembered | one thread's reports |
//!
//! The release before `consumed` and the acquire after its load keep the owner's copy of a record
//! before the client's stores over it. No model fails without them, because loom never lets a load
//! see a store that comes later; they stay, because a weakly ordered processor may.
#![cfg(loom)]

#[path = "loom_mailbox/lane.rs"]
mod lane;
#[path = "loom_mailbox/report.rs"]
mod report;
#[path = "loom_mailbox/ring.rs"]
mod ring;
#[path = "loom_mailbox/words.rs"]
mod words;
