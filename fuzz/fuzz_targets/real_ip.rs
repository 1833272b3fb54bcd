//! libFuzzer's entry to `narthex_fuzz::real_ip`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| narthex_fuzz::real_ip(data));
