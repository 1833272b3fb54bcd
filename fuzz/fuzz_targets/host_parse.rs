//! libFuzzer's entry to `narthex_fuzz::host_parse`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| narthex_fuzz::host_parse(data));
