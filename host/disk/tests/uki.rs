//! A unified kernel image of systemd's own stub, as objdump sees it.
//!
//! Needs Debian's packages systemd-boot-efi and binutils.

use kiln_disk::uki::{Section, build};
use std::path::Path;
use std::process::Command;

const STUB: &str = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub";

fn image(sections: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let stub = std::fs::read(STUB)
        .expect("this test needs systemd's stub: install Debian's package systemd-boot-efi");
    let sections: Vec<_> = sections.iter().map(|(name, contents)| Section { name, contents }).collect();
    build(&stub, &sections).unwrap()
}

fn told(program: &str, arguments: &[&str], file: &Path) -> String {
    let output = Command::new(program).args(arguments).arg(file).output();
    let output =
        output.unwrap_or_else(|_| panic!("this test needs {program}: install Debian's package binutils"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_real_stub_with_sections() {
    let sections = [
        (".osrel", b"ID=debian\n".to_vec()),
        (".cmdline", b"console=ttyS0".to_vec()),
        (".uname", b"6.1.0".to_vec()),
        (".initrd", vec![0x55; 1_000_003]),
        (".linux", vec![0xaa; 2_000_001]),
    ];
    let image = image(&sections);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("linux.efi");
    std::fs::write(&path, &image).unwrap();
    let listed = told("objdump", &["-h"], &path);
    let before = told("objdump", &["-h"], Path::new(STUB));
    // Each line is a section's index, name, size, address, load address, offset, alignment.
    for old in before.lines().filter(|line| line.contains(" .")) {
        assert!(listed.contains(old), "{old} is not in {listed}");
    }
    for (name, contents) in &sections {
        let line = listed.lines().find(|line| line.contains(name)).unwrap();
        let fields: Vec<_> = line.split_whitespace().collect();
        let number = |index: usize| usize::from_str_radix(fields[index], 16).unwrap();
        let (size, address, offset) = (number(2), number(3), number(5));
        assert_eq!(&image[offset..offset + size], contents, "{name}");
        assert_eq!(address % 4096, 0, "{name}");
    }
}
