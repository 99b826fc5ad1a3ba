//! What the host's processor and KVM can give.

use super::Failure;
use super::feature::{HYPERVISOR, Register, TSC_DEADLINE_TIMER, Word};
use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2};
use kvm_ioctls::{Cap, Kvm};

/// `KVM_GET_SUPPORTED_CPUID`, and what KVM tells elsewhere.
#[derive(Debug, Clone)]
pub struct Supported {
    leaves: Vec<kvm_cpuid_entry2>,
    has_tsc_deadline_timer: bool,
}

/// Who made the processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vendor {
    /// "GenuineIntel".
    Intel,
    /// "AuthenticAMD".
    Amd,
    /// "HygonGenuine": AMD's first Zen under licence.
    Hygon,
    /// Any other. Its leaves are taken to be like Intel's.
    Other,
}

impl Vendor {
    /// Where AMD and Intel put things differently, it is as AMD has them.
    pub fn is_like_amd(self) -> bool {
        matches!(self, Self::Amd | Self::Hygon)
    }
}

impl Supported {
    /// Asks KVM.
    pub fn read(kvm: &Kvm) -> Result<Self, Failure> {
        let leaves = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(Failure::NothingSupported)?;
        Ok(Self::new(leaves.as_slice().to_vec(), kvm.check_extension(Cap::TscDeadlineTimer)))
    }

    /// `has_tsc_deadline_timer` is a capability of its own: the in-kernel APIC emulates it.
    pub fn new(leaves: Vec<kvm_cpuid_entry2>, has_tsc_deadline_timer: bool) -> Self {
        Self { leaves, has_tsc_deadline_timer }
    }

    /// All leaves, as KVM gives them.
    pub fn leaves(&self) -> &[kvm_cpuid_entry2] {
        &self.leaves
    }

    /// One leaf.
    pub fn leaf(&self, function: u32, index: u32) -> Option<&kvm_cpuid_entry2> {
        self.leaves.iter().find(|leaf| leaf.function == function && leaf.index == index)
    }

    /// One register; 0 if it is not supported.
    pub fn register(&self, function: u32, index: u32, register: Register) -> u32 {
        self.leaf(function, index).map_or(0, |leaf| match register {
            Register::Eax => leaf.eax,
            Register::Ebx => leaf.ebx,
            Register::Ecx => leaf.ecx,
            Register::Edx => leaf.edx,
        })
    }

    /// The features of a register.
    pub fn word(&self, word: Word) -> u32 {
        let (function, index, register) = word.place();
        self.register(function, index, register) | self.emulated(word)
    }

    /// Those that not every KVM puts into the leaves: they depend on how the machine is made.
    fn emulated(&self, word: Word) -> u32 {
        if word != HYPERVISOR.word {
            return 0;
        }
        HYPERVISOR.mask | if self.has_tsc_deadline_timer { TSC_DEADLINE_TIMER.mask } else { 0 }
    }

    /// Who made the processor.
    pub fn vendor(&self) -> Vendor {
        match &self.vendor_string() {
            b"GenuineIntel" => Vendor::Intel,
            b"AuthenticAMD" => Vendor::Amd,
            b"HygonGenuine" => Vendor::Hygon,
            _ => Vendor::Other,
        }
    }

    fn vendor_string(&self) -> [u8; 12] {
        let mut string = [0; 12];
        // This order is Intel's idea.
        let registers = [Register::Ebx, Register::Edx, Register::Ecx];
        for (bytes, register) in string.chunks_exact_mut(4).zip(registers) {
            bytes.copy_from_slice(&self.register(0, 0, register).to_le_bytes());
        }
        string
    }
}
