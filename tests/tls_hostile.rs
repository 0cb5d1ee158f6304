//! Everything at random, from every callback, over wires in memory, sockets and pipes: each protocol hears its beginning and its end
//! once, what was not encrypted is never believed, nothing is left.
mod certs;
mod chaos;
mod rig;

use chaos::{Chaos, End, World};
use std::cell::RefCell;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;
use twistlet::protocols::policies::{ThrottlingFactory, TimeoutFactory, TrafficLoggingFactory};
use twistlet::testing::{Clock, Delivery, connect};
use twistlet::transport::tls::{Side, wrap_factory};
use twistlet::{Address, Factory, Protocol, Reactor};

/// What is under the protocols at the beginning; the number of TLS layers.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stack {
    Plain,
    Tls,
    TlsInTls,
    /// Policies around TLS.
    PoliciesTls,
    /// TLS around policies.
    TlsPolicies,
    /// Policies, and no TLS yet.
    Policies,
}
const STACKS: [Stack; 6] =
    [Stack::Plain, Stack::Tls, Stack::TlsInTls, Stack::PoliciesTls, Stack::TlsPolicies, Stack::Policies];
impl Stack {
    fn depth(self) -> u8 {
        match self {
            Stack::Plain | Stack::Policies => 0,
            Stack::TlsInTls => 2,
            _ => 1,
        }
    }
}

/// A protocol of an end on its stack.
fn built(stack: Stack, end: &Rc<End>, side: Side) -> Box<dyn Protocol> {
    let protocol = Chaos::new(end);
    let mut once = Some(protocol);
    let own = twistlet::from_fn(move |_: &Address| once.take());
    let peer = Address::Gone;
    let policies = |inner: Box<dyn Factory>| {
        let inner = TimeoutFactory::new(Duration::from_secs(1000), inner);
        ThrottlingFactory::new(TrafficLoggingFactory::new(std::io::sink(), inner)).read_limit(1 << 40)
    };
    let made = match stack {
        Stack::Plain => own.boxed_build(&peer),
        Stack::Tls => wrap_factory(side, own).boxed_build(&peer),
        Stack::TlsInTls => wrap_factory(side.clone(), wrap_factory(side, own)).boxed_build(&peer),
        Stack::PoliciesTls => policies(Box::new(wrap_factory(side, own))).boxed_build(&peer),
        Stack::TlsPolicies => wrap_factory(side, policies(Box::new(own))).boxed_build(&peer),
        Stack::Policies => policies(Box::new(own)).boxed_build(&peer),
    };
    made.expect("not declined")
}
trait BoxedBuild {
    fn boxed_build(self, peer: &Address) -> Option<Box<dyn Protocol>>;
}
impl<F: Factory> BoxedBuild for F {
    fn boxed_build(mut self, peer: &Address) -> Option<Box<dyn Protocol>> {
        self.build_protocol(peer)
    }
}

fn ends(seed: u64, stack: Stack) -> (Rc<World>, Rc<End>, Rc<End>) {
    let world = World::new(seed);
    let near = End::new(&world, true, stack.depth());
    let far = End::new(&world, false, stack.depth());
    (world, near, far)
}

/// Panics that are part of the test say nothing; the log of their kind neither.
fn hush() {
    rig::watch_log();
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if std::env::var_os("CHAOS_LOUD").is_some() || info.payload().downcast_ref::<&str>() != Some(&"chaos") {
                usual(info);
            }
        }));
    });
}

#[track_caller]
fn check(what: &str, world: &Rc<World>, both: [&Rc<End>; 2]) {
    let mut faults = world.faults.take();
    for (end, name) in both.into_iter().zip(["client", "server"]) {
        if end.lost.get() != u32::from(end.made.get() > 0) {
            faults.push(format!("the {name} was made {} times, lost {} times", end.made.get(), end.lost.get()));
        }
        if Rc::strong_count(end) != 1 {
            faults.push(format!("{} protocols or calls of the {name} are left", Rc::strong_count(end) - 1));
        }
    }
    assert!(faults.is_empty(), "{what}: {faults:#?}\n{}", world.trace.borrow().join("\n"));
}

fn in_memory(seed: u64, stack: Stack) {
    let (world, near, far) = ends(seed, stack);
    let clock = Clock::new();
    let pump = Rc::new(connect(
        built(stack, &near, world.client.named("localhost")),
        built(stack, &far, Side::from(&world.server)),
        &clock,
    ));
    if world.dice.one_in(3) {
        pump.set_delivery(Delivery::PerWrite);
    }
    let keeper = Rc::new(RefCell::new(Some(pump)));
    let bomb = keeper.clone();
    *world.bomb.borrow_mut() = Some(Box::new(move || {
        // The wires below are dropped, perhaps from within a callback.
        let pump = bomb.borrow_mut().take();
        drop(pump);
    }));
    for _ in 0..60 {
        let Some(pump) = keeper.borrow().clone() else { break };
        pump.pump();
        if world.dice.one_in(4) {
            clock.advance(Duration::from_millis(1));
        }
    }
    // Who is left is told when the peer is gone, unless it has paused or a producer holds it.
    let left = keeper.borrow_mut().take();
    if let Some(pump) = left {
        for _ in 0..6 {
            clock.advance(Duration::from_secs(31));
            for _ in 0..20 {
                pump.pump();
            }
        }
        for (one, other) in [(&near, &far), (&far, &near)] {
            let transport = other.transport.get();
            let free = |transport: twistlet::TransportRef| !transport.is_paused() && !other.is_producing();
            if one.made.get() > 0 && one.lost.get() > 0 && other.lost.get() == 0 && transport.is_some_and(free) {
                let below = [pump.client(), pump.server()];
                let below =
                    below.map(|wire| (wire.is_connected(), wire.is_paused(), wire.is_disconnecting(), wire.unsent()));
                let fault = format!("one end is gone, and the other was not told: client and server below {below:?}");
                world.faults.borrow_mut().push(fault);
            }
        }
        world.trace.borrow_mut().push("-- everything ends".to_owned());
        drop(pump);
    }
    for end in [&near, &far] {
        if let Some(transport) = end.transport.get() {
            transport.resume_producing();
            // Or closes what a pause held back.
            transport.lose_connection();
        }
    }
    for _ in 0..4 {
        clock.advance(Duration::from_secs(31));
        for end in [&near, &far] {
            if let Some(transport) = end.transport.get() {
                transport.resume_producing();
            }
        }
    }
    clock.advance(Duration::from_secs(2000));
    world.bomb.take();
    if clock.pending() > 0 {
        world.faults.borrow_mut().push(format!("{} timers are left", clock.pending()));
    }
    check(&format!("seed {seed}, {stack:?}, in memory"), &world, [&near, &far]);
}

/// How many seeds; more by the environment, for a long search.
fn seeds(usual: u64) -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let first = number("CHAOS_FIRST").unwrap_or(0);
    first..first + number("CHAOS_SEEDS").unwrap_or(usual)
}

#[test]
fn whatever_is_done_in_whichever_callback_ends_once_in_memory() {
    hush();
    for seed in seeds(600) {
        in_memory(seed, STACKS[seed as usize % STACKS.len()]);
    }
}

/// How two protocols meet.
#[derive(Clone, Copy, Debug)]
enum Meet {
    Tcp,
    Unix,
    Pipes,
}
fn by_socket(seed: u64, stack: Stack, meet: Meet) {
    let (world, near, far) = ends(seed, stack);
    let reactor = Reactor::new().expect("a reactor");
    reactor.handle_signals(false);
    let client = built(stack, &near, world.client.named("localhost"));
    let server = built(stack, &far, Side::from(&world.server));
    match meet {
        Meet::Tcp => {
            let (mut client, mut server) = (Some(client), Some(server));
            let port = reactor.listen_tcp("127.0.0.1:0", twistlet::from_fn(move |_| server.take())).expect("a port");
            reactor.connect_tcp(&port.address(), twistlet::from_fn(move |_| client.take()));
        }
        Meet::Unix => {
            let (one, two) = UnixStream::pair().expect("a pair");
            reactor.adopt_stream(one, client).expect("adopted");
            reactor.adopt_stream(two, server).expect("adopted");
        }
        Meet::Pipes => {
            let ((from_two, to_one), (from_one, to_two)) =
                (std::io::pipe().expect("a pipe"), std::io::pipe().expect("a pipe"));
            let ends = twistlet::transport::Ends::pair(from_two, to_two);
            reactor.adopt_stream(ends, client).expect("adopted");
            let ends = twistlet::transport::Ends::pair(from_one, to_one);
            reactor.adopt_stream(ends, server).expect("adopted");
        }
    }
    let closer = world.clone();
    // The end of the reactor, in whatever state: from a callback, too.
    *world.bomb.borrow_mut() = Some(Box::new(move || drop(reactor.stop())));
    let _ = closer;
    let patience = Duration::from_millis(5 + world.dice.below(30));
    reactor.call_later(patience, move || reactor.stop());
    reactor.run().expect("it runs");
    world.bomb.take();
    check(&format!("seed {seed}, {stack:?}, {meet:?}"), &world, [&near, &far]);
}
#[test]
fn whatever_is_done_in_whichever_callback_ends_once_over_sockets_and_pipes() {
    hush();
    let before = std::fs::read_dir("/proc/self/fd").expect("listed").count();
    for seed in seeds(90) {
        let meet = [Meet::Tcp, Meet::Unix, Meet::Pipes][seed as usize % 3];
        by_socket(seed, STACKS[seed as usize / 3 % STACKS.len()], meet);
    }
    let after = std::fs::read_dir("/proc/self/fd").expect("listed").count();
    // Other tests of this program have some too.
    assert!(after < before + 30, "descriptors are left: {before} before, {after} after");
}
