//! libFuzzer's entry to `narthex_fuzz::log_format`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| narthex_fuzz::log_format(data));
