//! The verbs of raw bytes: `read_all`, `read_n`, and std's `Read` and `Write`. All serve the same buffer.
use super::GreenTransport;
use super::turn::Turn;
use crate::failure::Result;
use crate::protocols::codec::Raw;
use bytes::{Buf, Bytes, BytesMut};
use std::io;

impl GreenTransport<Raw> {
    /// Everything until the peer closes (twistedutil's `read()`).
    ///
    /// # Errors
    /// How the connection broke; what had arrived is kept, and the next call gives it.
    ///
    /// # Blocking
    /// Until the peer closes.
    #[track_caller]
    pub fn read_all(&self) -> Result<Bytes> {
        let turn = self.conn.turn()?;
        while !self.conn.is_over() {
            self.conn.look();
            turn.wait_input(None)?;
        }
        turn.tell_end()?;
        Ok(self.conn.take_input().freeze())
    }
    /// `n` bytes; fewer only at the end (twistedutil's `read(n)`). After an unclean end what had arrived is given first, then
    /// the error once, then nothing.
    ///
    /// # Errors
    /// How the connection broke.
    ///
    /// # Blocking
    /// Until there are `n` bytes or the end.
    #[track_caller]
    pub fn read_n(&self, n: usize) -> Result<Bytes> {
        if n == 0 {
            return Ok(Bytes::new());
        }
        let turn = self.conn.turn()?;
        loop {
            let over = self.conn.is_over();
            let mut input = self.conn.take_input();
            if input.len() >= n || (over && !input.is_empty()) {
                let wanted = input.split_to(n.min(input.len())).freeze();
                self.conn.put_back(input);
                return Ok(wanted);
            }
            self.conn.put_back(input);
            if over {
                turn.tell_end()?;
                return Ok(Bytes::new());
            }
            turn.wait_input(None)?;
        }
    }
    /// At most `most` of the bytes at hand (twistedutil's `recv(buflen)`); empty at the end.
    ///
    /// # Errors
    /// How the connection broke, behind what had arrived.
    ///
    /// # Blocking
    /// Until there is at least a byte or the end.
    #[track_caller]
    pub fn recv_n(&self, most: usize) -> Result<Bytes> {
        if most == 0 {
            return Ok(Bytes::new());
        }
        let turn = self.conn.turn()?;
        match self.at_hand(&turn)? {
            Some(mut input) => {
                let wanted = input.split_to(most.min(input.len())).freeze();
                self.conn.put_back(input);
                Ok(wanted)
            }
            None => Ok(Bytes::new()),
        }
    }
    /// The input, at least a byte of it; `None` at the end.
    #[track_caller]
    fn at_hand(&self, turn: &Turn<'_>) -> Result<Option<BytesMut>> {
        loop {
            let over = self.conn.is_over();
            let input = self.conn.take_input();
            if !input.is_empty() {
                return Ok(Some(input));
            }
            if over {
                turn.tell_end()?;
                return Ok(None);
            }
            turn.wait_input(None)?;
        }
    }
    #[track_caller]
    fn read_into(&self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let turn = self.conn.turn()?;
        let Some(mut input) = self.at_hand(&turn)? else { return Ok(0) };
        let n = buffer.len().min(input.len());
        buffer[..n].copy_from_slice(&input[..n]);
        if n < input.len() {
            input.advance(n);
            self.conn.put_back(input);
        }
        Ok(n)
    }
}

/// # Blocking
/// `read` until there is at least a byte or the end; `write` takes the whole buffer and waits as
/// [`GreenTransport::write`] does, so that it means the same whichever of the two is called.
impl io::Read for &GreenTransport<Raw> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_into(buffer)
    }
}
impl io::Write for &GreenTransport<Raw> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.write_slice(data)?;
        Ok(data.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(GreenTransport::flush(self)?)
    }
}
impl io::Read for GreenTransport<Raw> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_into(buffer)
    }
}
impl io::Write for GreenTransport<Raw> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.write_slice(data)?;
        Ok(data.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(GreenTransport::flush(self)?)
    }
}
