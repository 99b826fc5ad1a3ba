//! Packet headers, `struct virtio_vsock_hdr` (virtio 1.2 section 5.10.6).

use crate::chain::Bytes;

/// Bytes of a header on the wire.
pub(crate) const HEADER_BYTES: usize = 44;

/// `VIRTIO_VSOCK_TYPE_STREAM`, the only type we know.
pub(crate) const TYPE_STREAM: u16 = 1;

/// `VIRTIO_VSOCK_SHUTDOWN_F_RECEIVE`: the sender will receive no more.
pub(crate) const SHUTDOWN_RECEIVE: u32 = 1;
/// `VIRTIO_VSOCK_SHUTDOWN_F_SEND`: the sender will send no more.
pub(crate) const SHUTDOWN_SEND: u32 = 2;

/// What a packet says (`enum virtio_vsock_op`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Request,
    Response,
    Reset,
    Shutdown,
    ReadWrite,
    CreditUpdate,
    CreditRequest,
    Unknown(u16),
}

impl Operation {
    fn parse(op: u16) -> Self {
        match op {
            1 => Self::Request,
            2 => Self::Response,
            3 => Self::Reset,
            4 => Self::Shutdown,
            5 => Self::ReadWrite,
            6 => Self::CreditUpdate,
            7 => Self::CreditRequest,
            other => Self::Unknown(other),
        }
    }

    fn op(self) -> u16 {
        match self {
            Self::Request => 1,
            Self::Response => 2,
            Self::Reset => 3,
            Self::Shutdown => 4,
            Self::ReadWrite => 5,
            Self::CreditUpdate => 6,
            Self::CreditRequest => 7,
            Self::Unknown(other) => other,
        }
    }
}

/// A header. Field names are those of the specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub src_cid: u64,
    pub dst_cid: u64,
    pub src_port: u32,
    pub dst_port: u32,
    /// Bytes of data behind the header.
    pub len: u32,
    /// The socket type, [`TYPE_STREAM`].
    pub kind: u16,
    pub op: Operation,
    pub flags: u32,
    /// Bytes the sender can take in all.
    pub buf_alloc: u32,
    /// Bytes the sender has passed on to its reader since the start; wraps.
    pub fwd_cnt: u32,
}

impl Header {
    /// Takes a header off the front of `bytes`; `None` when there is not a whole one.
    pub fn take(bytes: &mut Bytes<'_>) -> Option<Self> {
        bytes.take::<HEADER_BYTES>().map(|wire| Self::parse(&wire))
    }

    /// Reads a header; any bytes are one.
    pub fn parse(wire: &[u8; HEADER_BYTES]) -> Self {
        let mut fields = Fields(wire);
        Self {
            src_cid: u64::from_le_bytes(fields.next()),
            dst_cid: u64::from_le_bytes(fields.next()),
            src_port: u32::from_le_bytes(fields.next()),
            dst_port: u32::from_le_bytes(fields.next()),
            len: u32::from_le_bytes(fields.next()),
            kind: u16::from_le_bytes(fields.next()),
            op: Operation::parse(u16::from_le_bytes(fields.next())),
            flags: u32::from_le_bytes(fields.next()),
            buf_alloc: u32::from_le_bytes(fields.next()),
            fwd_cnt: u32::from_le_bytes(fields.next()),
        }
    }

    /// The header as it goes over the wire.
    pub fn build(&self) -> [u8; HEADER_BYTES] {
        let fields: [&[u8]; 10] = [
            &self.src_cid.to_le_bytes(),
            &self.dst_cid.to_le_bytes(),
            &self.src_port.to_le_bytes(),
            &self.dst_port.to_le_bytes(),
            &self.len.to_le_bytes(),
            &self.kind.to_le_bytes(),
            &self.op.op().to_le_bytes(),
            &self.flags.to_le_bytes(),
            &self.buf_alloc.to_le_bytes(),
            &self.fwd_cnt.to_le_bytes(),
        ];
        let wire = fields.concat();
        wire.try_into().expect("the fields add up to a header")
    }
}

/// Little-endian fields, one behind the other.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn next<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) = self.0.split_first_chunk().expect("the fields add up to a header");
        self.0 = rest;
        *field
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fields in the order and width of the specification, each byte another.
    const GOLDEN: [u8; HEADER_BYTES] = [
        3, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0x0d, 0x0c, 0x0b, 0x0a, 0x00, 0x04, 0, 0, 0x00, 0x00,
        0x01, 0x00, 1, 0, 5, 0, 3, 0, 0, 0, 0x00, 0x00, 0x04, 0x00, 0xfe, 0xff, 0xff, 0xff,
    ];

    fn golden() -> Header {
        Header {
            src_cid: 3,
            dst_cid: 2,
            src_port: 0x0a0b_0c0d,
            dst_port: 1024,
            len: 65536,
            kind: TYPE_STREAM,
            op: Operation::ReadWrite,
            flags: SHUTDOWN_RECEIVE | SHUTDOWN_SEND,
            buf_alloc: 256 * 1024,
            fwd_cnt: u32::MAX - 1,
        }
    }

    #[test]
    fn a_header_is_read_as_the_specification_lays_it_out() {
        assert_eq!(Header::parse(&GOLDEN), golden());
    }

    #[test]
    fn a_header_is_written_as_it_is_read() {
        assert_eq!(golden().build(), GOLDEN);
    }

    #[test]
    fn every_operation_survives() {
        for op in 0..10 {
            assert_eq!(Operation::parse(op).op(), op);
        }
    }
}
