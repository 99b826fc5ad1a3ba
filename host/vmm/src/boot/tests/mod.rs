//! Whole boots: what ends up in memory, read back with the numbers that the specifications give, not with
//! those that it was written with.

mod kernels;
mod linux64;
mod mp_table;
mod mutations;
mod pvh;
mod real;
mod refusals;

use super::{Entry, Failure, Payload, device_words, gdt, load, page_tables};
use crate::layout;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// A machine of so many MiB, in which a kernel may be put.
struct Machine {
    memory: GuestMemoryMmap,
}

impl Machine {
    fn new(mebibytes: u64) -> Self {
        Self { memory: crate::memory::create(mebibytes as u32).unwrap() }
    }

    fn load(&self, kernel: &[u8], initramfs: &[u8], command_line: &str) -> Result<Entry, Failure> {
        seed(kernel);
        let (mut kernel, mut initramfs) = (file_of(kernel), file_of(initramfs));
        let payload = Payload { kernel: &mut kernel, initramfs: &mut initramfs, command_line, cpus: 2 };
        load(&self.memory, payload)
    }

    fn bytes(&self, address: u64, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.memory.read_slice(&mut bytes, GuestAddress(address)).unwrap();
        bytes
    }

    fn u8(&self, address: u64) -> u8 {
        self.bytes(address, 1)[0]
    }

    fn u16(&self, address: u64) -> u16 {
        u16::from_le_bytes(self.bytes(address, 2).try_into().unwrap())
    }

    fn u32(&self, address: u64) -> u32 {
        u32::from_le_bytes(self.bytes(address, 4).try_into().unwrap())
    }

    fn u64(&self, address: u64) -> u64 {
        u64::from_le_bytes(self.bytes(address, 8).try_into().unwrap())
    }

    /// The text from `address` to its final zero.
    fn text(&self, address: u64) -> String {
        let bytes = (address..).map(|address| self.u8(address)).take_while(|byte| *byte != 0);
        String::from_utf8(bytes.collect()).unwrap()
    }
}

/// Keeps a kernel for fuzzing to start from (`docs/fuzzing.md`), if `KILN_CORPUS` says where and it is small.
fn seed(kernel: &[u8]) {
    const BYTES_MAX: usize = 16 * 1024;
    let Some(directory) = std::env::var_os("KILN_CORPUS").filter(|_| kernel.len() <= BYTES_MAX) else {
        return;
    };
    let directory = std::path::PathBuf::from(directory).join("kernel");
    let mut hasher = DefaultHasher::new();
    kernel.hash(&mut hasher);
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join(format!("{:016x}", hasher.finish())), kernel).unwrap();
}

fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// What is written into base memory and the BIOS area, with its largest content, has a place to itself.
#[test]
fn tables_do_not_overlap() {
    let tables = [
        (layout::GDT, gdt::bytes(Entry::Pvh(GuestAddress(0))).len()),
        (layout::PVH_START_INFO, 56),
        (layout::PVH_MODULES, 32),
        (layout::PVH_MEMORY_MAP, 4 * 24),
        (layout::ZERO_PAGE, 0x1000),
        (layout::PAGE_TABLES, page_tables::bytes().len()),
        (layout::COMMAND_LINE, layout::COMMAND_LINE_BYTES_MAX),
        (GuestAddress(layout::BASE_MEMORY_END), 0),
        (layout::MP_TABLE, super::mp_table::bytes(layout::CPUS_MAX).unwrap().len()),
        (layout::HIGH_MEMORY, 0),
    ];
    assert!(tables.windows(2).all(|pair| pair[0].0.0 + pair[0].1 as u64 <= pair[1].0.0));
}

/// [`virtio_mmio.device`](https://www.kernel.org/doc/html/latest/admin-guide/kernel-parameters.html):
/// `<size>@<baseaddr>:<irq>`.
#[test]
fn words_for_devices() {
    let words = ["virtio_mmio.device=4K@0xd0000000:5", "virtio_mmio.device=4K@0xd0001000:6"];
    assert_eq!(device_words(2), words);
    let last = device_words(layout::VIRTIO_DEVICES_MAX).pop().unwrap();
    assert_eq!(last, "virtio_mmio.device=4K@0xd0012000:23");
}
