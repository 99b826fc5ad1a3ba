//! Streams of the agent protocol in either direction, however they are cut.
//!
//! The first byte of an input chooses who speaks and how the stream is cut; the rest is the stream. A decoder must
//! give the same messages and the same end whichever way it gets the bytes, hold no more than it was given, and each
//! message must survive being encoded and decoded again. A frame that is longer than its message is refused.

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
    check_left_over::<M>(&mut wire);
}

/// A first frame of one byte more than its message is no frame.
fn check_left_over<M: Message>(wire: &mut Vec<u8>) {
    let Some(prefix) = wire.first_chunk_mut() else { return };
    let length = u32::from_le_bytes(*prefix);
    *prefix = (length + 1).to_le_bytes();
    wire.insert(4 + length as usize, 0);
    let (messages, end) = decode::<M>(&[wire]);
    assert!(messages.is_empty() && matches!(end, End::Error(_)), "{end:?}");
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed;
    use kiln_protocol::{
        EntryKind, GuestFailure, Job, LayerEntry, LayerRecord, Program, ScratchUsage, Stage, Step,
        StepReport, Stream,
    };

    fn of_guest() -> Vec<FromGuest> {
        let (scratch, what) =
            (ScratchUsage { size: 1 << 30, available: 300, available_inodes: 70_000 }, "mount".to_owned());
        let report = |ending| FromGuest::StepEnded(StepReport { step: 0, ending, oom_kills: 1, scratch });
        let entry = |kind| {
            let xattrs = vec![(b"user.a".to_vec().into(), b"value".to_vec().into())];
            let path = b"usr/bin/env".to_vec();
            FromGuest::Layer(LayerRecord::Entry(LayerEntry {
                path,
                kind,
                mode: 0o4755,
                uid: 1000,
                gid: 0,
                mtime: -1,
                xattrs,
            }))
        };
        use kiln_protocol::Ending::*;
        vec![
            FromGuest::Hello { version: kiln_protocol::VERSION, kernel: "6.12".to_owned() },
            FromGuest::StepStarted { step: 0 },
            FromGuest::Output { stream: Stream::Stderr, bytes: b"words".to_vec() },
            report(Exited(0)),
            report(Signaled(9)),
            report(Rebooted),
            report(NotStarted { what: what.clone(), errno: 2 }),
            entry(EntryKind::File { size: 10 }),
            entry(EntryKind::Directory { opaque: true }),
            entry(EntryKind::Symlink { target: b"busybox".to_vec() }),
            entry(EntryKind::CharacterDevice { major: 1, minor: 3 }),
            FromGuest::Layer(LayerRecord::Data(vec![7; 10])),
            FromGuest::Layer(LayerRecord::Zeroes(1 << 40)),
            FromGuest::Layer(LayerRecord::End { entries: 4 }),
            FromGuest::Failed(GuestFailure {
                stage: Some(Stage::Root),
                what,
                errno: 5,
                scratch: Some(scratch),
            }),
            FromGuest::Done { scratch },
        ]
    }

    fn of_host() -> Vec<FromHost> {
        let step = Step {
            name: "run-as-root".to_owned(),
            stage: Stage::PreMount,
            program: Program::Command(vec!["true".to_owned()]),
            user: Some("app".to_owned()),
            environment: vec!["PATH=/bin".to_owned()],
            working_directory: None,
            stdin: true,
        };
        let job = Job {
            hostname: "kiln".to_owned(),
            clock: 1,
            base: Some("base".to_owned()),
            tools: None,
            contents: Some("contents".to_owned()),
            scratch: "scratch".to_owned(),
            target: None,
            steps: vec![Step { program: Program::Script(b"#!/bin/sh".to_vec()), ..step.clone() }, step],
            send_layer: true,
        };
        vec![FromHost::Job(job), FromHost::Stdin(b"input".to_vec()), FromHost::StdinEnd]
    }

    fn streams<M: Message>(messages: &[M]) -> Vec<Vec<u8>> {
        let wire = |messages: &[M]| {
            let mut wire = Vec::new();
            messages.iter().for_each(|message| encode(message, &mut wire).unwrap());
            wire
        };
        messages.chunks(1).chain([messages]).map(wire).collect()
    }

    #[test]
    fn each_message_comes_through_however_it_is_cut() {
        let speakers = [(0, streams(&of_guest())), (HOST_SPEAKS, streams(&of_host()))];
        for (speaker, streams) in speakers {
            for (stream, cut) in streams.iter().flat_map(|stream| [0, 2, 100].map(|cut| (stream, cut))) {
                let input = [&[speaker | cut][..], stream].concat();
                seed::keep("agent_protocol", &input);
                play(&input);
            }
        }
    }
}
