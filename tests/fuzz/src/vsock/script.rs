//! What guest and host do over sockets, written down: the inputs of the target `vsock`.
//!
//! Steps name a connection by a number, which stands for the guest's port and, from [`UNHEARD`] on, for a port of the
//! host on which nobody listens.

/// A step as bytes: kind, connection, two small numbers, two larger ones; little-endian.
pub const STEP_BYTES: usize = 12;

/// Connections from this number on go to a port on which nobody listens.
pub const UNHEARD: u8 = 0xf0;

/// One thing that guest or host does, sensible or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The guest sends a packet, its data the next of the connection's stream. `op` and `flags` as on the wire.
    Packet { connection: u8, op: u8, flags: u8, length: u32, pieces: u8, oddity: Oddity, kick: bool },
    /// From now on the guest says that it has room for so many bytes and has passed on so many more than it has.
    Window { connection: u8, buf_alloc: u32, ahead: u32 },
    /// The guest passes on what it received, up to so many bytes.
    GuestRead { connection: u8, length: u32 },
    /// The guest offers buffers of so many bytes in all, cut in pieces.
    Buffers { count: u8, pieces: u8, length: u32 },
    /// The host writes the next bytes of its stream, as many of them as the stream takes.
    HostWrite { connection: u8, length: u32 },
    /// The host reads.
    HostRead { connection: u8, length: u32 },
    /// The host closes half of its end, or leaves.
    HostClose { connection: u8, how: Close },
    /// The device works because of something outside.
    Work,
    /// The guest resets the device and starts it again.
    Restart,
}

/// What is wrong with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Oddity {
    None,
    /// From another guest.
    Source,
    /// To somebody else.
    Destination,
    /// No stream.
    Type,
    /// Its header says that there is a byte more than there is.
    Longer,
    /// Its header says that there is no data; whatever follows is none.
    Shorter,
    /// It ends within its header.
    Cut,
}

/// How the host closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    Write,
    Read,
    Leave,
}

const ODDITIES: [Oddity; 7] = [
    Oddity::None,
    Oddity::Source,
    Oddity::Destination,
    Oddity::Type,
    Oddity::Longer,
    Oddity::Shorter,
    Oddity::Cut,
];
const CLOSES: [Close; 3] = [Close::Write, Close::Read, Close::Leave];

/// The steps that `input` says, whatever it is; what is no whole step at the end is left out.
pub fn parse(input: &[u8]) -> impl Iterator<Item = Step> {
    input.as_chunks().0.iter().map(Step::parse)
}

/// The input that [`parse`] takes for this.
pub fn build(steps: impl IntoIterator<Item = Step>) -> Vec<u8> {
    steps.into_iter().flat_map(Step::to_bytes).collect()
}

impl Step {
    fn parse(bytes: &[u8; STEP_BYTES]) -> Self {
        let &[kind, connection, first, second, a, b, c, d, ref rest @ ..] = bytes;
        let (length, value) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes(*rest));
        let [pieces, oddity, later, _] = *rest;
        match kind % 12 {
            1 => Self::Window { connection, buf_alloc: length, ahead: value },
            2 => Self::GuestRead { connection, length },
            3 => Self::Buffers { count: first, pieces: second, length },
            4 => Self::HostWrite { connection, length },
            5 => Self::HostRead { connection, length },
            6 => Self::HostClose { connection, how: CLOSES[usize::from(first) % CLOSES.len()] },
            7 => Self::Work,
            8 => Self::Restart,
            _ => Self::Packet {
                connection,
                op: first,
                flags: second,
                length,
                pieces,
                oddity: ODDITIES.get(usize::from(oddity)).copied().unwrap_or(Oddity::None),
                kick: later == 0,
            },
        }
    }

    fn to_bytes(self) -> [u8; STEP_BYTES] {
        let (kind, connection, first, second, length, value) = match self {
            Self::Packet { connection, op, flags, length, pieces, oddity, kick } => (
                0,
                connection,
                op,
                flags,
                length,
                u32::from_le_bytes([pieces, oddity as u8, u8::from(!kick), 0]),
            ),
            Self::Window { connection, buf_alloc, ahead } => (1, connection, 0, 0, buf_alloc, ahead),
            Self::GuestRead { connection, length } => (2, connection, 0, 0, length, 0),
            Self::Buffers { count, pieces, length } => (3, 0, count, pieces, length, 0),
            Self::HostWrite { connection, length } => (4, connection, 0, 0, length, 0),
            Self::HostRead { connection, length } => (5, connection, 0, 0, length, 0),
            Self::HostClose { connection, how } => (6, connection, how as u8, 0, 0, 0),
            Self::Work => (7, 0, 0, 0, 0, 0),
            Self::Restart => (8, 0, 0, 0, 0, 0),
        };
        let mut bytes = [kind, connection, first, second, 0, 0, 0, 0, 0, 0, 0, 0];
        bytes[4..8].copy_from_slice(&u32::to_le_bytes(length));
        bytes[8..].copy_from_slice(&u32::to_le_bytes(value));
        bytes
    }
}
