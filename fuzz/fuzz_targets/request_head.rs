//! libFuzzer's entry to `narthex_fuzz::request_head`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| narthex_fuzz::request_head(data));
