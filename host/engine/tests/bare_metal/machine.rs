//! A machine that runs scenarios, and what it says.

use crate::guest;
use kiln_devices::FileStorage;
use kiln_engine::{Counters, CpuModel, Disk, Engine, Exit, Machine, MachineSpec};
use std::fs::File;
use std::io::{self, Write};
use std::num::NonZeroU8;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Scenarios are over long before.
const DEADLINE: Duration = Duration::from_secs(60);

/// The guest connects to this one.
const PORT: u32 = 1024;

const SECTOR_BYTES: usize = 512;
/// Of either disk.
pub const DISK_SECTORS: usize = 8192;

/// A machine that has been started.
pub struct Run {
    machine: Box<dyn Machine>,
    scenarios: Vec<String>,
    console: Console,
    /// The disk that the guest can write to.
    pub disk: File,
    /// Until here it has time.
    deadline: Instant,
    started: Instant,
}

impl Run {
    /// Starts one processor on these scenarios.
    pub fn of(engine: &dyn Engine, scenarios: &[&str]) -> Self {
        Self::with_cpus(engine, 1, scenarios)
    }

    /// Starts `cpus` processors on these scenarios.
    pub fn with_cpus(engine: &dyn Engine, cpus: u8, scenarios: &[&str]) -> Self {
        let program = guest::program();
        let (console, disk) = (Console::default(), disk());
        let writable = FileStorage::writable(disk.try_clone().unwrap()).unwrap();
        let read_only = FileStorage::read_only(self::disk()).unwrap();
        let disks = vec![
            Disk { serial: "scratch".into(), storage: Arc::new(writable), read_only: false },
            Disk { serial: "base".into(), storage: Arc::new(read_only), read_only: true },
        ];
        let started = Instant::now();
        let spec = MachineSpec {
            kernel: program.to_owned(),
            initramfs: Vec::new(),
            extra_command_line: scenarios.iter().map(|name| format!("scenario={name}")).collect(),
            cpus: NonZeroU8::new(cpus).unwrap(),
            // The guest asks for nothing that any processor lacks, and some KVM gives little.
            cpu_model: CpuModel::Host,
            memory_mib: 128,
            disks,
            ports: vec![PORT],
            console: Some(Box::new(console.clone())),
        };
        let machine = engine.launch(spec).unwrap();
        let scenarios = scenarios.iter().map(|name| String::from(*name)).collect();
        Self { machine, scenarios, console, disk, deadline: started + DEADLINE, started }
    }

    /// The guest connects.
    pub fn accept(&mut self) -> UnixStream {
        let stream = self.machine.accept(PORT, self.deadline).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream
    }

    /// Waits until the guest has said this; the rest of the line.
    pub fn wait_for_line(&self, start: &str) -> String {
        while Instant::now() < self.deadline {
            let text = self.console.text();
            let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
            if let Some(rest) = whole.filter_map(|line| line.strip_prefix(start)).next() {
                return rest.trim().to_owned();
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("the guest did not say {start:?} but:\n{}", self.console.text());
    }

    /// What it took until the guest connected.
    pub fn counters(&self) -> Counters {
        self.machine.counters().unwrap()
    }

    /// Waits for the end; every scenario has passed then. Gives the disk that the guest could write to.
    pub fn passes(self) -> File {
        let (scenarios, disk) = (self.scenarios.clone(), self.disk.try_clone().unwrap());
        let (said, exit) = self.ends();
        let lines: Vec<&str> = said.lines().map(str::trim_end).collect();
        for name in &scenarios {
            assert!(lines.contains(&format!("pass {name}").as_str()), "{name} did not pass, see above");
        }
        assert!(lines.contains(&"done"), "the guest did not come to its end, see above");
        assert_eq!(exit, Exit::PoweredOff);
        disk
    }

    /// Waits for the end: what the guest said, and how it ended.
    pub fn ends(self) -> (String, Exit) {
        let exit = self.machine.wait(self.deadline);
        let said = self.console.text();
        println!("{said}-- {exit:?} after {:?}", self.started.elapsed());
        (said, exit.unwrap())
    }
}

/// A disk as the guest expects it.
fn disk() -> File {
    let file = tempfile::tempfile().unwrap();
    let content: Vec<u8> = (0..DISK_SECTORS).flat_map(sector).collect();
    file.write_all_at(&content, 0).unwrap();
    file
}

/// What is in a sector at first.
pub fn sector(number: usize) -> [u8; SECTOR_BYTES] {
    std::array::from_fn(|index| (number * 7 + index) as u8)
}

/// All that the guest has said.
#[derive(Clone, Default)]
struct Console(Arc<Mutex<Vec<u8>>>);

impl Console {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
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
