//! What the fuzz targets share: a parser must say the same of its input however the network has cut it.
use bytes::{Bytes, BytesMut};
use twistlet::protocols::Decoder;

/// The first byte says into how large pieces the rest is cut.
pub fn cut(data: &[u8]) -> Option<(usize, &[u8])> {
    let (&size, rest) = data.split_first()?;
    Some((usize::from(size).max(1), rest))
}

/// The messages that `input`, fed in pieces, decodes to, and the error at which decoding stopped.
pub fn decode<D: Decoder<Item = Bytes>>(mut decoder: D, input: &[u8], piece: usize) -> (Vec<Bytes>, Option<String>) {
    let mut buffer = BytesMut::new();
    let mut messages = Vec::new();
    for piece in input.chunks(piece.max(1)) {
        buffer.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut buffer) {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(failure) => return (messages, Some(failure.to_string())),
            }
        }
    }
    (messages, None)
}

/// Fails when pieces make a difference.
pub fn same_in_pieces<D: Decoder<Item = Bytes>>(make: impl Fn() -> D, data: &[u8]) {
    let Some((piece, input)) = cut(data) else { return };
    let whole = decode(make(), input, input.len());
    assert_eq!(decode(make(), input, piece), whole, "in pieces of {piece}");
    assert_eq!(decode(make(), input, 1), whole, "byte by byte");
}
