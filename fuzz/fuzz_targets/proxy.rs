//! A PROXY header, and what follows it, in whatever pieces they come.
#![no_main]
use libfuzzer_sys::fuzz_target;
use twistlet::protocols::proxy::{ProxyError, ProxyHeader};
use twistlet_fuzz::cut;

const LIMIT: usize = 2048;

/// What comes of reading as the pieces arrive: the header and its length, or what is wrong.
fn read(input: &[u8], piece: usize) -> Result<Option<(ProxyHeader, usize)>, ProxyError> {
    let mut end = 0;
    while end < input.len() {
        end = (end + piece).min(input.len());
        if let Some(found) = ProxyHeader::parse(&input[..end], LIMIT)? {
            return Ok(Some(found));
        }
        assert!(end < LIMIT, "an incomplete header is shorter than the limit");
    }
    Ok(None)
}

fuzz_target!(|data: &[u8]| {
    let Some((piece, input)) = cut(data) else { return };
    let whole = read(input, input.len().max(1));
    assert_eq!(read(input, piece), whole, "in pieces of {piece}");
    assert_eq!(read(input, 1), whole, "byte by byte");
    if let Ok(Some((header, _))) = whole {
        let bytes = header.to_bytes();
        let again = ProxyHeader::parse(&bytes, usize::MAX).expect("well-formed").expect("whole");
        assert_eq!(again.1, bytes.len());
        assert_eq!((again.0.source(), again.0.destination()), (header.source(), header.destination()));
    }
});
