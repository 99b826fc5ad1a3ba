//! Frames: a length, then a message.

use serde::{Serialize, de::DeserializeOwned};

/// Largest frame either side accepts, in bytes. [`MAX_DATA`](crate::MAX_DATA) of payload, or a
/// job with all its scripts, fits; a hostile length does not make the receiver allocate more.
pub const MAX_FRAME: usize = 16 * 1024 * 1024;

const LENGTH_BYTES: usize = size_of::<u32>();

/// What the other side sent is not a message of this protocol.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(#[from] Kind);

#[derive(Debug, thiserror::Error)]
enum Kind {
    #[error("a frame of {0} bytes, more than the {MAX_FRAME} allowed")]
    TooLong(usize),
    #[error("a frame of {0} bytes that is no message of protocol version {version}", version = crate::VERSION)]
    Malformed(usize, #[source] postcard::Error),
    #[error("a frame of {0} bytes, of which the message leaves {1} over")]
    LeftOver(usize, usize),
    #[error("a message that cannot be encoded")]
    Unencodable(#[source] postcard::Error),
}

/// Appends `message` as one frame to `out`.
///
/// # Errors
/// When the message is larger than [`MAX_FRAME`]; `out` is then as it was.
pub fn encode<M: Serialize>(message: &M, out: &mut Vec<u8>) -> Result<(), Error> {
    let start = out.len();
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    let written = postcard::to_io(message, &mut *out).map(|_| ()).map_err(Kind::Unencodable);
    let length = out.len() - start - LENGTH_BYTES;
    let checked = match written {
        Ok(()) if length > MAX_FRAME => Err(Kind::TooLong(length)),
        other => other,
    };
    if let Err(kind) = checked {
        out.truncate(start);
        return Err(kind.into());
    }
    write_prefix(length, &mut out[start..start + LENGTH_BYTES]);
    Ok(())
}

/// Appends the start of a frame whose data the caller sends itself, so that file data need not be
/// copied into a message first: `message` ends in an *empty* byte string; on the wire it gets
/// `data_length` bytes instead, which must follow at once.
///
/// # Errors
/// When the message would be larger than [`MAX_FRAME`]; `out` is then as it was.
///
/// ```
/// # use kiln_protocol::{FromGuest, LayerRecord, encode, encode_start};
/// let (mut whole, mut parts) = (Vec::new(), Vec::new());
/// encode(&FromGuest::Layer(LayerRecord::Data(b"data".to_vec())), &mut whole)?;
/// encode_start(&FromGuest::Layer(LayerRecord::Data(Vec::new())), 4, &mut parts)?;
/// parts.extend_from_slice(b"data");
/// assert_eq!(parts, whole);
/// # Ok::<(), kiln_protocol::Error>(())
/// ```
pub fn encode_start<M: Serialize>(message: &M, data_length: usize, out: &mut Vec<u8>) -> Result<(), Error> {
    let start = out.len();
    encode(message, out)?;
    let empty_length = out.pop();
    debug_assert_eq!(empty_length, Some(0), "the message does not end in an empty byte string");
    push_varint(data_length, out);
    let length = (out.len() - start - LENGTH_BYTES).saturating_add(data_length);
    if length > MAX_FRAME {
        out.truncate(start);
        return Err(Kind::TooLong(length).into());
    }
    write_prefix(length, &mut out[start..start + LENGTH_BYTES]);
    Ok(())
}

/// [A length as postcard writes it](https://postcard.jamesmunns.com/wire-format#varint-encoded-integers).
fn push_varint(mut value: usize, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

fn write_prefix(length: usize, place: &mut [u8]) {
    place.copy_from_slice(&u32::try_from(length).expect("MAX_FRAME fits in 32 bits").to_le_bytes());
}

/// Turns received bytes back into messages, however they were cut on the way.
///
/// ```
/// # use kiln_protocol::{Decoder, FromHost, encode};
/// let mut wire = Vec::new();
/// encode(&FromHost::StdinEnd, &mut wire)?;
/// let mut decoder = Decoder::new();
/// decoder.push(&wire[..2]);
/// assert!(decoder.next::<FromHost>()?.is_none());
/// decoder.push(&wire[2..]);
/// assert!(matches!(decoder.next::<FromHost>()?, Some(FromHost::StdinEnd)));
/// # Ok::<(), kiln_protocol::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// Bytes at the front of `buffer` that were already handed out.
    consumed: usize,
}

impl Decoder {
    /// A decoder that has seen nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes as they came from the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.consumed);
        self.consumed = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// True when no part of a message is waiting for its rest.
    pub fn is_empty(&self) -> bool {
        self.consumed == self.buffer.len()
    }

    /// The next whole message, or `None` until more bytes are pushed.
    ///
    /// # Errors
    /// When the frame is too long or no `M`. The stream is then out of step: give it up.
    #[allow(
        clippy::should_implement_trait,
        reason = "no iterator: each call chooses its type, None is not the end"
    )]
    pub fn next<M: DeserializeOwned>(&mut self) -> Result<Option<M>, Error> {
        let rest = &self.buffer[self.consumed..];
        let Some((prefix, rest)) = rest.split_first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_le_bytes(*prefix)).expect("usize has 32 bits");
        if length > MAX_FRAME {
            return Err(Kind::TooLong(length).into());
        }
        let Some(frame) = rest.get(..length) else {
            return Ok(None);
        };
        let (message, left) =
            postcard::take_from_bytes(frame).map_err(|error| Kind::Malformed(length, error))?;
        if !left.is_empty() {
            return Err(Kind::LeftOver(length, left.len()).into());
        }
        self.consumed += LENGTH_BYTES + length;
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FromGuest, Stream};
    use proptest::prelude::*;

    fn output(bytes: Vec<u8>) -> FromGuest {
        FromGuest::Output { stream: Stream::Stderr, bytes }
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_its_bytes_arrive() {
        let mut decoder = Decoder::new();
        decoder.push(&u32::MAX.to_le_bytes());
        let error = decoder.next::<FromGuest>().unwrap_err();
        assert_eq!(error.to_string(), "a frame of 4294967295 bytes, more than the 16777216 allowed");
    }

    #[test]
    fn a_message_over_the_limit_is_not_sent_and_leaves_the_buffer_alone() {
        let mut wire = b"before".to_vec();
        let error = encode(&output(vec![0; MAX_FRAME]), &mut wire).unwrap_err();
        assert!(error.to_string().contains("more than the 16777216 allowed"), "{error}");
        assert_eq!(wire, b"before");
    }

    #[test]
    fn a_frame_started_without_its_data_is_the_same_on_the_wire() {
        for length in [0, 1, 127, 128, 16_383, 16_384, crate::MAX_DATA] {
            let (mut whole, mut parts) = (b"before".to_vec(), b"before".to_vec());
            encode(&output(vec![7; length]), &mut whole).unwrap();
            encode_start(&output(Vec::new()), length, &mut parts).unwrap();
            parts.resize(parts.len() + length, 7);
            assert!(parts == whole, "{length} bytes");
        }
    }

    #[test]
    fn a_frame_that_would_be_over_the_limit_is_not_started() {
        let mut wire = b"before".to_vec();
        assert!(encode_start(&output(Vec::new()), MAX_FRAME, &mut wire).is_err());
        assert_eq!(wire, b"before");
    }

    #[test]
    fn a_byte_string_longer_than_its_frame_is_refused() {
        // Variant 2 (Output), stream 0, then a length of 2^28 with nothing behind it.
        let mut decoder = Decoder::new();
        decoder.push(&[7, 0, 0, 0, 2, 0, 0x80, 0x80, 0x80, 0x80, 1]);
        assert!(decoder.next::<FromGuest>().is_err());
    }

    #[test]
    fn a_frame_longer_than_its_message_is_refused() {
        let mut wire = Vec::new();
        encode(&FromGuest::StepStarted { step: 3 }, &mut wire).unwrap();
        wire.push(0);
        wire[0] += 1;
        let mut decoder = Decoder::new();
        decoder.push(&wire);
        let error = decoder.next::<FromGuest>().unwrap_err();
        assert_eq!(error.to_string(), "a frame of 3 bytes, of which the message leaves 1 over");
    }

    proptest! {
        #[test]
        fn messages_survive_any_cut(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..8),
            cut in 1_usize..50,
        ) {
            let mut wire = Vec::new();
            for payload in &payloads {
                encode(&output(payload.clone()), &mut wire).unwrap();
            }
            let (mut decoder, mut seen) = (Decoder::new(), Vec::new());
            for part in wire.chunks(cut) {
                decoder.push(part);
                while let Some(FromGuest::Output { bytes, .. }) = decoder.next().unwrap() {
                    seen.push(bytes);
                }
            }
            prop_assert_eq!(seen, payloads);
            prop_assert!(decoder.is_empty());
        }

        #[test]
        fn any_bytes_give_a_message_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut decoder = Decoder::new();
            decoder.push(&bytes);
            while let Ok(Some(_)) = decoder.next::<FromGuest>() {}
        }
    }
}
