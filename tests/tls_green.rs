//! TLS under green transports: connecting and serving, STARTTLS, failures as values.
#![cfg(feature = "green")]
mod certs;
mod guard;
mod pair;

use bytes::Bytes;
use certs::{authority, client, server};
use guard::guarded;
use pair::listen;
use std::cell::Cell;
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;
use twistlet::green::{GreenClientCreator, GreenTransport, Queue, SpawnFactory, sleep, spawn, with_timeout};
use twistlet::protocols::{Inbox, LineReceiver, Lines, Received};
use twistlet::transport::tls::{ServerConfig, TlsError, wrap_factory};
use twistlet::{ConnectError, ConnectionClosed, Failure, Reactor, Result};

fn creator() -> GreenClientCreator {
    GreenClientCreator::new(&Reactor::current())
}
fn echo() -> SpawnFactory {
    SpawnFactory::new(|conn: GreenTransport| {
        while let Some(data) = conn.recv()? {
            conn.write(data)?;
        }
        Ok(())
    })
}
#[track_caller]
fn ok<T>(result: Result<T>) -> T {
    result.unwrap_or_else(|failure| panic!("{failure}"))
}

#[test]
fn a_client_and_a_server_talk_as_if_there_were_no_tls() {
    guarded(|| {
        let port = listen(wrap_factory(server(), echo()));
        let conn = ok(creator().connect_tls(("localhost", port.port()), client()));
        assert!(conn.transport().is_secure() && conn.transport().tls_info().is_some());
        ok(conn.write("hello"));
        assert_eq!(ok(conn.read_n(5)), "hello");
        let much = Bytes::from(vec![7; 3 << 20]);
        let writer = (conn.clone(), much.clone());
        let writing = spawn(move || writer.0.write(writer.1));
        assert!(ok(conn.read_n(much.len())) == much);
        ok(writing.wait());
        ok(conn.close());
    });
}
#[test]
fn half_a_close_and_reading_to_the_end_work() {
    guarded(|| {
        let answer = SpawnFactory::new(|conn: GreenTransport| {
            let question = conn.read_all()?;
            conn.write(format!("{} bytes", question.len()))
        });
        let port = listen(wrap_factory(server(), answer));
        let conn = ok(creator().connect_tls(port, client().named("localhost")));
        ok(conn.write("question"));
        conn.lose_write_connection();
        assert_eq!(ok(conn.read_all()), "8 bytes");
        ok(conn.close());
    });
}
#[test]
fn lines_come_through_tls() {
    guarded(|| {
        let lines = SpawnFactory::framed(Lines::new, |conn: GreenTransport<Lines>| {
            for line in &conn {
                conn.send_line(line?);
            }
            Ok(())
        });
        let port = listen(wrap_factory(server(), lines));
        let conn = ok(creator().framed(Lines::new).connect_tls(port, client().named("localhost")));
        for n in 0..50 {
            conn.send_line(format!("line {n}"));
        }
        for n in 0..50 {
            assert_eq!(ok(conn.recv()).expect("a line"), format!("line {n}"));
        }
    });
}
#[test]
fn a_handshake_that_fails_is_the_clients_error_and_nobodys_connection() {
    // TW-54, TW-59, TWC-27
    guarded(|| {
        let calls = Rc::new(Cell::new(0));
        let called = calls.clone();
        let factory = SpawnFactory::new(move |_: GreenTransport| called.set(called.get() + 1));
        let expired = authority().issue_expired(&["localhost"]);
        let bad = ok(ServerConfig::from_pem(&expired.chain, &expired.key));
        let port = listen(wrap_factory(&bad, factory.clone()));
        let failure = creator().connect_tls(port, client().named("localhost")).unwrap_err();
        match failure.check() {
            Some(ConnectError::Tls(failure)) => assert_eq!(failure.check(), Some(&TlsError::Expired)),
            _ => panic!("{failure}"),
        }
        // No TLS at all.
        let plain = listen(SpawnFactory::new(|conn: GreenTransport| conn.write("220 hello, who is there\r\n")));
        let failure = creator().connect_tls(plain, client().named("localhost")).unwrap_err();
        assert!(failure.to_string().contains("220 hello"), "{failure}");
        // Nobody there.
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
        let failure = creator().connect_tls(nobody, client().named("localhost")).unwrap_err();
        assert!(matches!(failure.check(), Some(ConnectError::Refused { .. })), "{failure}");
        // A client that goes away within the handshake.
        drop(ok(creator().connect_tcp(port)));
        sleep(Duration::from_millis(20));
        assert_eq!((calls.get(), factory.running()), (0, 0), "the handler is never called");
    });
}
#[test]
fn a_kill_or_a_timeout_within_the_handshake_leaves_no_connection() {
    guarded(|| {
        let ended = Queue::new();
        let queue = ended.clone();
        let silent = SpawnFactory::new(move |conn: GreenTransport| {
            let all = conn.read_all();
            queue.send(all.map(|all| all.len()))
        });
        let port = listen(silent);
        let outcome =
            with_timeout(Duration::from_millis(20), || creator().connect_tls(port, client().named("localhost")));
        assert!(outcome.is_err() || outcome.is_ok_and(|inner| inner.is_err()));
        // The server's side is reset, or at its end.
        let _ = ok(ended.wait());
    });
}
#[test]
fn a_truncated_answer_is_an_error_behind_the_data() {
    guarded(|| {
        let cut = SpawnFactory::new(|conn: GreenTransport| {
            ok(conn.write("half an ans"));
            ok(conn.flush());
            // Past TLS: the socket ends without a close_notify.
            conn.abort_connection();
            Ok(())
        });
        let port = listen(wrap_factory(server(), cut));
        let conn = ok(creator().connect_tls(port, client().named("localhost")));
        let failure = conn.read_all().unwrap_err();
        assert!(matches!(failure.check(), Some(ConnectionClosed::Lost(_))), "{failure}");
        assert!([ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset].contains(&failure.kind()));
    });
}

/// Lines until STARTTLS, then lines through TLS.
fn starttls(tls: ServerConfig) -> SpawnFactory<Lines> {
    SpawnFactory::framed(Lines::new, move |conn: GreenTransport<Lines>| {
        while let Some(line) = conn.recv()? {
            if line == "STARTTLS" {
                conn.send_line("go");
                conn.start_tls(&tls)?;
                continue;
            }
            let secure = if conn.transport().is_secure() { "secure" } else { "plain" };
            conn.send_line(format!("{secure} {}", line.escape_ascii()));
        }
        Ok(())
    })
}
#[test]
fn starttls_waits_for_the_handshake_and_drops_what_came_before_it() {
    // TLS-14 and the injection
    guarded(|| {
        for injected in ["", "injected\r\n", "half a line that is longer than what follows"] {
            let port = listen(starttls(server()));
            let conn = ok(creator().framed(Lines::new).connect_tcp(port));
            conn.send_line("a");
            assert_eq!(ok(conn.recv()).expect("a line"), "plain a");
            ok(conn.write(format!("STARTTLS\r\n{injected}")));
            assert_eq!(ok(conn.recv()).expect("a line"), "go");
            ok(conn.start_tls(client().named("localhost")));
            assert!(conn.transport().is_secure());
            conn.send_line("b");
            assert_eq!(ok(conn.recv()).expect("a line"), "secure b", "{injected:?}");
            ok(conn.close());
        }
    });
}
#[test]
fn who_reads_during_the_handshake_is_not_given_what_came_before_it() {
    guarded(|| {
        for injected in ["", "injected\r\n", "half a line", "one\r\ntwo\r\nthr"] {
            let server = SpawnFactory::framed(Lines::new, move |conn: GreenTransport<Lines>| {
                assert_eq!(conn.recv()?.expect("a line"), "STARTTLS");
                conn.send_line("go");
                // Nobody waits for the handshake here.
                conn.transport().start_tls(server());
                let line = conn.recv()?.expect("a line");
                conn.send_line(line);
                conn.close()
            });
            let conn = ok(creator().framed(Lines::new).connect_tcp(listen(server)));
            ok(conn.write(format!("STARTTLS\r\n{injected}")));
            assert_eq!(ok(conn.recv()).expect("a line"), "go");
            ok(conn.start_tls(client().named("localhost")));
            conn.send_line("secret");
            assert_eq!(ok(conn.recv()).expect("a line"), "secret", "{injected:?}");
        }
    });
}
#[test]
fn starttls_that_fails_is_an_error_and_the_end() {
    guarded(|| {
        let port = listen(starttls(server()));
        let conn = ok(creator().framed(Lines::new).connect_tcp(port));
        conn.send_line("STARTTLS");
        assert_eq!(ok(conn.recv()).expect("a line"), "go");
        let failure = conn.start_tls(client().named("other.example")).unwrap_err();
        assert!(matches!(failure.check(), Some(TlsError::WrongName { .. })), "{failure}");
        assert!(conn.write("x").is_err());
        assert_eq!(conn.recv().ok().flatten(), None, "told once");
        assert!(conn.start_tls(client().named("localhost")).is_err());
    });
}
#[test]
fn a_callback_protocol_under_a_green_transport_may_start_tls() {
    // `Received`: its protocol's wire is not the real one, which is where TLS goes.
    use twistlet::protocols::{LineHandler, LineTransport};
    struct Mail(ServerConfig, Inbox<Bytes>);
    impl LineHandler for Mail {
        fn line_received(&mut self, transport: LineTransport, line: &[u8]) {
            let secure = if transport.is_secure() { "secure " } else { "plain " };
            self.1.put(Bytes::from([secure.as_bytes(), line].concat()));
            if line == b"STARTTLS" {
                transport.send_line("go");
                transport.start_tls(&self.0);
            }
        }
        fn handshake_completed(&mut self, transport: LineTransport) {
            transport.send_line("welcome");
        }
    }
    guarded(|| {
        let got = Queue::new();
        let queue = got.clone();
        let tls = server();
        let decoder = move || {
            let tls = tls.clone();
            Received::new(|inbox: Inbox<Bytes>| LineReceiver::new(Mail(tls, inbox)))
        };
        let port = listen(SpawnFactory::framed(decoder, move |conn| {
            while let Some(line) = conn.recv()? {
                queue.send(line);
            }
            Ok(())
        }));
        let conn = ok(creator().framed(Lines::new).connect_tcp(port));
        ok(conn.write("EHLO\r\nSTARTTLS\r\ninjected\r\nand ha"));
        assert_eq!(ok(conn.recv()).expect("a line"), "go");
        ok(conn.start_tls(client().named("localhost")));
        assert_eq!(ok(conn.recv()).expect("a line"), "welcome");
        conn.send_line("MAIL");
        for expected in ["plain EHLO", "plain STARTTLS", "secure MAIL"] {
            assert_eq!(ok(got.wait()), expected);
        }
    });
}
#[test]
fn a_transport_dropped_with_unread_data_closes_at_once() {
    // Nobody reads the answer: the close does not wait ten seconds for a close_notify behind it.
    guarded(|| {
        let started = std::time::Instant::now();
        let port = listen(wrap_factory(
            server(),
            SpawnFactory::new(|conn: GreenTransport| {
                ok(conn.write(vec![1; 100_000]));
                match conn.read_all() {
                    Ok(_) => Ok(()),
                    Err(failure) => Err::<(), Failure>(failure),
                }
            }),
        ));
        let conn = ok(creator().connect_tls(port, client().named("localhost")));
        assert_eq!(ok(conn.read_n(10)).len(), 10);
        ok(conn.close());
        assert!(started.elapsed() < Duration::from_secs(5));
    });
}
