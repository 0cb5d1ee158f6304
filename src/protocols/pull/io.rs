//! A PullTransport as the byte stream that async libraries without a runtime are generic over (feature `futures-io`).
//!
//! Both directions hold back: nothing is read that nobody polls for, and a write waits above the high-water mark.
use super::PullTransport;
use crate::error::ConnectionClosed;
use crate::failure::Failure;
use crate::protocols::codec::Raw;
use crate::transport::HIGH_WATER;
use bytes::Buf;
use futures_io::{AsyncRead, AsyncWrite};
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

impl PullTransport {
    fn poll_bytes(&self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let conn = self.conn();
        let mut input = conn.input.borrow_mut();
        if buffer.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if !input.is_empty() {
            let n = buffer.len().min(input.len());
            input.copy_to_slice(&mut buffer[..n]);
            return Poll::Ready(Ok(n));
        }
        drop(input);
        if conn.is_over() {
            return Poll::Ready(conn.tell_end(false).map(|()| 0).map_err(io::Error::from));
        }
        conn.register(context.waker());
        conn.polled.set(true);
        conn.flow();
        Poll::Pending
    }
    fn poll_send(&self, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let wire = self.conn().writable().map_err(io::Error::from)?;
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if wire.unsent() > HIGH_WATER {
            ready!(self.poll_flushed(context))?;
        }
        let n = data.len().min(HIGH_WATER);
        wire.write(&data[..n]);
        Poll::Ready(Ok(n))
    }
    fn poll_flushed(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let conn = self.conn();
        let wire = conn.writable().map_err(io::Error::from)?;
        if wire.unsent() == 0 {
            return Poll::Ready(Ok(()));
        }
        conn.register(context.waker());
        if !conn.flushing.replace(true) {
            let waiting = Rc::downgrade(conn);
            let _ = conn.flushed(wire).add_both(move |_| {
                if let Some(conn) = waiting.upgrade() {
                    conn.flushing.set(false);
                    conn.tell_tasks();
                }
            });
        }
        Poll::Pending
    }
    fn poll_shut(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let conn = self.conn();
        if let Err(gone) = conn.writable() {
            // Closed already, by whomever; a break is told to who reads or writes.
            return Poll::Ready(if is_over(&gone) { Ok(()) } else { Err(gone.into()) });
        }
        self.lose_write_connection();
        conn.register(context.waker());
        Poll::Pending
    }
}
fn is_over(gone: &Failure) -> bool {
    matches!(gone.check(), Some(ConnectionClosed::Done | ConnectionClosed::Lost(Some(ErrorKind::BrokenPipe))))
}

/// Bytes as they come: 0 is the end, told after what had arrived, and after the error of a connection that broke.
impl AsyncRead for PullTransport {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.poll_bytes(context, buffer)
    }
}
impl AsyncRead for &PullTransport<Raw> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.poll_bytes(context, buffer)
    }
}
/// A write takes at most 65,536 bytes, and waits while as many are unsent; `flush` is done when all is with the operating
/// system; `close` closes the write side.
impl AsyncWrite for PullTransport {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_send(context, data)
    }
    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flushed(context)
    }
    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_shut(context)
    }
}
impl AsyncWrite for &PullTransport<Raw> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_send(context, data)
    }
    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flushed(context)
    }
    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_shut(context)
    }
}
