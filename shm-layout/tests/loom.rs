//! The read protocol against the owner, over the interleavings and weak orders that loom explores,
//! with the real fences: `./dev loom`.
//!
//! The hazard: a reader that is paused anywhere returns bytes of an entry that was recycled
//! meanwhile, or of one whose words it sees before all are written, or a value that was replaced,
//! deleted or hidden before it began.
//!
//! Each mechanism was removed once, and a model failed:
//!
//! | removed | failing model |
//! |---|---|
//! | the fence before the slot store that publishes (W3) | an overwrite |
//! | the second load of the slot (R4) | a recycled segment |
//! | the odd generation (W4) | a recycled segment |
//! | the fence before the next even generation (W4) | a recycled segment |
//! | the last load of the generation, or the fence before it (R6) | a recycled segment |
//! | the comparison of the key (R5) | a slot that became another key's |
//! | reading all slots if the slot that was found is no longer the key's, or its second line | an entry that moved |
//! | clearing the old slot, or doing so before the new slot's store (W10) | an entry that moved |
//! | the generation, in `Reader::holds` | a sighting of an entry whose place was reused |
//! | the slot, in `Reader::holds` | a sighting of a deleted entry, or of one that moved |
//! | loading the lease before the slot and the floor, or either of its fences (R8, W8) | a renewed lease |
//!
//! A prefetch is a hint that changes no value, so the models have none. Its effect is that a slot
//! is read long after it was found: each model of reads also runs with reads in steps, where
//! between the steps the owner may have done anything and the reader may have learned of it; and it
//! runs for either line of the key.
//!
//! No model fails without the fence after the odd generation, because the one before the even
//! generation also lies between the two, and entries are only appended after that. It stays because
//! W4 then holds for each of its two functions alone.
#![cfg(loom)]

#[path = "loom/leases.rs"]
mod leases;
#[path = "loom/moves.rs"]
mod moves;
#[path = "loom/reads.rs"]
mod reads;
#[path = "loom/sightings.rs"]
mod sightings;
#[path = "loom/swaps.rs"]
mod swaps;
#[path = "loom/table.rs"]
mod table;
