//! libFuzzer's entry to `narthex_fuzz::client_hello_peek`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| narthex_fuzz::client_hello_peek(data));
