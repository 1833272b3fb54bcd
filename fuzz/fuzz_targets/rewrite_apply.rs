//! libFuzzer's entry to `narthex_fuzz::rewrite_apply`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| narthex_fuzz::rewrite_apply(data));
