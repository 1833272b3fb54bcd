//! libFuzzer's entry to `narthex_fuzz::manifests_yaml`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| narthex_fuzz::manifests_yaml(data));
