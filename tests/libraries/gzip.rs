//! flate2's streaming encoder and decoder, straight on a connection.
use crate::crowd::*;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use std::io::{Read, Write};
use twistlet::Result;

/// As much as is handed to the encoder at a time.
const PIECE: usize = 8 * 1024;

fn receive(stream: &mut impl Read) -> Result<Vec<u8>> {
    let mut data = Vec::new();
    GzDecoder::new(stream).read_to_end(&mut data)?;
    Ok(data)
}
fn send(stream: &mut impl Write, data: &[u8]) -> Result {
    let mut encoder = GzEncoder::new(stream, Compression::fast());
    for piece in data.chunks(PIECE) {
        encoder.write_all(piece)?;
    }
    encoder.finish()?.flush()?;
    Ok(())
}

/// Sends back what came, twice, compressed each way.
fn echo<S: Stream>(mut stream: S) -> Result {
    for _ in 0..2 {
        let data = receive(&mut stream)?;
        send(&mut stream, &data)?;
    }
    Ok(())
}
fn talk<S: Stream>(n: usize, mut stream: S, size: usize, gate: &Gate) -> Result {
    // Half of it cannot be compressed, half of it can.
    let sent = [noise(n, size / 2), &noise(n, 50).repeat(size / 100)].concat();
    send(&mut stream, b"hello")?;
    expect("the greeting of client", n, &receive(&mut stream)?, b"hello")?;
    gate.pass();
    send(&mut stream, &sent)?;
    expect("the echo of client", n, &receive(&mut stream)?, &sent)
}
fn client<S: Stream>(n: usize, stream: S, gate: &Gate) -> Result {
    if dribbles(n) { talk(n, Dribble::slowly(stream), 700, gate) } else { talk(n, stream, size(n), gate) }
}

#[test]
fn flate2_runs_unchanged_on_green_sockets() {
    crowd::<Sockets>("flate2, sockets", echo, client);
}
#[test]
fn flate2_runs_unchanged_on_green_transports() {
    crowd::<Transports>("flate2, transports", echo, client);
}
