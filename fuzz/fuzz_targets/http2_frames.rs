//! libFuzzer's entry to `narthex_fuzz::http2_frames`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| narthex_fuzz::http2_frames(data));
