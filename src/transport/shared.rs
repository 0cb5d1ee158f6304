//! Protocols, factories and producers held by a `Shared`: told at once, or, when somebody is inside, as soon as they left, with
//! a copy of the bytes. Every method is forwarded; one left to its default would swallow what it should tell.
use super::{Address, ClientFactory, Connector, Factory, Producer, Protocol, PullProducer, TransportRef};
use crate::error::{ConnectError, ConnectionClosed};
use crate::failure;
use crate::shared::Shared;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::os::fd::OwnedFd;

/// Tells a protocol, or queues what `later` makes; a panic of what was queued closes the connection.
fn tell<P: 'static, L: FnOnce(&mut P) + 'static>(
    shared: &Shared<P>,
    transport: TransportRef,
    now: impl FnOnce(&mut P),
    later: impl FnOnce() -> L,
) {
    shared.enter_or_queue(now, || {
        let call = later();
        Box::new(move |protocol: &mut P| {
            if let Err(failure) = failure::catch(|| call(protocol)) {
                failure::report(format_args!("the protocol of the connection with {}", transport.peer()), &failure);
                transport.fail_connection(failure);
            }
        })
    });
}

macro_rules! forward { ($($method:ident)+) => { $(
    fn $method(&mut self, transport: TransportRef) {
        tell(self, transport, |protocol| protocol.$method(transport), || move |protocol: &mut P| protocol.$method(transport));
    }
)+ } }

impl<P: Protocol + 'static> Protocol for Shared<P> {
    forward! { connection_made read_connection_lost write_connection_lost handshake_completed }
    fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
        tell(
            self,
            transport,
            |protocol| protocol.data_received(transport, data),
            || {
                let data = data.to_vec();
                move |protocol: &mut P| protocol.data_received(transport, &data)
            },
        );
    }
    fn file_descriptor_received(&mut self, transport: TransportRef, descriptor: OwnedFd) {
        let descriptor = Cell::new(Some(descriptor));
        tell(
            self,
            transport,
            |protocol| {
                if let Some(descriptor) = descriptor.take() {
                    protocol.file_descriptor_received(transport, descriptor);
                }
            },
            || {
                let descriptor = descriptor.take();
                move |protocol: &mut P| {
                    if let Some(descriptor) = descriptor {
                        protocol.file_descriptor_received(transport, descriptor);
                    }
                }
            },
        );
    }
    fn connection_lost(&mut self, transport: TransportRef, reason: &ConnectionClosed) {
        tell(
            self,
            transport,
            |protocol| protocol.connection_lost(transport, reason),
            || {
                let reason = reason.clone();
                move |protocol: &mut P| protocol.connection_lost(transport, &reason)
            },
        );
    }
}

thread_local! {
    /// How many ports and connectors use a shared factory, which is started by the first and stopped by the last.
    static USERS: RefCell<HashMap<*const (), usize>> = RefCell::default();
}

impl<F: Factory + 'static> Factory for Shared<F> {
    /// Declines the connection, and says so in the log, while somebody is inside of the factory: who is there may not wait.
    fn build_protocol(&mut self, peer: &Address) -> Option<Box<dyn Protocol>> {
        match self.try_enter(|factory| factory.build_protocol(peer)) {
            Ok(protocol) => protocol,
            Err(_) => {
                log::error!(target: "twistlet", "the connection with {peer} is declined: somebody is inside of its factory");
                None
            }
        }
    }
    fn start_factory(&mut self) {
        let id = self.id();
        if !USERS.with(|users| users.borrow().contains_key(&id)) {
            self.enter_or_queue(F::start_factory, || Box::new(F::start_factory));
        }
        USERS.with(|users| *users.borrow_mut().entry(id).or_insert(0) += 1);
    }
    fn stop_factory(&mut self) {
        let id = self.id();
        let left = USERS.try_with(|users| {
            let mut users = users.borrow_mut();
            let left = users.get(&id).map_or(0, |count| count - 1);
            match left {
                0 => drop(users.remove(&id)),
                left => drop(users.insert(id, left)),
            }
            left
        });
        if left.unwrap_or(0) == 0 {
            self.enter_or_queue(F::stop_factory, || Box::new(F::stop_factory));
        }
    }
}

impl<F: ClientFactory + 'static> ClientFactory for Shared<F> {
    fn started_connecting(&mut self, connector: Connector) {
        self.enter_or_queue(
            |factory| factory.started_connecting(connector),
            || Box::new(move |factory| factory.started_connecting(connector)),
        );
    }
    fn client_connection_failed(&mut self, connector: Connector, reason: &ConnectError) {
        self.enter_or_queue(
            |factory| factory.client_connection_failed(connector, reason),
            || {
                let reason = reason.clone();
                Box::new(move |factory| factory.client_connection_failed(connector, &reason))
            },
        );
    }
    fn client_connection_lost(&mut self, connector: Connector, reason: &ConnectionClosed) {
        self.enter_or_queue(
            |factory| factory.client_connection_lost(connector, reason),
            || {
                let reason = reason.clone();
                Box::new(move |factory| factory.client_connection_lost(connector, &reason))
            },
        );
    }
}

impl<P: Producer + 'static> Producer for Shared<P> {
    fn pause_producing(&mut self) {
        self.enter_or_queue(P::pause_producing, || Box::new(P::pause_producing));
    }
    fn resume_producing(&mut self) {
        self.enter_or_queue(P::resume_producing, || Box::new(P::resume_producing));
    }
    fn stop_producing(&mut self) {
        self.enter_or_queue(P::stop_producing, || Box::new(P::stop_producing));
    }
}

impl<P: PullProducer + 'static> PullProducer for Shared<P> {
    fn produce(&mut self, consumer: TransportRef) -> bool {
        let mut goes_on = true;
        self.enter_or_queue(
            |producer| goes_on = producer.produce(consumer),
            || {
                Box::new(move |producer| {
                    if !producer.produce(consumer) {
                        consumer.unregister_producer();
                    }
                })
            },
        );
        goes_on
    }
    fn stop_producing(&mut self) {
        self.enter_or_queue(P::stop_producing, || Box::new(P::stop_producing));
    }
}
