//! A factory and its protocols, with somebody who is told when their connections come and go; what services know their
//! connections by.
//!
//! Everything is forwarded. A protocol that panics is told of as any other (the panic goes on to the wire), and so is one that
//! another took over from: then a call that the wire forgets at its end tells.
use crate::address::Address;
use crate::error::ConnectionClosed;
use crate::failure;
use crate::shared::Shared;
use crate::transport::{Factory, Protocol, TransportRef};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

/// Who is told. Both are called from within the connection's own callbacks.
pub(super) trait Watcher {
    /// Before the protocol is.
    fn made(&self, attempt: u64, transport: TransportRef);
    /// After the protocol was.
    fn lost(self: Rc<Self>, attempt: u64, reason: &ConnectionClosed);
}

pub(super) struct WatchedFactory {
    pub(super) factory: Shared<Box<dyn Factory>>,
    pub(super) watcher: Rc<dyn Watcher>,
    pub(super) attempt: u64,
}

impl Factory for WatchedFactory {
    fn build_protocol(&mut self, peer: &Address) -> Option<Box<dyn Protocol>> {
        let protocol = self.factory.build_protocol(peer)?;
        let notice = Notice { watcher: Some(Rc::clone(&self.watcher)), attempt: self.attempt };
        Some(Box::new(Watched { protocol, notice: Some(notice), transport: None }))
    }
    fn start_factory(&mut self) {
        self.factory.start_factory();
    }
    fn stop_factory(&mut self) {
        self.factory.stop_factory();
    }
}

struct Watched {
    protocol: Box<dyn Protocol>,
    /// Until it was given.
    notice: Option<Notice>,
    transport: Option<TransportRef>,
}

impl Protocol for Watched {
    fn connection_made(&mut self, transport: TransportRef) {
        self.transport = Some(transport);
        if let Some(Notice { watcher: Some(watcher), attempt }) = &self.notice {
            watcher.made(*attempt, transport);
        }
        self.protocol.connection_made(transport);
    }
    fn data_received(&mut self, transport: TransportRef, data: &[u8]) {
        self.protocol.data_received(transport, data);
    }
    fn read_connection_lost(&mut self, transport: TransportRef) {
        self.protocol.read_connection_lost(transport);
    }
    fn write_connection_lost(&mut self, transport: TransportRef) {
        self.protocol.write_connection_lost(transport);
    }
    fn handshake_completed(&mut self, transport: TransportRef) {
        self.protocol.handshake_completed(transport);
    }
    fn file_descriptor_received(&mut self, transport: TransportRef, descriptor: OwnedFd) {
        self.protocol.file_descriptor_received(transport, descriptor);
    }
    fn connection_lost(&mut self, transport: TransportRef, reason: &ConnectionClosed) {
        // Whatever the protocol does, the notice is given when it has done it.
        let notice = self.notice.take();
        if let Err(panicked) = failure::catch(|| self.protocol.connection_lost(transport, reason)) {
            failure::report(format_args!("the protocol of the connection with {}", transport.peer()), &panicked);
        }
        if let Some(notice) = notice {
            notice.give(reason);
        }
    }
}
impl Drop for Watched {
    fn drop(&mut self) {
        let Some(mut notice) = self.notice.take() else { return };
        match self.transport {
            // Another protocol has taken over.
            Some(transport) if transport.is_connected() => {
                transport.call_later(Duration::MAX, move || drop(notice));
            }
            Some(_) => {}
            // There never was a connection: who tries to connect is told why.
            None => notice.watcher = None,
        }
    }
}

/// Given once: on purpose, or when it is dropped.
struct Notice {
    watcher: Option<Rc<dyn Watcher>>,
    attempt: u64,
}
impl Notice {
    fn give(mut self, reason: &ConnectionClosed) {
        if let Some(watcher) = self.watcher.take() {
            watcher.lost(self.attempt, reason);
        }
    }
}
impl Drop for Notice {
    fn drop(&mut self) {
        if let Some(watcher) = self.watcher.take() {
            watcher.lost(self.attempt, &ConnectionClosed::Done);
        }
    }
}
