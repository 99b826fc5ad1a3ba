//! What a VMM process that its guest has taken over may say to kiln: one packet of the channel between them.
//!
//! It is a report or a violation, no more memory than the packet has is taken, and what of it is shown to people is a
//! few lines of printable ASCII.

use kiln_engine::kvm::{clean, decode};

/// As in the engine's console: lines, and characters of a line.
const SHOWN_MAX: usize = 25 * (240 + 1);

/// Plays an input.
pub fn play(packet: &[u8]) {
    let shown = match decode(packet) {
        Ok(report) => {
            let again = postcard::to_allocvec(&report).expect("it came in a packet");
            assert_eq!(decode(&again).as_ref(), Ok(&report));
            assert!(again.len() <= packet.len());
            clean(&format!("{report:#?}"))
        }
        Err(_) => clean(&String::from_utf8_lossy(packet)),
    };
    assert!(shown.len() <= SHOWN_MAX);
    assert!(shown.chars().all(|character| matches!(character, ' '..='~' | '\n')), "{shown:?}");
}
