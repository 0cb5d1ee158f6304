//! Descriptors that travel beside bytes on UNIX sockets (SCM_RIGHTS), which std does not have.
//!
//! Called by `reactor::driver`. What must never happen here: a descriptor that arrived and has no owner; a wait, on the non-blocking
//! sockets that are given here.
use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// The most descriptors one message carries: Linux' SCM_MAX_FD.
const MOST: usize = 253;
/// Room for the ancillary data of one message in words, which align it: descriptors, and something besides.
const WORDS: usize = (MOST * mem::size_of::<RawFd>()).div_ceil(8) + 32;

/// Sends `data`, at least a byte, and a duplicate of `descriptor` beside its first. Returns how many bytes went.
///
/// # Errors
/// The system's; nothing was sent then.
pub(crate) fn send(socket: BorrowedFd<'_>, data: &[u8], descriptor: BorrowedFd<'_>) -> io::Result<usize> {
    let raw: RawFd = descriptor.as_raw_fd();
    let payload = mem::size_of::<RawFd>() as u32;
    let mut space = [0_u64; 8];
    let mut part = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
    // SAFETY: a msghdr is integers and pointers, for which zeros are valid.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &mut part;
    message.msg_iovlen = 1;
    message.msg_control = space.as_mut_ptr().cast();
    // SAFETY: CMSG_SPACE only computes.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(payload) } as _;
    // SAFETY: `space` is aligned as words are, which is enough for a cmsghdr, and larger than CMSG_SPACE of one descriptor (at most
    // 32 bytes): the first header and its payload lie within it. It lives, as `part` and `data` do, until sendmsg(2) has returned,
    // which only reads them.
    let sent = unsafe {
        let header = libc::CMSG_FIRSTHDR(&message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(payload) as _;
        libc::CMSG_DATA(header).cast::<RawFd>().write_unaligned(raw);
        libc::sendmsg(socket.as_raw_fd(), &message, libc::MSG_NOSIGNAL)
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// What came beside bytes and is not among the descriptors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Besides {
    /// Some descriptors were lost: there was no room for them in this process.
    pub(crate) truncated: bool,
    /// Messages of other kinds.
    pub(crate) unknown: usize,
}

/// Reads bytes, and puts the descriptors that came with them into `descriptors`, closed at exec.
///
/// # Errors
/// The system's; nothing was read then.
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<(usize, Besides)> {
    let mut space = [const { MaybeUninit::<u64>::uninit() }; WORDS];
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: a msghdr is integers and pointers, for which zeros are valid.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &mut part;
    message.msg_iovlen = 1;
    message.msg_control = space.as_mut_ptr().cast();
    message.msg_controllen = mem::size_of_val(&space) as _;
    #[cfg(target_os = "linux")]
    let flags = libc::MSG_CMSG_CLOEXEC;
    #[cfg(not(target_os = "linux"))]
    let flags = 0;
    // SAFETY: `buffer` and `space` are ours alone and live until recvmsg(2) has returned, which writes within the lengths given.
    let read = unsafe { libc::recvmsg(socket.as_raw_fd(), &mut message, flags) };
    let read = usize::try_from(read).map_err(|_| io::Error::last_os_error())?;
    let mut besides = Besides { truncated: message.msg_flags & libc::MSG_CTRUNC != 0, unknown: 0 };
    // SAFETY: recvmsg(2) has filled `space` with well-formed headers, as far as the msg_controllen says that it left there; it is
    // aligned as words are. FIRSTHDR and NXTHDR give headers within it or null.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(&message) };
    while !header.is_null() {
        // SAFETY: as above: a header that was written, with its payload behind it.
        let (level, kind, length, data) = unsafe {
            ((*header).cmsg_level, (*header).cmsg_type, (*header).cmsg_len as usize, libc::CMSG_DATA(header))
        };
        if (level, kind) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            // SAFETY: CMSG_LEN only computes.
            let payload = length.saturating_sub(unsafe { libc::CMSG_LEN(0) } as usize);
            for place in 0..payload / mem::size_of::<RawFd>() {
                // SAFETY: within the payload, whose length the system has given; each number is a descriptor that it has just made
                // for us, and nobody else knows of it.
                let descriptor = unsafe { OwnedFd::from_raw_fd(data.cast::<RawFd>().add(place).read_unaligned()) };
                #[cfg(not(target_os = "linux"))]
                close_at_exec(&descriptor);
                descriptors.push(descriptor);
            }
        } else {
            besides.unknown += 1;
        }
        // SAFETY: as for the first.
        header = unsafe { libc::CMSG_NXTHDR(&message, header) };
    }
    Ok((read, besides))
}

#[cfg(not(target_os = "linux"))]
fn close_at_exec(descriptor: &OwnedFd) {
    // SAFETY: fcntl(2) takes integers and touches no memory of ours.
    unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) };
}
