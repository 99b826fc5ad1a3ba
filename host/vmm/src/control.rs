//! The VMM's end of the [channel](crate::channel).

use crate::channel::{MESSAGE_BYTES_MAX, Order, Report};
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recv, send, sendmsg};
use std::io::{self, ErrorKind, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Says what happens, from any thread.
#[derive(Debug)]
pub struct Control(OwnedFd);

impl Control {
    /// Over a `SOCK_SEQPACKET` socket.
    pub fn new(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// Waits for the order.
    ///
    /// # Errors
    /// When there is none, or it is none.
    pub fn order(&self) -> io::Result<Order> {
        let mut packet = vec![0; MESSAGE_BYTES_MAX];
        let (_, length) = rustix::io::retry_on_intr(|| recv(&self.0, &mut packet[..], RecvFlags::empty()))?;
        match packet.get(..length) {
            Some([]) | None => Err(ErrorKind::UnexpectedEof.into()),
            Some(packet) => postcard::from_bytes(packet).map_err(|_| ErrorKind::InvalidData.into()),
        }
    }

    /// Says one thing, waiting until it can be said. When nobody listens any more, nothing is lost.
    pub fn report(&self, report: &Report) {
        if let Ok(packet) = postcard::to_allocvec(report) {
            let _ = rustix::io::retry_on_intr(|| send(&self.0, &packet, SendFlags::NOSIGNAL));
        }
    }

    /// Hands a descriptor over beside a report, without waiting.
    ///
    /// # Errors
    /// When it cannot be sent now.
    pub fn hand_over(&self, report: &Report, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        let packet = postcard::to_allocvec(report).map_err(io::Error::other)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let descriptors = [descriptor];
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        rustix::io::retry_on_intr(|| sendmsg(&self.0, &[IoSlice::new(&packet)], &mut ancillary, flags))?;
        Ok(())
    }
}

impl AsFd for Control {
    /// Polls as hung up when kiln is gone.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::Counters;
    use rustix::net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, SocketFlags, SocketType, recvmsg,
        socketpair,
    };
    use std::fs::File;
    use std::io::{IoSliceMut, Read};

    fn pair() -> (Control, OwnedFd) {
        let (ours, kilns) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        (Control::new(ours), kilns)
    }

    #[test]
    fn an_order_is_read_as_it_was_sent() {
        let (control, kiln) = pair();
        let packet = postcard::to_allocvec(&Order::Probe { kvm: 7 }).unwrap();
        send(&kiln, &packet, SendFlags::empty()).unwrap();
        assert_eq!(control.order().unwrap(), Order::Probe { kvm: 7 });
    }

    #[test]
    fn no_order_and_a_bad_one_are_errors() {
        let (control, kiln) = pair();
        send(&kiln, &[0xff; 20], SendFlags::empty()).unwrap();
        assert_eq!(control.order().unwrap_err().kind(), ErrorKind::InvalidData);
        drop(kiln);
        assert_eq!(control.order().unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_descriptor_goes_beside_its_report() {
        let (control, kiln) = pair();
        let report = Report::Stream { port: 1024, counters: Counters::default() };
        control.hand_over(&report, File::open("/proc/self/comm").unwrap().as_fd()).unwrap();
        let mut packet = [0; 256];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let into = &mut [IoSliceMut::new(&mut packet)];
        let length = recvmsg(&kiln, into, &mut ancillary, RecvFlags::CMSG_CLOEXEC).unwrap().bytes;
        assert_eq!(postcard::from_bytes::<Report>(&packet[..length]).unwrap(), report);
        let Some(RecvAncillaryMessage::ScmRights(mut descriptors)) = ancillary.drain().next() else {
            panic!("no descriptor came");
        };
        let mut text = String::new();
        File::from(descriptors.next().unwrap()).read_to_string(&mut text).unwrap();
        assert!(!text.is_empty());
    }

    #[test]
    fn a_channel_that_is_full_is_not_waited_for() {
        let (control, _kiln) = pair();
        let report = Report::Stream { port: 1024, counters: Counters::default() };
        let null = File::open("/dev/null").unwrap();
        let full = std::iter::repeat_with(|| control.hand_over(&report, null.as_fd())).find_map(Result::err);
        assert!(full.is_some(), "it ends at all");
    }
}
