//! libFuzzer's entry to `narthex_fuzz::guard_vs_hyper`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| narthex_fuzz::guard_vs_hyper(data));
