//! libFuzzer's entry to `narthex_fuzz::table`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| narthex_fuzz::table(data));
