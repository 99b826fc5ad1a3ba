//! Our end of the [channel](kiln_vmm::channel) to a VMM process, which its guest may have taken over:
//! whatever comes is bounded, and descriptors that nobody takes are closed.

use crate::console::Tail;
use kiln_vmm::channel::{MESSAGE_BYTES_MAX, Order, Report};
use rustix::net::sockopt::{self, set_socket_send_buffer_size};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendFlags, SocketFlags,
    SocketType, recvmsg, send, socketpair,
};
use std::io::{self, ErrorKind, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// What the process broke the protocol with.
pub type Violation = &'static str;

/// See the module.
pub(super) struct Line {
    socket: OwnedFd,
    packet: Box<[u8]>,
}

/// What a packet, or the lack of one, says.
pub(super) enum Word {
    /// The stream is what came beside the report, if it was one.
    Report(Report, Option<UnixStream>),
    NothingYet,
    End,
}

impl Line {
    /// A line on which `order` waits to be read, and the process's end of it.
    ///
    /// # Errors
    /// When the system has no socket for it, or the order is too long.
    pub fn with(order: &Order) -> io::Result<(Self, OwnedFd)> {
        let packet = postcard::to_allocvec(order).map_err(io::Error::other)?;
        if packet.len() > MESSAGE_BYTES_MAX {
            return Err(io::Error::new(ErrorKind::InvalidInput, "a disk has too many parts"));
        }
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        // A host may have less room by default.
        set_socket_send_buffer_size(&ours, 2 * MESSAGE_BYTES_MAX)?;
        send(&ours, &packet, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?;
        Ok((Self { socket: ours, packet: vec![0; MESSAGE_BYTES_MAX].into() }, theirs))
    }

    /// The next word, without waiting.
    ///
    /// # Errors
    /// What was said instead of one.
    pub fn receive(&mut self) -> Result<Word, Violation> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let mut slices = [IoSliceMut::new(&mut self.packet)];
        let received = match recvmsg(&self.socket, &mut slices, &mut ancillary, flags) {
            Ok(received) => received,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return Ok(Word::NothingYet);
            }
            // It ended without having read its order, for example.
            Err(_) => return Ok(Word::End),
        };
        // What does not fit into the space is closed by the kernel, what does and is not taken with this.
        let beside: Vec<OwnedFd> = ancillary.drain().flat_map(descriptors).collect();
        if received.flags.contains(ReturnFlags::TRUNC) {
            return Err("said too much at once");
        }
        match self.packet.get(..received.bytes) {
            Some([]) | None => Ok(Word::End),
            Some(packet) => Ok(Word::Report(decode(packet)?, beside.into_iter().find_map(stream))),
        }
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What a packet says.
///
/// # Errors
/// When that is nothing.
pub fn decode(packet: &[u8]) -> Result<Report, Violation> {
    match postcard::take_from_bytes(packet) {
        Ok((report, [])) => Ok(report),
        _ => Err("said something unintelligible"),
    }
}

fn descriptors(message: RecvAncillaryMessage<'_>) -> impl Iterator<Item = OwnedFd> {
    let rights = match message {
        RecvAncillaryMessage::ScmRights(rights) => Some(rights),
        _ => None,
    };
    rights.into_iter().flatten()
}

/// Only what behaves like one: reading from a file or a device may do anything.
fn stream(descriptor: OwnedFd) -> Option<UnixStream> {
    let is_stream = sockopt::socket_domain(&descriptor) == Ok(AddressFamily::UNIX)
        && sockopt::socket_type(&descriptor) == Ok(SocketType::STREAM)
        && sockopt::socket_acceptconn(&descriptor) == Ok(false);
    let stream = Some(descriptor).filter(|_| is_stream).map(UnixStream::from)?;
    stream.set_nonblocking(false).ok()?;
    Some(stream)
}

/// Words of the process, fit for a terminal: a few lines of printable ASCII.
pub fn clean(words: &str) -> String {
    let tail = Tail::default();
    tail.write(words.as_bytes());
    tail.text()
}
