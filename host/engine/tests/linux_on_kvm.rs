//! The real kernel (`$KILN_KERNEL`) on the real `/dev/kvm`, in a VMM process of its own: to its end where
//! KVM can run it, otherwise as far as it gets.

use kiln_engine::kvm::Kvm;
use kiln_engine::{CpuModel, Engine, Exit, Initramfs, Machine, MachineSpec};
use std::io::{self, Write};
use std::num::NonZeroU8;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Where KVM emulates kernels, the first lines take ten seconds.
const DEADLINE: Duration = Duration::from_secs(120);

#[derive(Clone, Default)]
struct Console(Arc<Mutex<Vec<u8>>>);

impl Console {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    fn wait_for(&self, words: &str) {
        let start = Instant::now();
        while !self.text().contains(words) {
            assert!(start.elapsed() < DEADLINE, "no {words:?} in:\n{}", self.text());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn kvm() -> Kvm {
    Kvm::at(env!("CARGO_BIN_EXE_kiln-vmm").into())
}

/// Without a program to run, Linux panics when it has started.
fn launch(console: &Console) -> Box<dyn Machine> {
    let kernel = std::env::var_os("KILN_KERNEL");
    let kernel = kernel.expect("these tests need $KILN_KERNEL: a kernel as scripts/build-kernel makes it");
    let spec = MachineSpec {
        kernel: kernel.into(),
        initramfs: Initramfs::new().finish(),
        extra_command_line: vec!["extra=1".into()],
        cpus: NonZeroU8::MIN,
        // All there is, as a host where KVM emulates offers little.
        cpu_model: CpuModel::Host,
        memory_mib: 256,
        disks: Vec::new(),
        ports: Vec::new(),
        console: Some(Box::new(console.clone())),
    };
    kvm().launch(spec).expect("these tests need /dev/kvm")
}

/// As in the other tests, KVM has to work where it opens.
fn opens() -> bool {
    let opened = std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm");
    opened.inspect_err(|error| println!("SKIPPED: /dev/kvm does not open: {error}")).is_ok()
}

#[test]
fn linux_accepts_the_machine() {
    if !opens() {
        return;
    }
    let console = Console::default();
    let exit = launch(&console).wait(Instant::now() + DEADLINE).unwrap();
    let text = console.text();
    for words in [
        "Linux version 6.",
        "Command line: earlycon=uart8250,io,0x3f8 console=ttyS0 panic=-1 reboot=k swiotlb=noforce mitigations=off extra=1 ",
        "BIOS-e820: [mem 0x0000000000100000-0x000000000fffffff] usable",
        "Hypervisor detected: KVM",
        "kvm-clock: Using msrs",
        "MPTABLE: OEM ID: KILN",
        "Processors: 1",
        "Booting paravirtualized kernel on KVM",
    ] {
        assert!(text.contains(words), "no {words:?} in:\n{text}");
    }
    match (kvm().probe(), exit) {
        (Ok(_), Exit::Panicked(_)) => {}
        (Err(_), Exit::Failed(why)) => {
            assert!(why.starts_with("KVM cannot execute the instruction `"), "{why}");
            println!("{why}");
        }
        (probed, exit) => panic!("the probe found {probed:?}, but {exit}; console:\n{text}"),
    }
}

#[test]
fn a_machine_in_the_middle_of_its_boot_is_killed_at_once() {
    if !opens() {
        return;
    }
    let console = Console::default();
    let machine = launch(&console);
    console.wait_for("Linux version");
    let start = Instant::now();
    machine.killer().kill();
    assert_eq!(machine.wait(Instant::now() + DEADLINE).unwrap(), Exit::Killed);
    assert!(start.elapsed() < Duration::from_secs(1), "killing took {:?}", start.elapsed());
}
