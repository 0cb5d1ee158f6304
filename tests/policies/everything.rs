//! Everything around everything, over real sockets: random stacks of policies, TLS and PROXY headers around green threads, with
//! green clients in stacks of their own. Echoes, much data, `start_tls` within, and every way to end.
use super::rig::{PATIENCE, address, logged, watch_log};
use super::{KeepAll, SECOND, certs};
use std::net::{Ipv4Addr, SocketAddr};
use twistlet::green::{GreenTransport, SpawnFactory, block_on, spawn};
use twistlet::protocols::Lines;
use twistlet::protocols::policies::{
    LimitConnectionsByPeer, LimitTotalConnections, Live, ThrottlingFactory, TimeoutFactory, TrafficLoggingFactory,
    WrappingFactory,
};
use twistlet::protocols::proxy::{ProxyClientFactory, ProxyFactory, ProxyVersion};
use twistlet::transport::tls::wrap_factory;
use twistlet::{ConnectionClosed, Deferred, Factory, Reactor, Result, TransportRef};

/// A generator whose seed names the case.
struct Dice(u64);
impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Part {
    Total,
    ByPeer,
    Timeout,
    Throttle,
    Traffic,
    Wrapping,
    // Both sides have these, in the same order.
    Tls,
    Proxy,
}
use Part::*;

/// Some policies between those that both sides have to have; the innermost is the first.
fn stack_of(dice: &mut Dice, shared: &[Part]) -> Vec<Part> {
    let mut parts = Vec::new();
    for place in 0..=shared.len() {
        for _ in 0..dice.below(3) {
            parts.push([Total, ByPeer, Timeout, Throttle, Traffic, Wrapping][dice.below(6) as usize]);
        }
        parts.extend(shared.get(place));
    }
    parts
}
fn stack(parts: &[Part], is_server: bool, live: &mut Vec<Live>, mut inner: Box<dyn Factory>) -> Box<dyn Factory> {
    for part in parts {
        inner = match part {
            Total => Box::new(LimitTotalConnections::new(4, inner)),
            ByPeer => Box::new(LimitConnectionsByPeer::new(inner)),
            Timeout => Box::new(TimeoutFactory::new(60 * SECOND, inner)),
            Throttle => Box::new(ThrottlingFactory::new(inner).read_limit(1 << 40).write_limit(1 << 40)),
            Traffic => Box::new(TrafficLoggingFactory::new(std::io::sink(), inner)),
            Wrapping => {
                let wrapping = WrappingFactory::new(|_| Some(KeepAll), inner);
                live.push(wrapping.live());
                Box::new(wrapping)
            }
            Tls if is_server => Box::new(wrap_factory(certs::server(), inner)),
            Tls => Box::new(wrap_factory(certs::client().named("localhost"), inner)),
            Proxy if is_server => Box::new(ProxyFactory::new(inner).trust(Ipv4Addr::LOCALHOST)),
            Proxy => Box::new(ProxyClientFactory::direct(ProxyVersion::V2, inner)),
        };
    }
    inner
}

/// A second's worth.
const SEEDS: u64 = 60;
const MUCH: usize = 400_000;

/// Does what each line says.
fn serve(conn: &GreenTransport<Lines>) -> Result {
    while let Some(line) = conn.recv()? {
        match &line[..] {
            b"tls" => {
                conn.send_line("go");
                conn.start_tls(certs::server())?;
            }
            b"much" => {
                conn.write(vec![b'm'; MUCH])?;
                conn.send_line("");
            }
            b"close" => return conn.close(),
            b"abort" => {
                conn.abort_connection();
                return Ok(());
            }
            echo => conn.send_line(echo),
        }
    }
    // The peer has sent its last; we have not.
    conn.send_line("bye");
    conn.close()
}

/// A client within `parts`.
fn dial(reactor: Reactor, to: SocketAddr, parts: &[Part], live: &mut Vec<Live>) -> Result<GreenTransport<Lines>> {
    let (promise, made) = Deferred::<TransportRef>::new();
    let mut promise = Some(promise);
    let first = move || {
        let mut promise = promise.take();
        super::rig::Probe::new().on_made(move |near| {
            if let Some(promise) = promise.take() {
                promise.callback(near);
            }
        })
    };
    let mut factory = stack(parts, false, live, Box::new(first));
    let protocol = factory.build_protocol(&twistlet::Address::Tcp(to)).expect("nothing declines");
    let connecting = reactor.connect_protocol(to, protocol);
    let near = block_on(made)?;
    block_on(connecting)?;
    Ok(GreenTransport::take_over(near, Lines::new(), b""))
}

fn talk(conn: &GreenTransport<Lines>, dice: &mut Dice) -> Result {
    let line = || -> Result<_> { Ok(conn.recv_timeout(PATIENCE)?.map(|line| line.to_vec())) };
    for round in 0..=dice.below(6) {
        // First an echo: a close within the handshake of TLS is an abort, here and in Twisted.
        match if round == 0 { 9 } else { dice.below(5) } {
            0 => {
                conn.send_line("much");
                let much = conn.clone().reframe(Lines::new().max_length(MUCH));
                let much = much.recv_timeout(PATIENCE)?.expect("much");
                assert!(much.len() == MUCH && much.iter().all(|byte| *byte == b'm'), "{} bytes", much.len());
            }
            1 => {
                conn.send_line("tls");
                assert_eq!(line()?.as_deref(), Some(&b"go"[..]));
                conn.start_tls(certs::client().named("localhost"))?;
                assert!(conn.transport().is_secure());
            }
            _ => {
                let said = format!("round {round} {}", "x".repeat(dice.below(9000) as usize));
                conn.send_line(&said);
                assert!(line()?.is_some_and(|heard| heard == said.as_bytes()), "another echo");
            }
        }
    }
    match dice.below(5) {
        0 => {
            conn.lose_write_connection();
            assert_eq!(line()?.as_deref(), Some(&b"bye"[..]));
            assert_eq!(line()?, None);
            conn.close()
        }
        1 => {
            conn.send_line("close");
            assert_eq!(line()?, None);
            conn.close()
        }
        2 => {
            conn.send_line("abort");
            assert!(conn.recv_timeout(PATIENCE).is_err(), "a reset is no end");
            Ok(())
        }
        3 => conn.close(),
        _ => {
            conn.abort_connection();
            Ok(())
        }
    }
}

#[test]
fn random_stacks_of_everything_echo_upgrade_and_end_as_a_bare_connection_does() {
    watch_log();
    let reactor = Reactor::current();
    for seed in 0..SEEDS {
        let mut dice = Dice(seed);
        let shared: Vec<Part> = (0..dice.below(3)).map(|_| [Tls, Proxy][dice.below(2) as usize]).collect();
        let parts = stack_of(&mut dice, &shared);
        let handler = SpawnFactory::framed(Lines::new, |conn| {
            serve(&conn).or_else(|failure| match failure.check::<ConnectionClosed>() {
                // A client that aborts.
                Some(ConnectionClosed::Lost(_)) => Ok(()),
                _ => Err(failure),
            })
        });
        let mut live = Vec::new();
        let port = reactor.listen_tcp("127.0.0.1:0", stack(&parts, true, &mut live, Box::new(handler.clone())));
        let port = port.expect("a free port");
        let to = address(port);
        let clients: Vec<_> = (0..3)
            .map(|_| {
                let mine = stack_of(&mut dice, &shared);
                let mut dice = Dice(dice.below(u64::MAX));
                spawn(move || {
                    let mut live = Vec::new();
                    let conn = dial(reactor, to, &mine, &mut live)?;
                    let said = talk(&conn, &mut dice);
                    drop(conn);
                    said.map_err(|failure| panic!("{failure} with {mine:?}")).map(|()| live)
                })
            })
            .collect();
        for client in clients {
            match block_on(client) {
                Ok(gone) => live.extend(gone),
                Err(failure) => panic!("seed {seed}, server {parts:?}: {failure}"),
            }
        }
        block_on(port.stop_listening()).expect("it stops");
        for ended in handler.wait_all() {
            ended.unwrap_or_else(|failure| panic!("seed {seed}, server {parts:?}: {failure}"));
        }
        let deadline = std::time::Instant::now() + PATIENCE;
        while live.iter().any(|live| !live.is_empty()) {
            assert!(std::time::Instant::now() < deadline, "seed {seed}: a connection is left in {parts:?}");
            twistlet::green::sleep(SECOND / 1000);
        }
    }
    assert_eq!(logged(), [""; 0]);
    reactor.close();
}
