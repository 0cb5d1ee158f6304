//! An async library that nobody here wrote and that needs no runtime, unchanged on the reactor: async-tungstenite over
//! `PullTransport` as `AsyncRead + AsyncWrite`, a server and 100 clients on one thread.
use async_tungstenite::tungstenite::{Error, Message};
use async_tungstenite::{WebSocketStream, accept_async, client_async};
use futures_util::{AsyncReadExt, AsyncWriteExt, StreamExt};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use twistlet::deferred::gather_results;
use twistlet::protocols::{PullFactory, PullTransport, Raw};
use twistlet::task::defer_later;
use twistlet::testing::{Network, simulate_with};
use twistlet::{Deferred, Reactor, Result};

#[path = "support/watch.rs"]
mod support;
use support::dog;

const CLIENTS: usize = 100;
const MESSAGES: usize = 20;

async fn echo(conn: PullTransport) -> Result<()> {
    let mut socket = accept_async(conn).await?;
    while let Some(message) = socket.next().await {
        let message = message?;
        if message.is_text() || message.is_binary() {
            socket.send(message).await?;
        }
    }
    Ok(())
}

async fn client(reactor: Reactor, to: twistlet::Address, n: usize) -> Result<usize> {
    let conn = PullTransport::connect_tcp(&reactor, &to, Raw).await?;
    let (mut socket, answer) = client_async("ws://localhost/chat", conn).await?;
    assert_eq!(answer.status(), 101);
    for k in 0..MESSAGES {
        let text = format!("client {n} says {k} ").repeat(1 + n * k % 50);
        socket.send(Message::text(text.clone())).await?;
        assert_eq!(socket.next().await.unwrap()?.into_text()?, text);
    }
    // Larger than all buffers on the way.
    let large = vec![n as u8; 300_000];
    socket.send(Message::binary(large.clone())).await?;
    assert_eq!(socket.next().await.unwrap()?.into_data(), large);
    close(socket).await?;
    Ok(MESSAGES + 1)
}
async fn close(mut socket: WebSocketStream<PullTransport>) -> Result<()> {
    socket.close(None).await?;
    loop {
        match socket.next().await {
            Some(Ok(_)) => {}
            None | Some(Err(Error::ConnectionClosed)) => return Ok(()),
            Some(Err(error)) => return Err(error.into()),
        }
    }
}

#[test]
fn a_hundred_websocket_clients_and_their_server_share_a_thread() {
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let serve = PullFactory::new(|conn| Deferred::from_future(echo(conn)));
    let to = reactor.listen_tcp("127.0.0.1:0", serve).unwrap().address();
    let clients = (0..CLIENTS).map(|n| reactor.spawn_local(client(reactor, to.clone(), n)));
    let done = Rc::new(Cell::new(0));
    let counted = Rc::clone(&done);
    let _ = gather_results(clients.collect::<Vec<_>>()).add_both(move |counts| {
        counted.set(counts.unwrap().iter().sum());
        reactor.stop()
    });
    reactor.run().unwrap();
    assert_eq!(done.get(), CLIENTS * (MESSAGES + 1));
    assert_eq!(support::logged(), [""; 0]);
}

#[test]
fn it_holds_back_in_both_directions_and_every_byte_arrives_byte_by_byte() {
    let network = Network::new();
    let written = Rc::new(Cell::new(0));
    let counted = Rc::clone(&written);
    simulate_with(&network, |reactor, _| {
        let writer = PullFactory::new(move |mut conn: PullTransport| {
            let counted = Rc::clone(&counted);
            Deferred::from_future(async move {
                for n in 0..50_u8 {
                    conn.write_all(&[n; 40_000]).await?;
                    counted.set(counted.get() + 40_000);
                }
                AsyncWriteExt::flush(&mut conn).await?;
                AsyncWriteExt::close(&mut conn).await?;
                // The other direction is open still.
                let mut rest = Vec::new();
                conn.read_to_end(&mut rest).await?;
                assert_eq!(rest, b"thanks");
                Ok(())
            })
        });
        reactor.listen_tcp("10.0.0.9:80", writer)?;
        let reactor = *reactor;
        Ok(reactor.spawn_local(async move {
            let mut conn = PullTransport::connect_tcp(&reactor, "10.0.0.9:80", Raw).await?;
            defer_later(&reactor, Duration::from_secs(60), || ()).await?;
            assert!(written.get() < 400_000, "{} were written though nobody read", written.get());
            let mut all = Vec::new();
            let mut buffer = [0; 700];
            loop {
                match conn.read(&mut buffer).await? {
                    0 => break,
                    n => all.extend_from_slice(&buffer[..n]),
                }
            }
            assert_eq!(all.len(), 2_000_000);
            assert!(all.chunks(40_000).enumerate().all(|(n, part)| part.iter().all(|byte| usize::from(*byte) == n)));
            conn.write_all(b"thanks").await?;
            AsyncWriteExt::close(&mut conn).await?;
            AsyncWriteExt::close(&mut conn).await?;
            assert!(AsyncWriteExt::write(&mut conn, b"more").await.is_err());
            Ok(())
        }))
    })
    .unwrap();
}

#[test]
fn a_break_is_an_error_once_for_readers_and_always_for_writers() {
    let network = Network::new();
    simulate_with(&network, |reactor, network| {
        reactor.listen_tcp("10.0.0.9:80", PullFactory::new(|conn: PullTransport| conn.recv().add_both(|_| ())))?;
        let (reactor, network) = (*reactor, network.clone());
        Ok(reactor.spawn_local(async move {
            let mut conn = PullTransport::connect_tcp(&reactor, "10.0.0.9:80", Raw).await?;
            network.reset_all();
            let mut buffer = [0; 10];
            assert_eq!(conn.read(&mut buffer).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
            assert_eq!(conn.read(&mut buffer).await?, 0);
            let refused = AsyncWriteExt::write(&mut conn, b"x").await.unwrap_err();
            assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionReset);
            assert!(AsyncWriteExt::flush(&mut conn).await.is_err());
            Ok(())
        }))
    })
    .unwrap();
}
