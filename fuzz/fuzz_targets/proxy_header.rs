//! libFuzzer's entry to `narthex_fuzz::proxy_header`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| narthex_fuzz::proxy_header(data));
