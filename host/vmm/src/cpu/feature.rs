//! The processor features that a guest is given: a list of what is allowed, everything else is off.
//!
//! # What is on
//! The [psABI](https://gitlab.com/x86-psABIs/x86-64-ABI)'s microarchitecture level, as that is what
//! programs and distributions are built for, and beside it only
//! - what every host of that level has, Intel (from Nehalem on for v2, Haswell for v3) as well as AMD
//!   (Bulldozer, Excavator), and a program of today profits from: `aes`, `pclmulqdq`, `fsgsbase`,
//!   `xsaveopt`, `rdtscp`. (The psABI leaves the first two out for the sake of a few mobile Haswells.)
//! - what a 64-bit kernel needs or what saves it exits, and KVM emulates everywhere or the kernel has a
//!   substitute for: [`Needed::IfThere`].
//!
//! # What is off, and why
//! - Newer instructions (AVX-512, AMX, SHA, VAES, GFNI ...): libraries choose their code, and compilers
//!   with `-march=native` theirs, by what they find.
//! - `rdrand`, `rdseed`: entropy that the engine cannot choose; programs use `getrandom`, and the kernel
//!   is fed by virtio-rng.
//! - `pcid`, `invpcid`, `erms`, `smap`, `adx`, `clflushopt`, `3dnowprefetch`, `pdpe1gb`: not on every host.
//! - `smep`, `umip`, `pku`, CET: protect a kernel against its programs; here both are the same user's, for
//!   one build.
//! - `spec_ctrl`, `ibpb`, `stibp`, `ssbd`, `arch_capabilities`, `md_clear` ...: mitigations inside the guest
//!   protect its kernel from its programs, not the host from the guest (that is the host kernel's own
//!   work at every exit), and would make the guest's speed depend on the host's microcode. kiln's kernel
//!   is built without them; for another, `mitigations=off` belongs on the command line.
//! - `mce`, `mca`: nothing raises a machine check here, and a kernel would set up dozens of banks.
//! - `vme`, `pse36`: for modes that a 64-bit kernel is never in. `monitor`, performance counters (leaf
//!   0xa), SGX, MPX, 5-level paging, `waitpkg`, processor trace, hardware virtualization: not for a build.
//! - AMD's copy of leaf 1's EDX in leaf 0x80000001's: Intel has none. AMD's `topoext`: leaf 0xb says it.
//!
//! Names are those of `/proc/cpuinfo`; the bits are defined in the Intel SDM, volume 2A, CPUID, and the AMD
//! APM, volume 3, appendix E.

use crate::channel::CpuModel;

/// A register of a leaf, which has a bit per feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// Leaf 1, ECX.
    Leaf1Ecx,
    /// Leaf 1, EDX.
    Leaf1Edx,
    /// Leaf 6 (power management), EAX.
    Leaf6Eax,
    /// Leaf 7, subleaf 0, EBX.
    Leaf7Ebx,
    /// Leaf 0xd (extended states), subleaf 1, EAX.
    LeafD1Eax,
    /// Leaf 0x80000001, ECX.
    Extended1Ecx,
    /// Leaf 0x80000001, EDX.
    Extended1Edx,
    /// Leaf 0x80000007 (power management), EDX.
    Extended7Edx,
    /// Leaf 0x40000001, EAX: what KVM offers beyond hardware
    /// ([list](https://www.kernel.org/doc/html/latest/virt/kvm/x86/cpuid.html)).
    KvmEax,
}

/// The registers of a leaf, in the order in which CPUID returns them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Register {
    /// EAX.
    Eax,
    /// EBX.
    Ebx,
    /// ECX.
    Ecx,
    /// EDX.
    Edx,
}

impl Word {
    /// Leaf, subleaf and register.
    pub fn place(self) -> (u32, u32, Register) {
        match self {
            Self::Leaf1Ecx => (0x1, 0, Register::Ecx),
            Self::Leaf1Edx => (0x1, 0, Register::Edx),
            Self::Leaf6Eax => (0x6, 0, Register::Eax),
            Self::Leaf7Ebx => (0x7, 0, Register::Ebx),
            Self::LeafD1Eax => (0xd, 1, Register::Eax),
            Self::Extended1Ecx => (0x8000_0001, 0, Register::Ecx),
            Self::Extended1Edx => (0x8000_0001, 0, Register::Edx),
            Self::Extended7Edx => (0x8000_0007, 0, Register::Edx),
            Self::KvmEax => (0x4000_0001, 0, Register::Eax),
        }
    }
}

/// A microarchitecture level of the psABI. Each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// x86-64-v2.
    V2,
    /// x86-64-v3.
    V3,
}

impl Level {
    /// That of a model; the host's own has none.
    pub fn of(model: CpuModel) -> Option<Self> {
        match model {
            CpuModel::X86_64V2 => Some(Self::V2),
            CpuModel::X86_64V3 => Some(Self::V3),
            CpuModel::Host => None,
        }
    }
}

/// Who needs a feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needed {
    /// Programs of this level and above.
    From(Level),
    /// A kernel, from this level on, which can do without.
    IfThere(Level),
}

/// A feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feature {
    /// As in `/proc/cpuinfo`.
    pub name: &'static str,
    /// The register that it is in.
    pub word: Word,
    /// Its bit there.
    pub mask: u32,
    /// Who needs it.
    pub needed: Needed,
}

impl Feature {
    /// A model of this level has it.
    pub fn is_in(&self, level: Level) -> bool {
        match self.needed {
            Needed::From(first) | Needed::IfThere(first) => first <= level,
        }
    }
}

/// The guest is a guest: KVM offers kvm-clock and more.
pub const HYPERVISOR: Feature = kernel("hypervisor", Word::Leaf1Ecx, 31);
/// The local APIC's timer counts in TSC ticks, so nobody has to measure its rate.
pub const TSC_DEADLINE_TIMER: Feature = kernel("tsc_deadline_timer", Word::Leaf1Ecx, 24);
/// The offset of a processor's time-stamp counter can be read.
const TSC_ADJUST: Feature =
    Feature { needed: Needed::IfThere(Level::V3), ..kernel("tsc_adjust", Word::Leaf7Ebx, 1) };
/// Extended states can be saved; what they are is in leaf 0xd.
pub const XSAVE: Feature = v3("xsave", Word::Leaf1Ecx, 26);
/// 256-bit registers.
pub const AVX: Feature = v3("avx", Word::Leaf1Ecx, 28);

/// Leaf 1, EDX: the package has several processors. Topology, not a feature.
pub const HT: u32 = 1 << 28;

/// All there are.
pub const FEATURES: &[Feature] = &[
    // Baseline.
    v2("fpu", Word::Leaf1Edx, 0),
    v2("de", Word::Leaf1Edx, 2),
    v2("pse", Word::Leaf1Edx, 3),
    v2("tsc", Word::Leaf1Edx, 4),
    v2("msr", Word::Leaf1Edx, 5),
    v2("pae", Word::Leaf1Edx, 6),
    v2("cx8", Word::Leaf1Edx, 8),
    v2("apic", Word::Leaf1Edx, 9),
    v2("sep", Word::Leaf1Edx, 11),
    v2("mtrr", Word::Leaf1Edx, 12),
    v2("pge", Word::Leaf1Edx, 13),
    v2("cmov", Word::Leaf1Edx, 15),
    v2("pat", Word::Leaf1Edx, 16),
    v2("clflush", Word::Leaf1Edx, 19),
    v2("mmx", Word::Leaf1Edx, 23),
    v2("fxsr", Word::Leaf1Edx, 24),
    v2("sse", Word::Leaf1Edx, 25),
    v2("sse2", Word::Leaf1Edx, 26),
    v2("syscall", Word::Extended1Edx, 11),
    v2("nx", Word::Extended1Edx, 20),
    v2("rdtscp", Word::Extended1Edx, 27),
    v2("lm", Word::Extended1Edx, 29),
    // x86-64-v2.
    v2("pni", Word::Leaf1Ecx, 0),
    v2("ssse3", Word::Leaf1Ecx, 9),
    v2("cx16", Word::Leaf1Ecx, 13),
    v2("sse4_1", Word::Leaf1Ecx, 19),
    v2("sse4_2", Word::Leaf1Ecx, 20),
    v2("popcnt", Word::Leaf1Ecx, 23),
    v2("lahf_lm", Word::Extended1Ecx, 0),
    // x86-64-v3.
    AVX,
    v3("avx2", Word::Leaf7Ebx, 5),
    v3("bmi1", Word::Leaf7Ebx, 3),
    v3("bmi2", Word::Leaf7Ebx, 8),
    v3("f16c", Word::Leaf1Ecx, 29),
    v3("fma", Word::Leaf1Ecx, 12),
    v3("abm", Word::Extended1Ecx, 5),
    v3("movbe", Word::Leaf1Ecx, 22),
    XSAVE,
    // What all of its processors have besides.
    v3("aes", Word::Leaf1Ecx, 25),
    v3("pclmulqdq", Word::Leaf1Ecx, 1),
    v3("fsgsbase", Word::Leaf7Ebx, 0),
    v3("xsaveopt", Word::LeafD1Eax, 0),
    // For kernels. Interrupts: by MSRs instead of memory accesses that KVM has to decode ...
    kernel("x2apic", Word::Leaf1Ecx, 21),
    TSC_DEADLINE_TIMER,
    // ... from a timer that does not stop with the processor.
    kernel("arat", Word::Leaf6Eax, 2),
    // Time: the counter has one rate and never stops. Without, time comes from kvm-clock.
    kernel("constant_tsc", Word::Extended7Edx, 8),
    // It can be compared between processors. KVM has it everywhere, but old processors lack the leaf.
    TSC_ADJUST,
    HYPERVISOR,
    // No writes to port 0x80 to pass the time.
    kernel("kvm_nopiodelay", Word::KvmEax, 1),
    // kvm-clock, by the registers that are not taken by others; the rate of the TSC is known from it.
    kernel("kvmclock", Word::KvmEax, 3),
    // End of interrupt without an exit where the hardware does not manage it.
    kernel("kvm_pv_eoi", Word::KvmEax, 6),
    // kvm-clock is the same on all processors.
    kernel("kvmclock_stable", Word::KvmEax, 24),
    // Of the others, steal time and asynchronous page faults would tell the guest of the host's load.
];

const fn v2(name: &'static str, word: Word, bit: u32) -> Feature {
    Feature { name, word, mask: 1 << bit, needed: Needed::From(Level::V2) }
}

const fn v3(name: &'static str, word: Word, bit: u32) -> Feature {
    Feature { name, word, mask: 1 << bit, needed: Needed::From(Level::V3) }
}

const fn kernel(name: &'static str, word: Word, bit: u32) -> Feature {
    Feature { name, word, mask: 1 << bit, needed: Needed::IfThere(Level::V2) }
}
