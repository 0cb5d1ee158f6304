//! What all sockets have alike, as macros: timeouts, the mode, ways from and to std and descriptors; and `Read` and `Write` of
//! the streams.
//!
//! Each type is `Arc<Socket<..>>`; the macros are used once a type, in its own file.

/// `Type(Std as Inner)`: the mirror of `Std`, a `Socket<Inner>`. With `timeouts`, for all but listeners.
macro_rules! face {
    ($type:ident($std:ty as $inner:ty) timeouts) => {
        $crate::green::net::face::face! { @common $type($std as $inner) }
        impl $type {
            /// How long one call that reads may wait; `None`, the default, is for ever. Expiry is an error of kind `TimedOut`:
            /// std allows `WouldBlock` or `TimedOut`, and its readers never try again on this one. Resolution: a millisecond.
            ///
            /// # Errors
            /// `InvalidInput` for zero.
            pub fn set_read_timeout(&self, limit: Option<std::time::Duration>) -> std::io::Result<()> {
                self.0.set_timeout($crate::green::net::place::Direction::Read, limit)
            }
            /// How long one call that writes may wait, likewise.
            ///
            /// # Errors
            /// `InvalidInput` for zero.
            pub fn set_write_timeout(&self, limit: Option<std::time::Duration>) -> std::io::Result<()> {
                self.0.set_timeout($crate::green::net::place::Direction::Write, limit)
            }
            /// What `set_read_timeout` said.
            ///
            /// # Errors
            /// None; std's signature.
            pub fn read_timeout(&self) -> std::io::Result<Option<std::time::Duration>> {
                Ok(self.0.timeout($crate::green::net::place::Direction::Read))
            }
            /// What `set_write_timeout` said.
            ///
            /// # Errors
            /// None; std's signature.
            pub fn write_timeout(&self) -> std::io::Result<Option<std::time::Duration>> {
                Ok(self.0.timeout($crate::green::net::place::Direction::Write))
            }
            /// Gives the socket back to std, blocking unless `set_nonblocking` said otherwise, with its timeouts.
            ///
            /// # Errors
            /// `ResourceBusy` while clones exist, which a blocking socket would make hold the loop; the system's.
            pub fn into_std(self) -> std::io::Result<$std> {
                let limits = (self.read_timeout()?, self.write_timeout()?);
                let socket = <$std>::from(self.0.into_fd().map_err(|_| $crate::green::net::face::shared())?);
                socket.set_read_timeout(limits.0)?;
                socket.set_write_timeout(limits.1)?;
                Ok(socket)
            }
        }
        /// Timeouts are taken over.
        impl From<$std> for $type {
            fn from(socket: $std) -> Self {
                let limits = [socket.read_timeout(), socket.write_timeout()];
                let socket = $type::adopt(socket);
                for (direction, limit) in
                    [$crate::green::net::place::Direction::Read, $crate::green::net::place::Direction::Write]
                        .into_iter()
                        .zip(limits)
                {
                    // Fails only for a descriptor that is no socket, of which every use will say so.
                    let _ = limit.and_then(|limit| socket.0.set_timeout(direction, limit));
                }
                socket
            }
        }
    };
    ($type:ident($std:ty as $inner:ty) listener) => {
        $crate::green::net::face::face! { @common $type($std as $inner) }
        impl $type {
            /// Gives the socket back to std, blocking unless `set_nonblocking` said otherwise.
            ///
            /// # Errors
            /// `ResourceBusy` while clones exist, which a blocking socket would make hold the loop.
            pub fn into_std(self) -> std::io::Result<$std> {
                Ok(<$std>::from(self.0.into_fd().map_err(|_| $crate::green::net::face::shared())?))
            }
        }
        impl From<$std> for $type {
            fn from(socket: $std) -> Self {
                $type::adopt(socket)
            }
        }
    };
    (@common $type:ident($std:ty as $inner:ty)) => {
        impl $type {
            fn adopt(socket: $std) -> Self {
                // Fails only for a descriptor that is no socket, of which every use will say so.
                let _ = socket.set_nonblocking(true);
                let socket = Socket::new(<$inner>::from(std::os::fd::OwnedFd::from(socket)));
                // The caller may have clones of it.
                socket.place.expose();
                $type(std::sync::Arc::new(socket))
            }
            /// The same socket again: position, timeouts and `set_nonblocking` are shared, as std's clones share them.
            ///
            /// # Errors
            /// None; std's signature.
            pub fn try_clone(&self) -> std::io::Result<$type> {
                Ok($type(std::sync::Arc::clone(&self.0)))
            }
            /// The socket's pending error, which this clears.
            ///
            /// # Errors
            /// The system's, of asking.
            pub fn take_error(&self) -> std::io::Result<Option<std::io::Error>> {
                self.0.inner.take_error()
            }
            /// Whether calls fail with `WouldBlock` where they would wait. For all clones; accepted connections are not
            /// affected by their listener's.
            ///
            /// # Errors
            /// None; std's signature.
            pub fn set_nonblocking(&self, on: bool) -> std::io::Result<()> {
                self.0.set_nonblocking(on);
                Ok(())
            }
        }
        impl From<std::os::fd::OwnedFd> for $type {
            fn from(fd: std::os::fd::OwnedFd) -> Self {
                <$std>::from(fd).into()
            }
        }
        /// The descriptor itself, blocking unless `set_nonblocking` said otherwise. While clones exist, a duplicate that does
        /// not block, since the clones must not.
        ///
        /// # Panics
        /// While clones exist, when the system has no descriptor left; `into_std` gives errors instead.
        impl From<$type> for std::os::fd::OwnedFd {
            fn from(socket: $type) -> Self {
                socket.0.give_fd()
            }
        }
        impl std::os::fd::IntoRawFd for $type {
            fn into_raw_fd(self) -> std::os::fd::RawFd {
                std::os::fd::OwnedFd::from(self).into_raw_fd()
            }
        }
        impl TryFrom<$type> for $std {
            type Error = std::io::Error;
            fn try_from(socket: $type) -> std::io::Result<$std> {
                socket.into_std()
            }
        }
        /// For options that are not here. Do not make it blocking: that would hold the loop.
        impl std::os::fd::AsFd for $type {
            fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
                self.0.expose()
            }
        }
        impl std::os::fd::AsRawFd for $type {
            fn as_raw_fd(&self) -> std::os::fd::RawFd {
                std::os::fd::AsRawFd::as_raw_fd(&self.0.expose())
            }
        }
        impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Debug::fmt(&self.0.inner, f)
            }
        }
    };
}
pub(super) use face;

/// `Read` and `Write`, on the type and on references to it, as std has them. `used_up` tells whether a read of `n` bytes with
/// room for `size` has taken all there was.
macro_rules! streaming {
    ($type:ident($inner:ty), $input:literal, $room:literal, |$n:ident, $size:ident| $used_up:expr) => {
        impl $type {
            #[inline]
            #[track_caller]
            fn read_some(&self, buf: &mut [u8]) -> std::io::Result<usize> {
                let $size = buf.len();
                if $size == 0 {
                    return Ok(0);
                }
                let used_up = |&$n: &usize| $used_up;
                self.0.run(Read, $input, |mut socket| std::io::Read::read(&mut socket, buf), used_up)
            }
            #[track_caller]
            fn read_scattered(&self, bufs: &mut [std::io::IoSliceMut<'_>]) -> std::io::Result<usize> {
                let $size: usize = bufs.iter().map(|buf| buf.len()).sum();
                if $size == 0 {
                    return Ok(0);
                }
                // The system fills no more than some number of pieces at once, so less than all does not mean the end.
                self.0.run(Read, $input, |mut socket| std::io::Read::read_vectored(&mut socket, bufs), |_| false)
            }
            #[inline]
            #[track_caller]
            fn write_some(&self, buf: &[u8]) -> std::io::Result<usize> {
                if buf.is_empty() {
                    return Ok(0);
                }
                let used_up = |n: &usize| *n < buf.len();
                self.0.run(Write, $room, |mut socket| std::io::Write::write(&mut socket, buf), used_up)
            }
            #[track_caller]
            fn write_gathered(&self, bufs: &[std::io::IoSlice<'_>]) -> std::io::Result<usize> {
                if bufs.iter().all(|buf| buf.is_empty()) {
                    return Ok(0);
                }
                // As for reading.
                self.0.run(Write, $room, |mut socket| std::io::Write::write_vectored(&mut socket, bufs), |_| false)
            }
            /// What has arrived, up to 256 KiB, in a buffer of the thread's: empty at the end of the stream. Whoever waits holds
            /// no buffer, so that ten thousand who wait cost no memory, and few large reads take the place of many small ones.
            ///
            /// # Errors
            /// As `read`.
            ///
            /// # Panics
            /// In the main loop and its callbacks, when it has to wait.
            ///
            /// # Blocking
            /// Until something has arrived.
            #[track_caller]
            pub fn read_chunk(&self) -> std::io::Result<Chunk> {
                let $size = Chunk::SIZE;
                let used_up = |chunk: &Chunk| {
                    let $n = chunk.len();
                    $used_up
                };
                self.0.run(Read, $input, |mut socket| Chunk::fill(|buf| std::io::Read::read(&mut socket, buf)), used_up)
            }
        }
        impl $type {
            /// What ends it, whoever has clones of it by then.
            pub(in crate::green) fn ender(&self) -> Ender<$inner> {
                Ender::of(&self.0)
            }
        }
        $crate::green::net::face::streaming! { @io $type }
        $crate::green::net::face::streaming! { @io &$type }
    };
    (@io $type:ty) => {
        /// An empty buffer gives 0 at once.
        impl std::io::Read for $type {
            #[inline]
            #[track_caller]
            fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
                self.read_some(buf)
            }
            #[track_caller]
            fn read_vectored(&mut self, bufs: &mut [std::io::IoSliceMut<'_>]) -> std::io::Result<usize> {
                self.read_scattered(bufs)
            }
        }
        /// `write` may take less than all, as ever; an empty one returns at once; `flush` has nothing to do.
        impl std::io::Write for $type {
            #[inline]
            #[track_caller]
            fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
                self.write_some(buf)
            }
            #[track_caller]
            fn write_vectored(&mut self, bufs: &[std::io::IoSlice<'_>]) -> std::io::Result<usize> {
                self.write_gathered(bufs)
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
    };
}
pub(super) use streaming;

#[cold]
pub(super) fn shared() -> std::io::Error {
    let text = "the socket has clones: drop them before into_std()";
    std::io::Error::new(std::io::ErrorKind::ResourceBusy, text)
}
