//! Registers and memory of any device, written to in any order, by [`Step`]s.
//!
//! The first byte of an input chooses the device and whether its driver has started it. Then it takes the steps.
//! Whatever they were: a reset makes the device as new, and the next driver's request is answered.

use crate::board::{BUFFERS, Board};
use kiln_devices::mmio::script::{self, Step};
use kiln_devices::{Blk, BlkOptions, Device, FileStorage, Listener, Rng, Vsock};
use rustix::fs::{MemfdFlags, memfd_create};
use std::fs::File;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

/// As in the tests of `kiln-devices`, which write this target's first inputs. It costs what is used of it.
const MEMORY_BYTES: usize = 4 << 20;
const DISK_BYTES: u64 = 64 * 1024;
/// More than 64 connections are refused; more than a few take time and show nothing.
const STREAMS_MAX: usize = 8;

/// Accepts the first few and keeps the other ends open.
struct AFew(Vec<UnixStream>);

impl Listener for AFew {
    fn connect(&mut self, _port: u32) -> Option<UnixStream> {
        let (guest, host) = UnixStream::pair().ok().filter(|_| self.0.len() < STREAMS_MAX)?;
        self.0.push(host);
        Some(guest)
    }
}

/// Plays an input.
pub fn play(input: &[u8]) {
    let Some((choice, script)) = input.split_first() else { return };
    let number = choice & 3;
    let mut board = Board::new(device(number), MEMORY_BYTES);
    if choice & 4 == 0 {
        board.restart();
    }
    script::parse(script).for_each(|step: Step| step.take(&board.transport, &board.memory));
    // Sockets answer in the queue that the guest receives in, but take requests in the second.
    let queue = u32::from(number == 1);
    assert!(answers(&mut board, queue), "after a reset a request is answered");
}

fn device(number: u8) -> Box<dyn Device> {
    match number {
        0 => Box::new(Rng),
        1 => Box::new(Vsock::new(Box::new(AFew(Vec::new()))).expect("an epoll instance")),
        _ => {
            let file = File::from(memfd_create("disk", MemfdFlags::CLOEXEC).expect("a file"));
            file.set_len(DISK_BYTES).expect("a sparse file");
            let storage = FileStorage::writable(file).expect("a file has a size");
            Box::new(Blk::new(
                Arc::new(storage),
                BlkOptions { read_only: number == 3, ..BlkOptions::default() },
            ))
        }
    }
}

/// Whether the device hands back a chain that each of them can answer.
fn answers(board: &mut Board, queue: u32) -> bool {
    board.restart();
    board.write(BUFFERS, &[0; 64]);
    board.offer(queue, 0, &[(BUFFERS, 16, false), (BUFFERS + 64, 513, true)]);
    board.kick(queue);
    board.used(queue).is_some_and(|(head, _)| head == 0) && !board.needs_reset()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::addresses;

    #[test]
    fn rings_are_below_the_buffers() {
        assert!(addresses(2)[2] < BUFFERS);
    }

    #[test]
    fn each_device_answers_without_a_script() {
        (0..8).for_each(|choice| play(&[choice]));
    }
}
