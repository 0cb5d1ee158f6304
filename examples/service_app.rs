//! cargo run --example service_app -- [ADDRESS | unix:PATH | systemd:NAME [DRAIN_SECONDS]]
//!
//! A program as a tree of services: an echo server, a client that keeps a connection to it up, a timer, and a service of its own
//! that says when all are up. SIGTERM stops it in order, SIGUSR2 restarts it without a gap:
//!
//! ```text
//! $ cargo run --example service_app &
//! process 4711 is listening on 127.0.0.1:8007
//! $ kill -USR2 4711
//! process 4712 is listening on 127.0.0.1:8007
//! process 4711 stops
//! ```
use std::cell::Cell;
use std::process::{self, ExitCode};
use std::rc::Rc;
use std::time::Duration;
use twistlet::endpoint::{ActivatedServerEndpoint, ServerEndpoint, TcpClientEndpoint};
use twistlet::service::{
    Application, ClientService, ExponentialBackoff, MultiService, Service, StreamServerEndpointService, TimerService,
};
use twistlet::{ConnectionClosed, Deferred, Protocol, Reactor, Shared, TransportRef};

/// Sends back what it gets, and counts its kind.
struct Echo(Rc<Cell<usize>>);
impl Protocol for Echo {
    fn connection_made(&mut self, _: TransportRef) {
        self.0.set(self.0.get() + 1);
    }
    fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
        transport.write(data);
    }
    fn connection_lost(&mut self, _: TransportRef, _: &ConnectionClosed) {
        self.0.set(self.0.get() - 1);
    }
}

/// The client's end: whether the server has answered.
#[derive(Default)]
struct Heartbeat {
    answered: Option<twistlet::Promise<()>>,
}
impl Heartbeat {
    /// Greets the server; fires when it has answered.
    fn greet(&mut self, transport: TransportRef) -> Deferred<()> {
        let (promise, deferred) = Deferred::new();
        self.answered = Some(promise);
        transport.write("are you there?\r\n");
        deferred
    }
}
impl Protocol for Heartbeat {
    fn data_received(&mut self, _: TransportRef, _: &[u8]) {
        if let Some(promise) = self.answered.take() {
            promise.callback(());
        }
    }
}

/// Says when the others are up: it is started after them and stopped before them.
struct Announcement(StreamServerEndpointService);
impl Service for Announcement {
    fn start_service(&mut self) -> Deferred<()> {
        if let Some(address) = self.0.address() {
            println!("process {} is listening on {address}", process::id());
        }
        Deferred::succeed(())
    }
    fn stop_service(&mut self) -> Deferred<()> {
        println!("process {} stops", process::id());
        Deferred::succeed(())
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let at = arguments.next().unwrap_or_else(|| "127.0.0.1:8007".into());
    let Ok(drain) = arguments.next().map_or(Ok(5), |seconds| seconds.parse()) else {
        eprintln!("usage: service_app [ADDRESS | unix:PATH | systemd:NAME [DRAIN_SECONDS]]");
        return ExitCode::FAILURE;
    };
    let reactor = Reactor::current();
    let application = Application::new().drain(Duration::from_secs(drain)).flush(Duration::from_secs(1));
    let program = MultiService::new();

    let open = Rc::new(Cell::new(0));
    let count = Rc::clone(&open);
    let endpoint: Box<dyn ServerEndpoint> = match at.split_once(':') {
        Some(("systemd", name)) => Box::new(ActivatedServerEndpoint::named(&reactor, name)),
        Some(("unix", path)) => Box::new(application.listeners().unix(&reactor, path)),
        _ => Box::new(application.listeners().tcp(&reactor, at)),
    };
    let server = StreamServerEndpointService::new(endpoint, move || Echo(Rc::clone(&count)));
    program.add(server.clone());

    program.add(TimerService::new(&reactor, Duration::from_secs(60), move || {
        println!("process {} has {} connections", process::id(), open.get());
    }));

    program.add(Announcement(server.clone()));

    // Where the server listens is known when it does.
    let beat = MultiService::new();
    program.add(Upstream { reactor, server, services: beat.clone() });
    program.add(beat);

    application.run(program)
}

/// Adds the client when there is somebody to connect to.
struct Upstream {
    reactor: Reactor,
    server: StreamServerEndpointService,
    services: MultiService,
}
impl Service for Upstream {
    fn start_service(&mut self) -> Deferred<()> {
        let Some(address) = self.server.address() else { return Deferred::succeed(()) };
        let heartbeat = Shared::new(Heartbeat::default());
        let ours = heartbeat.clone();
        let client =
            ClientService::new(&self.reactor, TcpClientEndpoint::new(&self.reactor, &address), move || ours.clone())
                .retry_policy(ExponentialBackoff::new().longest(Duration::from_secs(10)))
                .prepare_connection(move |transport| heartbeat.call(move |heartbeat| heartbeat.greet(transport)));
        let _ = client.when_connected().add_callback(|_| println!("process {} answers", process::id()));
        self.services.add(client);
        Deferred::succeed(())
    }
    fn stop_service(&mut self) -> Deferred<()> {
        Deferred::succeed(())
    }
}

// Try it:
//     cargo run --example service_app &
//     kill -USR2 %1; kill -TERM %1
