//! Kernels with one thing wrong, and what is said about it.

use super::kernels::*;
use super::*;
use std::error::Error;

const P_OFFSET: usize = 8;
const P_PADDR: usize = 24;
const P_FILESZ: usize = 32;
const P_MEMSZ: usize = 40;

/// Where `field` of program header `index` is.
fn phdr(index: usize, field: usize) -> usize {
    PHDR_OFFSET + index * PHDR_BYTES + field
}

/// Loads into 32 MiB, which is enough for both kernels.
fn failure(kernel: &[u8]) -> String {
    Machine::new(32).load(kernel, b"initramfs", "quiet").unwrap_err().to_string()
}

#[test]
fn neither_format() {
    for kernel in [vec![], vec![0x7f], vec![0; 4096], with(vmlinux(), 0, b"\x7fELG"), b"#!/bin/sh".to_vec()] {
        assert_eq!(failure(&kernel), "the kernel is neither a vmlinux (ELF) nor a bzImage");
    }
}

#[test]
fn vmlinux_with_one_field_altered() {
    let max = u64::MAX.to_le_bytes();
    let cases: &[(usize, &[u8], &str)] = &[
        (4, &[1], "the vmlinux is not for x86-64: its class is 1, not 2"),
        (5, &[2], "the vmlinux is not for x86-64: its byte order is 2, not 1"),
        (18, &[183], "the vmlinux is not for x86-64: its machine is 183, not 62"),
        (54, &[32], "the vmlinux has program headers of 32 bytes, not 56"),
        (56, &[0], "the vmlinux has nothing to load"),
        (56, &[129], "the vmlinux has 129 program headers, more than the 128 allowed"),
        (
            32,
            &max,
            "the kernel is truncated: its program header table ends at 0x100000000000000a7, the file at 0x302c",
        ),
        (XEN_NOTE + 16, &[0, 0, 0x0f], "the vmlinux's PVH entry 0xf0000 is in none of its segments"),
        (XEN_NOTE + 20, &[1], "the vmlinux's PVH entry 0x100100010 is in none of its segments"),
        (XEN_NOTE + 4, &[5], "note segment 2 of the vmlinux is malformed at 0x14"),
        (XEN_NOTE + 4, &[0xff; 4], "note segment 2 of the vmlinux is malformed at 0x14"),
        (NOTE_OFFSET, &[0xff; 4], "note segment 2 of the vmlinux is malformed at 0x0"),
        (
            phdr(2, P_FILESZ),
            &[0, 0, 2],
            "note segment 2 of the vmlinux has 131072 bytes, more than the 65536 allowed",
        ),
        (
            phdr(2, P_FILESZ),
            &[0x2d],
            "the kernel is truncated: its note segment 2 ends at 0x302d, the file at 0x302c",
        ),
        (
            phdr(1, P_FILESZ),
            &[1, 0, 0x10],
            "segment 1 of the vmlinux has 1048577 bytes in the file, more than its 1048576 in memory",
        ),
        (
            phdr(1, P_OFFSET),
            &max,
            "the kernel is truncated: its segment 1 ends at 0x10000000000000007, the file at 0x302c",
        ),
    ];
    for (offset, bytes, message) in cases {
        assert_eq!(failure(&with(vmlinux(), *offset, bytes)), *message);
    }
}

#[test]
fn vmlinux_whose_segments_do_not_fit() {
    let outside = |start: &str, end: &str| {
        format!(
            "segment 0 of the vmlinux, {start} to {end}, is outside of memory: in a machine of 32 MiB a \
             kernel can lie from 0x100000 to 0x2000000"
        )
    };
    let cases = [
        (P_PADDR, 0, outside("0x0", "0x3f")),
        (P_PADDR, 0xf_ffff, outside("0xfffff", "0x10003e")),
        (P_PADDR, 0x1ff_ffff, outside("0x1ffffff", "0x200003e")),
        (P_PADDR, u64::MAX, outside("0xffffffffffffffff", "0x1000000000000003e")),
        (P_MEMSZ, 32 * MIB, outside("0x100000", "0x2100000")),
        (P_MEMSZ, u64::MAX, outside("0x100000", "0x100000000000fffff")),
    ];
    for (field, value, message) in cases {
        assert_eq!(failure(&with(vmlinux(), phdr(0, field), &value.to_le_bytes())), message);
    }
}

#[test]
fn vmlinux_cut_short() {
    let cases = [
        (63, "the kernel is truncated: its ELF header ends at 0x40, the file at 0x3f"),
        (231, "the kernel is truncated: its program header table ends at 0xe8, the file at 0xe7"),
        (0x1010, "the kernel is truncated: its segment 0 ends at 0x103f, the file at 0x1010"),
        (0x2000, "the kernel is truncated: its segment 1 ends at 0x2008, the file at 0x2000"),
        (0x302b, "the kernel is truncated: its note segment 2 ends at 0x302c, the file at 0x302b"),
    ];
    for (length, message) in cases {
        assert_eq!(failure(&vmlinux()[..length]), message);
    }
}

#[test]
fn vmlinux_without_anything_to_load() {
    let mut kernel = with(vmlinux(), phdr(0, 0), &[6]);
    put(&mut kernel, phdr(1, 0), &[6]);
    assert_eq!(failure(&kernel), "the vmlinux has nothing to load");
}

#[test]
fn vmlinux_whose_64_bit_entry_is_elsewhere() {
    let kernel = with(vmlinux_without_note(), 24, &0x50_0000u64.to_le_bytes());
    assert_eq!(failure(&kernel), "the vmlinux's 64-bit entry 0x500000 is in none of its segments");
}

#[test]
fn bzimage_with_one_field_altered() {
    let cases: &[(usize, &[u8], &str)] = &[
        (0x202, b"HdrT", "the kernel is neither a vmlinux (ELF) nor a bzImage"),
        (0x206, &[0x0b, 2], "the bzImage has boot protocol 2.11; it takes 2.12 to enter it in 64-bit mode"),
        (0x206, &[0, 0], "the bzImage has boot protocol 0.00; it takes 2.12 to enter it in 64-bit mode"),
        (0x211, &[0x80], "the bzImage is a zImage: LOADED_HIGH is not set in its loadflags 0x80"),
        (0x236, &[0x7e], "the bzImage has no 64-bit entry: XLF_KERNEL_64 is not set in its xloadflags 0x7e"),
        (0x201, &[0x34], "the bzImage has no 64-bit entry: XLF_KERNEL_64 is not set in its xloadflags 0x0"),
        (0x1f4, &[0x20, 0], "the bzImage has 512 bytes of code, too few for its 64-bit entry at 0x200"),
        (0x1f4, &[0x41], "the kernel is truncated: its code ends at 0xa10, the file at 0xa00"),
        (0x1f1, &[0xff], "the kernel is truncated: its code ends at 0x20400, the file at 0xa00"),
    ];
    for (offset, bytes, message) in cases {
        assert_eq!(failure(&with(bzimage(), *offset, bytes)), *message);
    }
}

#[test]
fn bzimage_outside_of_memory() {
    let outside = |start: &str, end: &str| {
        format!(
            "the bzImage, {start} to {end}, is outside of memory: in a machine of 32 MiB a kernel can lie from \
             0x100000 to 0x2000000"
        )
    };
    let cases: &[(usize, &[u8], String)] = &[
        (0x258, &[0; 8], outside("0x0", "0x600000")),
        (0x258, &[0xff; 8], outside("0xffffffffffffffff", "0x100000000005fffff")),
        (0x260, &[0xff; 4], outside("0x1000000", "0x100ffffff")),
    ];
    for (offset, bytes, message) in cases {
        assert_eq!(failure(&with(bzimage(), *offset, bytes)), *message);
    }
}

#[test]
fn bzimage_cut_short() {
    let cases = [
        (0x205, "the kernel is neither a vmlinux (ELF) nor a bzImage"),
        (0x26b, "the kernel is truncated: its setup header ends at 0x26c, the file at 0x26b"),
        (0x600, "the kernel is truncated: its code ends at 0xa00, the file at 0x600"),
        (0x9ff, "the kernel is truncated: its code ends at 0xa00, the file at 0x9ff"),
    ];
    for (length, message) in cases {
        assert_eq!(failure(&bzimage()[..length]), message);
    }
}

/// The data segment of the vmlinux ends at 5 MiB.
#[test]
fn initramfs_that_would_overlap_the_kernel() {
    let initramfs = vec![0x55; (1 << 20) + 1];
    let failure = Machine::new(6).load(&vmlinux(), &initramfs, "").unwrap_err();
    let message = "the initramfs of 1048577 bytes does not fit into memory behind the kernel: it takes at least 7 MiB, \
                   and the machine has 6 MiB";
    assert_eq!(failure.to_string(), message);
    assert!(Machine::new(7).load(&vmlinux(), &initramfs, "").is_ok());
}

/// The kernel wants its initramfs below 24 MiB and ends at 22 MiB: more memory is of no use.
#[test]
fn initramfs_that_the_kernel_cannot_reach() {
    let kernel = with(bzimage(), 0x22c, &0x17f_ffffu32.to_le_bytes());
    let failure = Machine::new(64).load(&kernel, &vec![0x55; 3 << 20], "").unwrap_err();
    let message = "the initramfs of 3145728 bytes is too large: the kernel ends at 0x1600000, and nothing may lie above \
                   0x1800000";
    assert_eq!(failure.to_string(), message);
}

#[test]
fn command_lines() {
    let long = "x".repeat(2048);
    let failure = Machine::new(8).load(&vmlinux(), b"", &long).unwrap_err();
    assert_eq!(
        failure.to_string(),
        "the command line has 2048 bytes, more than the 2047 that the kernel takes"
    );
    assert!(Machine::new(8).load(&vmlinux(), b"", &long[1..]).is_ok());
    let failure = Machine::new(8).load(&vmlinux(), b"", "init=/a\0b").unwrap_err();
    assert_eq!(failure.to_string(), "the command line has a zero byte at 7");
    let kernel = with(bzimage(), 0x238, &255u32.to_le_bytes());
    let failure = Machine::new(64).load(&kernel, b"", &long[..256]).unwrap_err();
    assert_eq!(
        failure.to_string(),
        "the command line has 256 bytes, more than the 255 that the kernel takes"
    );
}

/// What cannot be read is an error with its cause: a directory, a pipe.
#[test]
fn files_that_cannot_be_read() {
    let (pipe, _writer) = std::io::pipe().unwrap();
    let mut pipe = File::from(std::os::fd::OwnedFd::from(pipe));
    let (mut kernel, mut directory) = (file_of(&vmlinux()), File::open("/").unwrap());
    let as_kernel = Payload { kernel: &mut pipe, initramfs: &mut kernel, command_line: "", cpus: 1 };
    let failure = load(&Machine::new(8).memory, as_kernel).unwrap_err();
    assert_eq!(failure.to_string(), "cannot find out how long the kernel is");
    assert!(failure.source().is_some());
    let as_kernel = Payload { kernel: &mut directory, initramfs: &mut kernel, command_line: "", cpus: 1 };
    let failure = load(&Machine::new(8).memory, as_kernel).unwrap_err();
    // Overlays know no length of theirs, other file systems do.
    let unknown = matches!(failure, Failure::Length { .. });
    assert!(unknown || matches!(failure, Failure::Read { file: "kernel", .. }), "{failure}");
    assert!(failure.source().is_some());
}
