//! tungstenite, client and server.
use crate::crowd::*;
use tungstenite::{Error, Message};
use twistlet::{Failure, Result};

/// Says everything back until the client closes.
fn echo<S: Stream>(stream: S) -> Result {
    let mut socket = tungstenite::accept(stream).map_err(|error| Failure::msg(error.to_string()))?;
    loop {
        match socket.read() {
            Ok(message @ (Message::Binary(_) | Message::Text(_))) => socket.send(message)?,
            Ok(_) => {}
            Err(Error::ConnectionClosed) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

fn client<S: Stream>(n: usize, stream: S, gate: &Gate) -> Result {
    let stream = Dribble { stream, slow: false };
    let (mut socket, response) =
        tungstenite::client("ws://localhost/room", stream).map_err(|error| Failure::msg(error.to_string()))?;
    assert_eq!(response.status(), 101);
    // Only now: a handshake in single bytes is an attack to tungstenite.
    socket.get_mut().slow = dribbles(n);
    let size = if dribbles(n) { 700 } else { size(n) };
    gate.pass();
    let sent = noise(n, size);
    for part in [sent, &sent[..size / 3], &[]] {
        socket.send(Message::binary(part.to_vec()))?;
        expect("the echo of client", n, &socket.read()?.into_data(), part)?;
    }
    socket.send(Message::text(format!("client {n} says ÄÖÜ")))?;
    assert_eq!(socket.read()?, Message::text(format!("client {n} says ÄÖÜ")));
    socket.send(Message::Ping(sent[..20].to_vec().into()))?;
    assert_eq!(socket.read()?, Message::Pong(sent[..20].to_vec().into()));
    socket.close(None)?;
    loop {
        match socket.read() {
            Ok(Message::Close(_)) => {}
            Err(Error::ConnectionClosed) => return Ok(()),
            outcome => return Err(Failure::msg(format!("after closing: {outcome:?}"))),
        }
    }
}

#[test]
fn tungstenite_runs_unchanged_on_green_sockets() {
    crowd::<Sockets>("tungstenite, sockets", echo, client);
}
#[test]
fn tungstenite_runs_unchanged_on_green_transports() {
    crowd::<Transports>("tungstenite, transports", echo, client);
}
