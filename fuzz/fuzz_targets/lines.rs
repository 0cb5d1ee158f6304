//! Lines in any pieces.
#![no_main]
use libfuzzer_sys::fuzz_target;
use twistlet::protocols::Lines;
use twistlet_fuzz::same_in_pieces;

fuzz_target!(|data: &[u8]| same_in_pieces(|| Lines::new().max_length(64), data));
