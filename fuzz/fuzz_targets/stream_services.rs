//! libFuzzer's entry to `narthex_fuzz::stream_services`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| narthex_fuzz::stream_services(data));
