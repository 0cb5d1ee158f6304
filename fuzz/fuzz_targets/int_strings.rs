//! Length-prefixed strings of every width in any pieces.
#![no_main]
use libfuzzer_sys::fuzz_target;
use twistlet::protocols::codec::{Int8Strings, Int16Strings, Int32Strings, Int64Strings};
use twistlet_fuzz::same_in_pieces;

fuzz_target!(|data: &[u8]| {
    same_in_pieces(|| Int8Strings::new().max_length(100), data);
    same_in_pieces(|| Int16Strings::new().max_length(300), data);
    same_in_pieces(|| Int32Strings::new().max_length(300), data);
    same_in_pieces(|| Int64Strings::new().max_length(300), data);
});
