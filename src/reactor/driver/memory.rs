//! A network and a clock inside the process (placeholder until the in-memory driver lands).
use super::{ConnectFault, Event, ListenOptions};
use crate::address::Address;
use std::io::{self, IoSlice};
use std::net::{Shutdown, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

pub(crate) struct Driver {}
#[derive(Clone)]
pub(crate) struct Waker {}
#[derive(Debug)]
pub(crate) struct Socket {}
#[derive(Debug)]
pub(crate) struct Listener {}

impl Driver {
    pub(crate) fn poll(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        todo!()
    }
    pub(crate) fn now(&self) -> Instant {
        todo!()
    }
    pub(crate) fn waker(&self) -> Waker {
        todo!()
    }
    pub(crate) fn connect_tcp(&self, to: SocketAddr, bind: Option<SocketAddr>) -> Result<super::Socket, ConnectFault> {
        todo!()
    }
    pub(crate) fn connect_unix(&self, path: &Path) -> io::Result<super::Socket> {
        todo!()
    }
    pub(crate) fn listen_tcp(&self, at: SocketAddr, options: &ListenOptions) -> io::Result<super::Listener> {
        todo!()
    }
    pub(crate) fn listen_unix(&self, path: &Path) -> io::Result<super::Listener> {
        todo!()
    }
    pub(crate) fn register_socket(&self, socket: &mut Socket, token: usize) -> io::Result<()> {
        todo!()
    }
    pub(crate) fn register_listener(&self, listener: &mut Listener, token: usize) -> io::Result<()> {
        todo!()
    }
}
impl Waker {
    pub(crate) fn wake(&self) {
        todo!()
    }
}
impl Socket {
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        todo!()
    }
    pub(crate) fn write(&self, data: &[u8]) -> io::Result<usize> {
        todo!()
    }
    pub(crate) fn write_vectored(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        todo!()
    }
    pub(crate) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        todo!()
    }
    pub(crate) fn take_error(&self) -> io::Result<Option<io::Error>> {
        todo!()
    }
    pub(crate) fn peer(&self) -> io::Result<Address> {
        todo!()
    }
    pub(crate) fn host(&self) -> io::Result<Address> {
        todo!()
    }
    pub(crate) fn reset_on_close(&self) {
        todo!()
    }
}
impl Listener {
    pub(crate) fn accept(&self) -> io::Result<(Socket, Address)> {
        todo!()
    }
    pub(crate) fn address(&self) -> io::Result<Address> {
        todo!()
    }
}
