//! The read protocol against the owner, over the interleavings and weak orders that loom explores,
//! with the real fences: `./dev loom`.
//!
//! The hazard: a reader that is stopped anywhere returns bytes of an entry that was recycled under
//! it, or of one whose words it sees before they are all there, or what was replaced, deleted or
//! hidden before it began.
//!
//! Each mechanism was taken out once, and a model failed:
//!
//! | taken out | the model that fails |
//! |---|---|
//! | the fence before the slot store that publishes (W3) | an overwrite |
//! | the second load of the slot (R4) | a recycled segment |
//! | the odd generation (W4) | a recycled segment |
//! | the fence before the next even generation (W4) | a recycled segment |
//! | the last load of the generation, or the fence before it (R6) | a recycled segment |
//! | the comparison of the key (R5) | a slot that became another key's |
//! | the read of all slots where the slot that was found is not the key's any more, or its second line | an entry that moved |
//! | the old slot's clearing, or that it comes before the new slot's store (W10) | an entry that moved |
//! | the generation, in `Reader::holds` | a sighting of an entry whose place was given out again |
//! | the slot, in `Reader::holds` | a sighting of a deleted entry, or of one that moved |
//! | the lease's place before the slot and the floor, or either of its fences (R8, W8) | a renewed lease |
//!
//! A prefetch is a hint that changes no value, so the models have none. What it brings about is
//! that a slot is looked at long after it was found: each model of reads is run with reads by
//! steps, too, in which the owner may have done anything, and the reader have heard of it, between
//! the steps; and for either line of the key.
//!
//! The fence behind the odd generation is not missed by any model: the one before the even
//! generation stands between the two, too, and entries are only appended behind that. It stays,
//! because W4 is then true of each of its two functions alone.
#![cfg(loom)]

#[path = "loom/exchanges.rs"]
mod exchanges;
#[path = "loom/leases.rs"]
mod leases;
#[path = "loom/moves.rs"]
mod moves;
#[path = "loom/reads.rs"]
mod reads;
#[path = "loom/sightings.rs"]
mod sightings;
#[path = "loom/table.rs"]
mod table;
