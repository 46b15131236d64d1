//! The target is a test of the layout, with the memory and the table of the others.
#![no_main]
#![allow(dead_code, reason = "the tests of the layout use the rest")]

#[path = "../../shm-layout/tests/properties/any_mailbox.rs"]
mod any_mailbox;
#[path = "../../shm-layout/tests/properties/guarded.rs"]
mod guarded;
#[path = "../../shm-layout/tests/properties/shifting.rs"]
mod shifting;

libfuzzer_sys::fuzz_target!(|data: &[u8]| any_mailbox::use_any_mailbox(data));
