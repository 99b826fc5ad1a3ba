//! Packet headers (virtio 1.2 section 5.10.6), read and written by hand: the device's own code is what is tested.

pub const HEADER_BYTES: usize = 44;
pub const HOST_CID: u64 = 2;
pub const GUEST_CID: u64 = 3;
pub const TYPE_STREAM: u16 = 1;

pub const REQUEST: u16 = 1;
pub const RESPONSE: u16 = 2;
pub const RESET: u16 = 3;
pub const SHUTDOWN: u16 = 4;
pub const READ_WRITE: u16 = 5;
pub const CREDIT_UPDATE: u16 = 6;
pub const CREDIT_REQUEST: u16 = 7;

pub const SHUTDOWN_RECEIVE: u32 = 1;
pub const SHUTDOWN_SEND: u32 = 2;
pub const BOTH: u32 = SHUTDOWN_RECEIVE | SHUTDOWN_SEND;

/// Under the names of the specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub src_cid: u64,
    pub dst_cid: u64,
    pub src_port: u32,
    pub dst_port: u32,
    pub len: u32,
    pub kind: u16,
    pub op: u16,
    pub flags: u32,
    pub buf_alloc: u32,
    pub fwd_cnt: u32,
}

impl Header {
    pub fn parse(wire: &[u8; HEADER_BYTES]) -> Self {
        let word = |at: usize| u32::from_le_bytes([wire[at], wire[at + 1], wire[at + 2], wire[at + 3]]);
        let long = |at| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        let half = |at: usize| u16::from_le_bytes([wire[at], wire[at + 1]]);
        Self {
            src_cid: long(0),
            dst_cid: long(8),
            src_port: word(16),
            dst_port: word(20),
            len: word(24),
            kind: half(28),
            op: half(30),
            flags: word(32),
            buf_alloc: word(36),
            fwd_cnt: word(40),
        }
    }

    pub fn build(&self) -> Vec<u8> {
        let fields: [&[u8]; 10] = [
            &self.src_cid.to_le_bytes(),
            &self.dst_cid.to_le_bytes(),
            &self.src_port.to_le_bytes(),
            &self.dst_port.to_le_bytes(),
            &self.len.to_le_bytes(),
            &self.kind.to_le_bytes(),
            &self.op.to_le_bytes(),
            &self.flags.to_le_bytes(),
            &self.buf_alloc.to_le_bytes(),
            &self.fwd_cnt.to_le_bytes(),
        ];
        fields.concat()
    }
}
