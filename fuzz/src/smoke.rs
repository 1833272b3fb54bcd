//! Runs every target for a while on any toolchain: seeds from the corpora and from a few lines here, then the same
//! seeds mutated. Deterministic but for the time it gets: `smoke [SECONDS PER TARGET] [TARGET]...`.
//!
//! Without coverage it finds less than libFuzzer (`cargo +nightly fuzz run TARGET --features libfuzzer`); what it finds
//! it finds anywhere.

use std::panic::catch_unwind;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use narthex_fuzz::TARGETS;
use narthex_fuzz::mutate::{Chance, mutated, seeds};

/// Longest input.
const LONGEST: usize = 4096;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let seconds: f64 = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(2.0);
    let wanted: Vec<String> = arguments.collect();
    let seeds = seeds();
    let mut failed = false;
    for (name, target) in TARGETS {
        if !wanted.is_empty() && !wanted.iter().any(|one| one == name) {
            continue;
        }
        let (mut chance, begin, mut runs) = (Chance(0x9e37_79b9_7f4a_7c15), Instant::now(), 0_u64);
        while begin.elapsed() < Duration::from_secs_f64(seconds) {
            let place = usize::try_from(runs).unwrap_or(usize::MAX);
            // Each seed as it is first, then changed.
            let mut input = seeds.get(place).cloned().unwrap_or_else(|| mutated(&seeds, &mut chance));
            input.truncate(LONGEST);
            runs += 1;
            if catch_unwind(|| target(&input)).is_err() {
                println!("{name}: FAILED on {}", input.escape_ascii());
                failed = true;
                break;
            }
        }
        println!("{name}: {runs} inputs");
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
