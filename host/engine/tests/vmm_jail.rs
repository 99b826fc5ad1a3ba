//! The VMM process while it serves a guest on KVM: what it has given up, as the kernel tells it.

#[path = "bare_metal/guest.rs"]
mod guest;
#[path = "bare_metal/machine.rs"]
#[allow(dead_code)] // It is for many scenarios.
mod machine;

use kiln_engine::kvm::Kvm;
use machine::Run;
use std::collections::BTreeMap;
use std::fs::{OpenOptions, read_dir, read_to_string};
use std::io::Write;
use std::path::{Path, PathBuf};

#[test]
fn every_thread_of_the_vmm_is_jailed_before_the_guest_runs() {
    if let Err(error) = OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        println!("SKIPPED: /dev/kvm does not open: {error}");
        return;
    }
    let engine = Kvm::at(env!("CARGO_BIN_EXE_kiln-vmm").into());
    let mut run = Run::with_cpus(&engine, 2, &["vsock_host_resets"]);
    let mut stream = run.accept();
    let process = child();
    let mut threads: BTreeMap<String, String> = entries(&process.join("task")).map(status).collect();
    // The kernel's own worker, which runs nothing of the process.
    threads.retain(|name, _| !name.starts_with("kvm-"));
    // The first, two processors, two disks, vsock, random numbers.
    assert_eq!(threads.len(), 7, "{:?}", threads.keys());
    for (name, status) in &threads {
        for line in
            ["NoNewPrivs:\t1", "Seccomp:\t2", "CapPrm:\t0000000000000000", "CapEff:\t0000000000000000"]
        {
            assert!(status.lines().any(|found| found == line), "{name}: not {line}");
        }
    }
    let limits = read_to_string(process.join("limits")).unwrap();
    let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().next(), Some("0"), "{limits}");
    stream.write_all(b"bye").unwrap();
    drop(stream);
    run.passes();
}

/// The only child of this process.
fn child() -> PathBuf {
    let parent = format!("PPid:\t{}", std::process::id());
    let is_ours =
        |path: &PathBuf| read_to_string(path.join("status")).is_ok_and(|text| text.contains(&parent));
    entries(Path::new("/proc")).find(is_ours).expect("the VMM runs")
}

fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> {
    read_dir(directory).unwrap().map(|entry| entry.unwrap().path())
}

/// A thread by its number, and what the kernel says of it.
fn status(thread: PathBuf) -> (String, String) {
    let (number, name) =
        (thread.file_name().unwrap().display(), read_to_string(thread.join("comm")).unwrap());
    (format!("{} {number}", name.trim()), read_to_string(thread.join("status")).unwrap())
}
