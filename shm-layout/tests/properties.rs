//! The layout's properties: packed words, damaged tables, assembly, hashes. Each part begins with
//! the hazard that it would catch.

#[path = "properties/any_mailbox.rs"]
mod any_mailbox;
#[path = "properties/any_table.rs"]
mod any_table;
#[path = "properties/assembly.rs"]
mod assembly;
#[path = "properties/damage.rs"]
mod damage;
#[path = "properties/guarded.rs"]
mod guarded;
#[path = "properties/hashes.rs"]
mod hashes;
#[path = "properties/identity.rs"]
mod identity;
#[path = "properties/in_place.rs"]
mod in_place;
#[path = "properties/inspect.rs"]
mod inspect;
#[path = "properties/packing.rs"]
mod packing;
#[path = "properties/shifting.rs"]
mod shifting;
#[path = "properties/slots.rs"]
mod slots;
#[path = "properties/table.rs"]
mod table;
