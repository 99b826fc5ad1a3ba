//! Kernels that the user gives: any bytes as a vmlinux or bzImage.
//!
//! They are refused, or their entry is in memory that a kernel may have; nothing is written below the first mebibyte
//! but where tables are, and nothing at the end of memory, where the initramfs is not.

use kiln_vmm::{Entry, Payload, load};
use rustix::fs::{MemfdFlags, memfd_create};
use std::fs::File;
use std::io::Write;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

const MIB: u64 = 1 << 20;
const MEMORY_BYTES: u64 = 32 * MIB;
/// As large as the loader allows it: a page is free below all tables.
const FREE_BELOW: usize = 0x500;

thread_local! {
    /// What is written to it is not looked at by the next input's play, except for what nobody may write to.
    static MEMORY: GuestMemoryMmap =
        GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY_BYTES as usize)]).expect("there is memory");
}

/// Plays an input.
pub fn play(input: &[u8]) {
    MEMORY.with(|memory| {
        let (mut kernel, mut initramfs) = (file_of(input), file_of(b"initramfs"));
        let payload = Payload {
            kernel: &mut kernel,
            initramfs: &mut initramfs,
            command_line: "console=ttyS0",
            cpus: 2,
        };
        match load(memory, payload) {
            Ok(Entry::Pvh(address) | Entry::Linux64(address)) => {
                assert!((MIB..MEMORY_BYTES).contains(&address.0), "{address:?}");
            }
            Err(failure) => assert!(!failure.to_string().is_empty()),
        }
        let mut below = [0; FREE_BELOW];
        memory.read_slice(&mut below, GuestAddress(0)).expect("mapped");
        assert_eq!(below, [0; FREE_BELOW], "below all tables");
    });
}

fn file_of(bytes: &[u8]) -> File {
    let mut file = File::from(memfd_create("kernel", MemfdFlags::CLOEXEC).expect("a file"));
    file.write_all(bytes).expect("it is in memory");
    file
}
