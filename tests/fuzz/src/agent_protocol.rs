//! Streams of the agent protocol in either direction, however they are cut.
//!
//! The first byte of an input chooses who speaks and how the stream is cut; the rest is the stream. A decoder must
//! give the same messages and the same end whichever way it gets the bytes, hold no more than it was given, and each
//! message must survive being encoded and decoded again.

use kiln_protocol::{Decoder, FromGuest, FromHost, encode};
use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Debug;

/// Set in the first byte: the host speaks.
pub const HOST_SPEAKS: u8 = 0x80;

/// Plays an input.
pub fn play(input: &[u8]) {
    let Some((choice, stream)) = input.split_first() else { return };
    let piece_bytes = 1 + usize::from(choice & !HOST_SPEAKS);
    if choice & HOST_SPEAKS == 0 {
        check::<FromGuest>(stream, piece_bytes);
    } else {
        check::<FromHost>(stream, piece_bytes);
    }
}

trait Message: Serialize + DeserializeOwned + Debug + PartialEq {}

impl<M: Serialize + DeserializeOwned + Debug + PartialEq> Message for M {}

fn check<M: Message>(stream: &[u8], piece_bytes: usize) {
    let whole = decode::<M>(&[stream]);
    let pieces: Vec<&[u8]> = stream.chunks(piece_bytes).collect();
    assert_eq!(decode::<M>(&pieces), whole, "in pieces of {piece_bytes}");
    let mut wire = Vec::new();
    for message in &whole.0 {
        encode(message, &mut wire).expect("it came in a frame");
    }
    // A message is no longer than its frame was: bytes may be spent on the wire, not gained.
    assert!(wire.len() <= stream.len(), "{} bytes became {}", stream.len(), wire.len());
    assert_eq!(decode::<M>(&[&wire]), (whole.0, End::Empty));
}

/// How a stream ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Empty,
    /// The rest of a message is missing.
    Waiting,
    Error(String),
}

fn decode<M: Message>(pieces: &[&[u8]]) -> (Vec<M>, End) {
    let (mut decoder, mut messages) = (Decoder::new(), Vec::new());
    for piece in pieces {
        decoder.push(piece);
        loop {
            match decoder.next() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => return (messages, End::Error(error.to_string())),
            }
        }
    }
    (messages, if decoder.is_empty() { End::Empty } else { End::Waiting })
}
