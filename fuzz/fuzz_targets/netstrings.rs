//! Netstrings in any pieces.
#![no_main]
use libfuzzer_sys::fuzz_target;
use twistlet::protocols::Netstrings;
use twistlet_fuzz::same_in_pieces;

fuzz_target!(|data: &[u8]| same_in_pieces(|| Netstrings::new().max_length(200), data));
