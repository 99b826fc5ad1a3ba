//! What kiln and its VMM process say to each other: one order, then reports until the end.
//!
//! The channel is the process's standard input, a `SOCK_SEQPACKET` socket: every packet is one
//! message. The order comes with descriptors that the process inherits, under the numbers it names;
//! a stream that the guest opens goes out as a descriptor beside its report.

use serde::{Deserialize, Serialize};
use std::os::fd::RawFd;

/// Longest message in bytes. A disk of many segments makes the longest.
pub const MESSAGE_BYTES_MAX: usize = 128 * 1024;

/// The one thing that kiln says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// Runs a machine.
    Run(Box<Specification>),
    /// Finds out whether KVM can run one; answered with [`Report::Probed`].
    Probe {
        /// `/dev/kvm`.
        kvm: RawFd,
    },
}

/// A machine, with everything that is opened for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Specification {
    /// `/dev/kvm`.
    pub kvm: RawFd,
    /// The kernel's file.
    pub kernel: RawFd,
    /// The initial RAM file system's file.
    pub initramfs: RawFd,
    /// The kernel's command line, without the devices.
    pub command_line: String,
    /// Virtual processors.
    pub cpus: u8,
    /// What they look like.
    pub cpu_model: CpuModel,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Disks in the order in which the guest sees them.
    pub disks: Vec<DiskSpecification>,
    /// vsock ports that the guest may connect to.
    pub ports: Vec<u32>,
}

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskSpecification {
    /// What the guest knows it by.
    pub serial: String,
    /// The guest cannot write to it. A disk that can be written to is one whole file.
    pub read_only: bool,
    /// Its bytes, one part behind the other.
    pub parts: Vec<Part>,
}

/// A part of a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part {
    /// `length` bytes of an open file from `offset` on.
    File {
        /// The file.
        descriptor: RawFd,
        /// Where in it.
        offset: u64,
        /// How many bytes.
        length: u64,
    },
    /// So many zeroes.
    Zeroes(u64),
}

impl Part {
    /// Where it ends in its file.
    pub fn end(&self) -> u64 {
        match self {
            Self::File { offset, length, .. } => offset.saturating_add(*length),
            Self::Zeroes(_) => 0,
        }
    }
}

/// What the guest's processors look like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CpuModel {
    /// The features of the microarchitecture level x86-64-v3, the same on every host; the default.
    #[default]
    X86_64V3,
    /// Those of x86-64-v2, for hosts that lack some of the former.
    X86_64V2,
    /// All that the host's processor has and KVM can give.
    Host,
}

impl CpuModel {
    /// Those that a host may be less than.
    pub const FIXED: [Self; 2] = [Self::X86_64V3, Self::X86_64V2];
}

impl std::fmt::Display for CpuModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::X86_64V3 => "x86-64-v3",
            Self::X86_64V2 => "x86-64-v2",
            Self::Host => "the host's processor",
        })
    }
}

/// What the VMM process says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// The guest connected to `port`; the descriptor beside it is the stream.
    Stream {
        /// One of [`Specification::ports`].
        port: u32,
        /// What it took to get there.
        counters: Counters,
    },
    /// The host failed behind a request to the disk of this index, with this `errno`.
    HostError {
        /// Index into [`Specification::disks`].
        disk: usize,
        /// As in `errno(3)`.
        errno: i32,
    },
    /// The machine is no more. The last report.
    Ended {
        /// Why.
        ending: Ending,
        /// What it took altogether.
        counters: Counters,
    },
    /// What a probe found. The last report.
    Probed(Finding),
}

/// How a machine ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// The guest restarted the machine, which is how it switches it off.
    Reset,
    /// It could not go on, and why, in lower case without a final stop.
    Failed(String),
}

/// What a machine has cost so far. The same guest does the same, so these hardly change from host to
/// host, unlike times.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// From the order's arrival to just before the first guest instruction, in microseconds.
    pub start_us: u64,
    /// From the first guest instruction to now, in microseconds.
    pub run_us: u64,
    /// Returns from the guest to the VMM.
    pub exits: u64,
    /// Those for a port access.
    pub port_exits: u64,
    /// Those for a register of a virtio-mmio device.
    pub mmio_exits: u64,
    /// Times a device's thread was woken by the guest.
    pub kicks: u64,
    /// Interrupts that devices sent.
    pub interrupts: u64,
}

/// What a probe found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Whether Linux can run.
    pub verdict: Verdict,
    /// The models that the host's processor is less than.
    pub lacking: Vec<Lacking>,
}

/// A model that a host cannot give.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lacking {
    /// Which.
    pub model: CpuModel,
    /// Why: names of `/proc/cpuinfo`.
    pub features: Vec<String>,
}

/// Whether Linux can run in a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// Everything works.
    Usable,
    /// Everything works, but the guest's kernel is so many times slower than the host's programs.
    Slow {
        /// How many times.
        factor: u32,
    },
    /// Why Linux cannot run, in lower case without a final stop: which instruction or ring switch failed.
    Unusable(String),
}
