//! libFuzzer's entry to `narthex_fuzz::cookies`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| narthex_fuzz::cookies(data));
