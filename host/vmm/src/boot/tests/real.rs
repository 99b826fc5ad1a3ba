//! The real kernel, `$KILN_KERNEL`.

use super::*;
use std::process::Command;

fn kernel() -> Vec<u8> {
    let path = std::env::var_os("KILN_KERNEL");
    let path = path.expect("this test needs $KILN_KERNEL: a kernel as scripts/build-kernel makes it");
    std::fs::read(path).unwrap()
}

/// readelf's word for where the kernel's segments go and where PVH enters it.
#[test]
fn the_real_kernel_is_loaded_as_readelf_reads_it() {
    let kernel = kernel();
    let machine = Machine::new(256);
    let entry = machine.load(&kernel, b"initramfs", "console=ttyS0").unwrap();
    let segments = segments_by_readelf();
    assert!(!segments.is_empty());
    for (offset, address, bytes) in segments {
        let expected = &kernel[offset..offset + bytes];
        assert!(machine.bytes(address, bytes) == expected, "segment at {address:#x}");
    }
    assert_eq!(entry, Entry::Pvh(GuestAddress(pvh_entry_by_readelf())));
}

#[test]
fn the_real_kernel_does_not_fit_into_little_memory() {
    let failure = Machine::new(16).load(&kernel(), b"initramfs", "").unwrap_err().to_string();
    assert!(failure.contains("is outside of memory: in a machine of 16 MiB"), "{failure}");
}

fn readelf(option: &str) -> String {
    let mut command = Command::new("readelf");
    command.args([option, "-W"]).arg(std::env::var_os("KILN_KERNEL").unwrap());
    let output = command.output().expect("this test needs readelf (binutils)");
    String::from_utf8(output.stdout).unwrap()
}

/// Offset, physical address and bytes in the file of the segments to load.
fn segments_by_readelf() -> Vec<(usize, u64, usize)> {
    let headers = readelf("-l");
    let loads = headers.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let loads = loads.filter(|words| words.first() == Some(&"LOAD"));
    loads.map(|words| (number(words[1]) as usize, number(words[3]), number(words[4]) as usize)).collect()
}

/// The descriptor of Xen's note of type 0x12.
fn pvh_entry_by_readelf() -> u64 {
    let notes = readelf("-n");
    let note = notes.split("(0x00000012)").nth(1).unwrap().split("description data:").nth(1).unwrap();
    let bytes = note.split_whitespace().take(4).map(|byte| u64::from_str_radix(byte, 16).unwrap());
    bytes.enumerate().map(|(index, byte)| byte << (8 * index)).sum()
}

fn number(text: &str) -> u64 {
    u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap()
}
