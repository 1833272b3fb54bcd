//! libFuzzer's entry to `narthex_fuzz::hpack`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| narthex_fuzz::hpack(data));
