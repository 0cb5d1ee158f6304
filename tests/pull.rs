//! Transports read by asking: order, back-pressure, ends, decoders that fail, taking a wire over.
use bytes::{Bytes, BytesMut};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;
use twistlet::protocols::{Decoder, Lines, PullFactory, PullTransport, Raw};
use twistlet::task::defer_later;
use twistlet::testing::{Clock, Network, StringTransport, connect, simulate, simulate_with};
use twistlet::{Cancelled, ConnectError, ConnectionClosed, Deferred, Failure, Protocol, Reactor, Result, TransportRef};

#[path = "support/watch.rs"]
mod support;
use support::{Notes, assert_logged_once, dog};

const AT: &str = "10.0.0.9:7000";

/// Runs `server` for each connection and `client` on one of its own, in memory.
fn both<S, C, FS, FC>(network: &Network, server: S, client: C) -> Result<()>
where
    S: Fn(PullTransport) -> FS + 'static,
    FS: Future<Output = Result<()>> + 'static,
    C: FnOnce(PullTransport) -> FC + 'static,
    FC: Future<Output = Result<()>> + 'static,
{
    simulate_with(network, |reactor, _| {
        reactor.listen_tcp(AT, PullFactory::new(move |conn| Deferred::from_future(server(conn))))?;
        let reactor = *reactor;
        Ok(reactor.spawn_local(async move { client(PullTransport::connect_tcp(&reactor, AT, Raw).await?).await }))
    })
}
async fn all(conn: &PullTransport) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(chunk) = conn.recv().await? {
        all.extend_from_slice(&chunk);
    }
    Ok(all)
}
/// The near end of a wire whose far end the test plays.
fn near<P: Decoder>(decoder: P, clock: &Clock) -> (PullTransport<P>, StringTransport) {
    struct Nobody;
    impl Protocol for Nobody {
        fn data_received(&mut self, _: TransportRef, _: &[u8]) {}
        fn read_connection_lost(&mut self, _: TransportRef) {}
    }
    let wire = StringTransport::connect(Nobody, clock);
    let conn = PullTransport::take_over(wire.transport(), decoder, b"");
    clock.advance(Duration::ZERO);
    (conn, wire)
}
fn take<T: 'static>(deferred: Deferred<T>) -> Result<T> {
    deferred.try_take().unwrap_or_else(|_| panic!("it has not fired"))
}
fn text(message: Deferred<Option<Bytes>>) -> String {
    match take(message) {
        Ok(Some(bytes)) => bytes.escape_ascii().to_string(),
        Ok(None) => "-".to_owned(),
        Err(failure) => format!("error: {failure}"),
    }
}

#[test]
fn lines_go_there_and_back_over_a_real_socket() {
    let _dog = dog();
    let reactor = Reactor::new().unwrap();
    let factory = PullFactory::framed(Lines::new, |conn: PullTransport<Lines>| {
        Deferred::from_future(async move {
            while let Some(line) = conn.recv().await? {
                conn.send(line.repeat(2)).await?;
            }
            Ok(())
        })
    });
    let to = reactor.listen_tcp("127.0.0.1:0", factory).unwrap().address();
    let client = reactor.spawn_local(async move {
        let conn = PullTransport::connect_tcp(&reactor, &to, Lines::new()).await?;
        for word in ["one", "two", "three"] {
            conn.send(word).await?;
        }
        for word in ["oneone", "twotwo", "threethree"] {
            assert_eq!(conn.recv().await?.unwrap(), word);
        }
        conn.lose_write_connection();
        assert_eq!(conn.recv().await?, None);
        conn.close().await?;
        conn.close().await
    });
    let _ = client.add_both(move |outcome| {
        outcome.unwrap();
        reactor.stop()
    });
    reactor.run().unwrap();
    assert_eq!(support::logged(), [""; 0]);
}

#[test]
fn whoever_does_not_ask_holds_the_writer_back_and_loses_nothing() {
    let network = Network::new();
    let sent = Rc::new(Cell::new(0));
    let counted = Rc::clone(&sent);
    both(
        &network,
        move |conn| {
            let counted = Rc::clone(&counted);
            async move {
                for n in 0..100_u32 {
                    conn.write(vec![n as u8; 100_000]).await?;
                    counted.set(counted.get() + 100_000);
                }
                Ok(())
            }
        },
        move |conn| async move {
            defer_later(&Reactor::current(), Duration::from_secs(60), || ()).await?;
            // Two buffers of the network's, the writer's own, and one that a read may have brought.
            assert!(sent.get() <= 600_000, "{} were sent though nobody asked", sent.get());
            let first = conn.recv().await?.unwrap();
            let mut all = all(&conn).await?;
            all.splice(0..0, first);
            assert_eq!(all.len(), 10_000_000);
            assert!(all.chunks(100_000).enumerate().all(|(n, part)| part.iter().all(|byte| *byte == n as u8)));
            Ok(())
        },
    )
    .unwrap();
}

#[test]
fn those_who_ask_are_served_in_their_order_and_one_who_gave_up_takes_nothing() {
    let clock = Clock::new();
    let (conn, wire) = near(Lines::new(), &clock);
    let asked: Vec<_> = (0..4).map(|_| conn.recv()).collect();
    asked[1].cancel();
    wire.deliver("a\r\nb\r\nc\r\nd\r\n");
    let got: Vec<_> = asked.into_iter().map(text).collect();
    assert_eq!(got, ["a", "error: the Deferred was cancelled", "b", "c"]);
    assert_eq!(text(conn.recv()), "d");
    assert!(wire.is_paused(), "nobody asks");
    let waiting = conn.recv();
    assert!(!wire.is_paused());
    waiting.cancel();
    assert!(wire.is_paused(), "nobody asks any more");
    assert!(take(waiting).unwrap_err().is::<Cancelled>());
}

#[test]
fn an_asker_that_asks_again_from_its_callback_gets_everything_in_order() {
    let clock = Clock::new();
    let (conn, wire) = near(Lines::new(), &clock);
    let notes = Notes::default();
    fn ask(conn: PullTransport<Lines>, notes: Notes) {
        let _ = conn.recv().add_callback(move |line| {
            if let Some(line) = line {
                notes.add(line.escape_ascii());
                ask(conn, notes);
            }
        });
    }
    ask(conn.clone(), notes.clone());
    wire.deliver("1\r\n2\r\n3");
    wire.deliver("\r\n4\r\n");
    clock.advance(Duration::ZERO);
    assert_eq!(notes.all(), "1 2 3 4");
}

#[test]
fn after_a_break_come_the_data_the_error_once_and_the_end() {
    let clock = Clock::new();
    let (conn, wire) = near(Lines::new(), &clock);
    let first = conn.recv();
    wire.deliver("a\r\nb\r\n");
    assert_eq!(text(first), "a");
    wire.lose(ConnectionClosed::Lost(None));
    assert_eq!(text(conn.recv()), "b");
    assert!(take(conn.recv()).unwrap_err().is::<ConnectionClosed>());
    assert_eq!(text(conn.recv()), "-");
    assert!(take(conn.write("x")).unwrap_err().is::<ConnectionClosed>());
    assert!(take(conn.flush()).unwrap_err().is::<ConnectionClosed>());
    take(conn.close()).unwrap();
    assert_eq!(conn.peer().to_string(), "192.168.1.1:54321");
}

#[test]
fn all_who_wait_when_it_breaks_hear_of_it() {
    let clock = Clock::new();
    let (conn, wire) = near(Raw, &clock);
    let waiting = [conn.recv(), conn.recv()];
    let closing = conn.close();
    wire.lose(ConnectionClosed::Lost(None));
    assert!(waiting.into_iter().all(|one| take(one).is_err()));
    assert!(take(closing).is_err());
    assert_eq!(text(conn.recv()), "-");
    // A clean end is none of their business.
    let (conn, wire) = near(Raw, &clock);
    let waiting = conn.recv();
    let closing = conn.close();
    assert!(wire.is_disconnecting());
    wire.lose(ConnectionClosed::Done);
    assert_eq!(text(waiting), "-");
    take(closing).unwrap();
}

#[test]
fn a_decoder_that_fails_or_panics_ends_the_connection_and_the_asker_is_told() {
    /// Fails at `!`, panics at `?`.
    struct Picky;
    impl Decoder for Picky {
        type Item = Bytes;
        fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Bytes>> {
            match input.first() {
                None => Ok(None),
                Some(b'!') => Err(Failure::msg("no exclamations")),
                Some(b'?') => panic!("no questions"),
                Some(_) => Ok(Some(input.split_to(1).freeze())),
            }
        }
    }
    for (data, error) in [("a!b", "no exclamations"), ("a?b", "panicked: no questions")] {
        let clock = Clock::new();
        let (conn, wire) = near(Picky, &clock);
        let (first, second, third) = (conn.recv(), conn.recv(), conn.recv());
        wire.deliver(data);
        assert_eq!(text(first), "a");
        assert_eq!(text(second), format!("error: {error}"));
        assert!(take(third).is_err());
        assert_eq!(text(conn.recv()), "-");
        assert!(wire.is_disconnecting());
    }
}

#[test]
fn closing_the_write_side_lets_the_peers_messages_come() {
    both(
        &Network::new(),
        |conn| async move {
            let all = all(&conn).await?;
            conn.write(all.repeat(2)).await
        },
        |conn| async move {
            conn.write("abc").await?;
            conn.lose_write_connection();
            assert_eq!(all(&conn).await?, b"abcabc");
            let refused = conn.write("more").await.unwrap_err();
            assert!(refused.is::<ConnectionClosed>());
            conn.close().await
        },
    )
    .unwrap();
}

#[test]
fn the_last_clone_dropped_closes_after_what_was_written() {
    both(
        &Network::new(),
        |conn| async move {
            let clone = conn.clone();
            assert!(clone == conn);
            conn.write(vec![7; 300_000]).await
        },
        |conn| async move {
            assert_eq!(all(&conn).await?.len(), 300_000);
            Ok(())
        },
    )
    .unwrap();
}

#[test]
fn a_handler_that_fails_or_panics_is_logged_and_its_connection_closed() {
    let _dog = dog();
    for panics in [false, true] {
        let outcome = simulate(|reactor, _| {
            let factory = PullFactory::new(move |conn: PullTransport| {
                assert!(!panics, "this one panics");
                drop(conn);
                Err::<(), _>(Failure::msg("this one fails"))
            });
            reactor.listen_tcp(AT, factory)?;
            let reactor = *reactor;
            Ok(reactor.spawn_local(async move {
                let conn = PullTransport::connect_tcp(&reactor, AT, Raw).await?;
                assert_eq!(conn.recv().await?, None);
                Ok(())
            }))
        });
        assert_logged_once(&[if panics { "this one panics" } else { "this one fails" }]);
        let _ = outcome;
    }
}

#[test]
fn connections_that_come_while_the_handler_runs_are_handled_after_it() {
    // Two wires in memory, the second made within the handler of the first.
    let clock = Clock::new();
    let notes = Notes::default();
    let pumps = Rc::new(RefCell::new(Vec::new()));
    struct Nobody;
    impl Protocol for Nobody {
        fn data_received(&mut self, _: TransportRef, _: &[u8]) {}
    }
    let (noted, held, again) = (notes.clone(), Rc::clone(&pumps), clock.clone());
    let factory = Rc::new(RefCell::new(None::<Box<dyn twistlet::Factory>>));
    let inner = Rc::clone(&factory);
    let mut left = 2;
    let handler = move |_conn: PullTransport| {
        noted.add("in");
        left -= 1;
        if left > 0 {
            let made = inner.borrow_mut().as_mut().and_then(|factory| factory.build_protocol(&twistlet::Address::Gone));
            held.borrow_mut().push(connect(Nobody, made.unwrap(), &again));
        }
        noted.add("out");
    };
    *factory.borrow_mut() = Some(Box::new(PullFactory::new(handler)));
    let made = factory.borrow_mut().as_mut().and_then(|factory| factory.build_protocol(&twistlet::Address::Gone));
    let pump = connect(Nobody, made.unwrap(), &clock);
    pump.flush();
    assert_eq!(notes.all(), "in out in out");
    factory.take();
}

#[test]
fn a_wire_is_taken_over_with_its_unread_bytes_and_may_be_given_away_again() {
    let clock = Clock::new();
    struct Old;
    impl Protocol for Old {
        fn data_received(&mut self, _: TransportRef, _: &[u8]) {}
    }
    let wire = StringTransport::connect(Old, &clock);
    let conn = PullTransport::take_over(wire.transport(), Lines::new(), b"unr");
    clock.advance(Duration::ZERO);
    let line = conn.recv();
    wire.deliver("ead\r\n");
    assert_eq!(text(line), "unread");
    let waiting = conn.recv();
    wire.transport().switch_protocol(Old, b"");
    clock.advance(Duration::ZERO);
    assert_eq!(text(waiting), "-");
    drop(conn);
    assert!(!wire.is_disconnecting(), "it is somebody else's now");
}

#[test]
fn connecting_is_refused_or_cancelled_and_leaves_nothing() {
    let network = Network::new();
    simulate_with(&network, |reactor, _| {
        let reactor = *reactor;
        Ok(reactor.spawn_local(async move {
            let refused = PullTransport::connect_tcp(&reactor, AT, Raw).await.unwrap_err();
            assert!(refused.is::<ConnectError>());
            reactor.listen_tcp(AT, PullFactory::new(|_| ()))?;
            let given_up = PullTransport::connect_tcp(&reactor, AT, Raw);
            given_up.cancel();
            assert!(given_up.await.is_err());
            Ok(())
        }))
    })
    .unwrap();
    assert_eq!(network.connections(), 0);
}

#[test]
fn callbacks_may_do_anything_to_the_connection_that_serves_them() {
    let clock = Clock::new();
    // Ask, cancel another, close, drop the last name, all from the callback of a message.
    let (conn, wire) = near(Lines::new(), &clock);
    let notes = Notes::default();
    let second = Rc::new(RefCell::new(None));
    let (cancelled, noted, mine) = (Rc::clone(&second), notes.clone(), conn.clone());
    let _ = conn.recv().add_callback(move |line| {
        noted.add(line.unwrap().escape_ascii());
        if let Some(second) = cancelled.take() {
            Deferred::<Option<Bytes>>::cancel(&second);
        }
        noted.add(text(mine.recv()));
        drop(mine.close());
        drop(mine);
    });
    second.replace(Some(conn.recv()));
    drop(conn);
    wire.deliver("a\r\nb\r\nc\r\n");
    assert_eq!(notes.all(), "a b");
    assert!(wire.is_disconnecting());
    wire.lose(ConnectionClosed::Done);

    // A decoder that asks its own connection, cancels its asker, and has a destructor that does it again.
    struct Meddler(Rc<RefCell<Option<PullTransport<Meddler>>>>, Rc<RefCell<Option<Deferred<Option<Bytes>>>>>);
    impl Decoder for Meddler {
        type Item = Bytes;
        fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Bytes>> {
            if let Some(conn) = &*self.0.borrow() {
                drop(conn.recv());
                drop(conn.flush());
            }
            if let Some(asked) = self.1.take() {
                asked.cancel();
            }
            Ok((!input.is_empty()).then(|| input.split_to(1).freeze()))
        }
    }
    impl Drop for Meddler {
        fn drop(&mut self) {
            if let Some(conn) = self.0.take() {
                drop(conn.write("from a destructor"));
            }
        }
    }
    let (itself, asked) = (Rc::default(), Rc::default());
    let (conn, wire) = near(Meddler(Rc::clone(&itself), Rc::clone(&asked)), &clock);
    itself.replace(Some(conn.clone()));
    let first = conn.recv();
    asked.replace(Some(first));
    wire.deliver("xy");
    // What was decoded for the one who was cancelled is for who asks next; the decoder's own askers came first.
    let rest = conn.recv();
    wire.deliver("z");
    itself.take();
    wire.lose(ConnectionClosed::Done);
    let _ = text(rest);
    drop(conn);
}

#[test]
fn a_message_decoded_for_one_who_has_gone_is_for_who_asks_next() {
    struct Canceller(Rc<RefCell<Option<Deferred<Option<Bytes>>>>>);
    impl Decoder for Canceller {
        type Item = Bytes;
        fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Bytes>> {
            if let Some(asked) = self.0.take() {
                if input.is_empty() {
                    self.0.replace(Some(asked));
                } else {
                    asked.cancel();
                }
            }
            Ok((!input.is_empty()).then(|| input.split_to(1).freeze()))
        }
    }
    let (clock, asked) = (Clock::new(), Rc::default());
    let (conn, wire) = near(Canceller(Rc::clone(&asked)), &clock);
    asked.replace(Some(conn.recv()));
    wire.deliver("xy");
    assert_eq!(text(conn.recv()), "x");
    assert_eq!(text(conn.recv()), "y");
}
