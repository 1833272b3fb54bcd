//! libFuzzer's entry to `narthex_fuzz::field_writer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| narthex_fuzz::field_writer(data));
