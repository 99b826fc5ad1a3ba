//! A vhost-user connection of which QEMU inherits one end.
//!
//! `vhost-user-backend` wants to accept its connection from a listening socket, so there is one for
//! a moment: with a random abstract name, hence no file, and room for one connection only. If ours
//! could be made, no other is in its queue.

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::net::{bind, connect, listen, socket_with};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

pub(super) struct Link {
    /// Has the other end in its queue.
    pub listener: UnixListener,
    pub client: OwnedFd,
}

impl Link {
    pub fn new() -> io::Result<Self> {
        let address = SocketAddrUnix::new_abstract_name(&random_name()?)?;
        let listening = stream_socket(SocketFlags::CLOEXEC)?;
        bind(&listening, &address)?;
        listen(&listening, 0)?;
        // Without waiting: an error, if the one place was taken.
        let client = stream_socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
        connect(&client, &address)?;
        rustix::io::ioctl_fionbio(&client, false)?;
        Ok(Self { listener: listening.into(), client })
    }
}

fn stream_socket(flags: SocketFlags) -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

fn random_name() -> io::Result<Vec<u8>> {
    let mut random = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut random)?;
    Ok(format!("kiln-{:032x}", u128::from_le_bytes(random)).into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    #[test]
    fn both_ends_are_connected() {
        let link = Link::new().unwrap();
        let (mut ours, _) = link.listener.accept().unwrap();
        ours.write_all(b"x").unwrap();
        let mut byte = [0];
        UnixStream::from(link.client).read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
    }

    #[test]
    fn nobody_else_gets_in() {
        let link = Link::new().unwrap();
        let address = rustix::net::getsockname(&link.listener).unwrap();
        let other = stream_socket(SocketFlags::NONBLOCK).unwrap();
        assert_eq!(connect(&other, &address), Err(rustix::io::Errno::AGAIN));
    }
}
