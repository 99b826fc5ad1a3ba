//! Scatter-gather I/O straight between guest memory and a file descriptor.
//!
//! The guest may change its memory at any time, so no Rust reference to it may exist: neither the
//! standard library's nor rustix's vectored calls will do, which take slices.
#![allow(unsafe_code)] // The calls below take raw pointers.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use vm_memory::VolatileSlice;

/// Most pieces of one call ([limits.h](https://man7.org/linux/man-pages/man2/readv.2.html), `IOV_MAX`).
const PIECES_MAX: usize = 1024;

/// Reads into `slices`, once. See `readv(2)`.
pub(crate) fn readv(fd: BorrowedFd<'_>, slices: &[VolatileSlice<'_>]) -> io::Result<usize> {
    let (pieces, count) = pieces(slices);
    // SAFETY: every piece is mapped writable memory for as long as `slices` is borrowed.
    check(unsafe { libc::readv(fd.as_raw_fd(), pieces.as_ptr(), count) })
}

/// Sends out of `slices`, once, without SIGPIPE. See `sendmsg(2)`.
pub(crate) fn send(socket: BorrowedFd<'_>, slices: &[VolatileSlice<'_>]) -> io::Result<usize> {
    let (mut pieces, _) = pieces(slices);
    // SAFETY: all zeroes is a message without address, pieces and ancillary data.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = pieces.as_mut_ptr();
    message.msg_iovlen = pieces.len();
    // SAFETY: every piece is mapped readable memory for as long as `slices` is borrowed, and
    // `pieces` outlives the call.
    check(unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) })
}

/// Reads at `offset` bytes into the file, once. See `preadv(2)`.
pub(crate) fn preadv(fd: BorrowedFd<'_>, slices: &[VolatileSlice<'_>], offset: u64) -> io::Result<usize> {
    let (pieces, count) = pieces(slices);
    // SAFETY: as in `readv`.
    check(unsafe { libc::preadv64(fd.as_raw_fd(), pieces.as_ptr(), count, signed(offset)?) })
}

/// Writes at `offset` bytes into the file, once. See `pwritev(2)`.
pub(crate) fn pwritev(fd: BorrowedFd<'_>, slices: &[VolatileSlice<'_>], offset: u64) -> io::Result<usize> {
    let (pieces, count) = pieces(slices);
    // SAFETY: as in `send`.
    check(unsafe { libc::pwritev64(fd.as_raw_fd(), pieces.as_ptr(), count, signed(offset)?) })
}

/// Calls `once` until all of `slices` is done.
///
/// # Errors
/// Those of `once`; [`io::ErrorKind::UnexpectedEof`] when it does nothing.
pub(crate) fn all(
    slices: &[VolatileSlice<'_>],
    mut offset: u64,
    once: impl Fn(&[VolatileSlice<'_>], u64) -> io::Result<usize>,
) -> io::Result<()> {
    let mut rest = slices.to_vec();
    while rest.iter().any(|slice| !slice.is_empty()) {
        match once(&rest, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                advance(&mut rest, count);
                offset += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Drops the first `count` bytes.
pub(crate) fn advance(slices: &mut Vec<VolatileSlice<'_>>, mut count: usize) {
    let whole = slices.iter().take_while(|slice| {
        let inside = slice.len() <= count;
        count -= if inside { slice.len() } else { 0 };
        inside
    });
    let whole = whole.count();
    slices.drain(..whole);
    if let Some(first) = slices.first_mut() {
        *first = first.offset(count).expect("less than the slice's length");
    }
}

fn pieces(slices: &[VolatileSlice<'_>]) -> (Vec<libc::iovec>, libc::c_int) {
    let piece = |slice: &VolatileSlice<'_>| libc::iovec {
        iov_base: slice.ptr_guard_mut().as_ptr().cast(),
        iov_len: slice.len(),
    };
    let pieces: Vec<_> = slices.iter().take(PIECES_MAX).map(piece).collect();
    let count = libc::c_int::try_from(pieces.len()).expect("at most PIECES_MAX");
    (pieces, count)
}

fn signed(offset: u64) -> io::Result<i64> {
    i64::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput.into())
}

fn check(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}
