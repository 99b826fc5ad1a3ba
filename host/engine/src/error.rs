//! What can go wrong with a machine.

use crate::{Exit, Unusable};
use std::io;
use std::path::PathBuf;

/// A machine could not be launched, or not talked to.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(#[from] pub(crate) Kind);

impl Error {
    /// How the machine ended, when that is why a stream could not be had.
    pub fn exit(&self) -> Option<&Exit> {
        match &self.0 {
            Kind::Ended { exit, .. } => Some(exit),
            _ => None,
        }
    }

    /// True when this host has no engine that can work.
    pub fn is_no_engine(&self) -> bool {
        matches!(self.0, Kind::NoEngine(_) | Kind::Unusable(_))
    }

    /// True when the time was up.
    pub fn is_timeout(&self) -> bool {
        matches!(self.0, Kind::NoConnection { .. } | Kind::StillRunning { .. })
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Kind {
    #[error("no engine can be used here: {}", list(.0))]
    NoEngine(Vec<(&'static str, Unusable)>),
    #[error("{0}")]
    Unusable(Unusable),
    #[error("the kernel {path} cannot be read", path = .0.display())]
    KernelUnreadable(PathBuf, #[source] io::Error),
    #[error("{path} is neither a vmlinux for x86-64 nor a bzImage", path = .0.display())]
    NoKernel(PathBuf),
    #[error("{0} disks, but a machine has room for {1}")]
    TooManyDisks(usize, usize),
    #[error("a disk's serial {0:?} is longer than {max} bytes", max = kiln_devices::SERIAL_BYTES)]
    LongSerial(String),
    #[error("the disk {0:?} is not made of files, which another process could open")]
    DiskWithoutFiles(String),
    #[error("the disk {0:?} is to be written, but is not one whole file")]
    DiskInParts(String),
    #[error("{0} MiB of memory, but a machine needs at least {1}")]
    TooLittleMemory(u32, u32),
    #[error("{0} MiB of memory, but a machine can have at most {1}")]
    TooMuchMemory(u32, u32),
    #[error("QEMU opens the initramfs by a name in /proc, which is not mounted here")]
    NoProc,
    #[error("cannot set up {0}")]
    Setup(&'static str, #[source] io::Error),
    #[error("cannot serve a device: {0}")]
    Serve(String),
    #[error("cannot start {path}", path = .0.display())]
    Spawn(PathBuf, #[source] io::Error),
    #[error("nobody may connect to port {0}")]
    UnknownPort(u32),
    #[error("{exit} before it connected to port {port}{}", tail(.console))]
    Ended { port: u32, exit: Exit, console: String },
    #[error("the guest did not connect to port {port} in time{}", tail(.console))]
    NoConnection { port: u32, console: String },
    #[error("the machine did not end in time and was killed{}", tail(.console))]
    StillRunning { console: String },
}

fn list(engines: &[(&'static str, Unusable)]) -> String {
    let lines: Vec<_> = engines.iter().map(|(name, why)| format!("{name}: {why}")).collect();
    lines.join("; ")
}

/// The console below the message, if there is any.
fn tail(console: &str) -> String {
    let lines = console.lines().map(|line| format!("\n    {line}"));
    if console.is_empty() {
        String::from("; nothing on its console")
    } else {
        [String::from("; its console:")].into_iter().chain(lines).collect()
    }
}
