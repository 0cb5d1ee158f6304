//! Length-prefixed strings in any pieces.
#![no_main]
use libfuzzer_sys::fuzz_target;
use twistlet::protocols::Int32Strings;
use twistlet_fuzz::same_in_pieces;

fuzz_target!(|data: &[u8]| same_in_pieces(|| Int32Strings::new().max_length(300), data));
