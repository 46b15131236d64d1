#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| l1d::fuzzing::operations(data));
