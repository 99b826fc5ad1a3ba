//! The names of `KVM_EXIT_*`, of which the number is the index.

/// As in [`linux/kvm.h`](https://docs.kernel.org/virt/kvm/api.html#the-kvm-run-structure).
const NAMES: [&str; 43] = [
    "KVM_EXIT_UNKNOWN",
    "KVM_EXIT_EXCEPTION",
    "KVM_EXIT_IO",
    "KVM_EXIT_HYPERCALL",
    "KVM_EXIT_DEBUG",
    "KVM_EXIT_HLT",
    "KVM_EXIT_MMIO",
    "KVM_EXIT_IRQ_WINDOW_OPEN",
    "KVM_EXIT_SHUTDOWN",
    "KVM_EXIT_FAIL_ENTRY",
    "KVM_EXIT_INTR",
    "KVM_EXIT_SET_TPR",
    "KVM_EXIT_TPR_ACCESS",
    "KVM_EXIT_S390_SIEIC",
    "KVM_EXIT_S390_RESET",
    "KVM_EXIT_DCR",
    "KVM_EXIT_NMI",
    "KVM_EXIT_INTERNAL_ERROR",
    "KVM_EXIT_OSI",
    "KVM_EXIT_PAPR_HCALL",
    "KVM_EXIT_S390_UCONTROL",
    "KVM_EXIT_WATCHDOG",
    "KVM_EXIT_S390_TSCH",
    "KVM_EXIT_EPR",
    "KVM_EXIT_SYSTEM_EVENT",
    "KVM_EXIT_S390_STSI",
    "KVM_EXIT_IOAPIC_EOI",
    "KVM_EXIT_HYPERV",
    "KVM_EXIT_ARM_NISV",
    "KVM_EXIT_X86_RDMSR",
    "KVM_EXIT_X86_WRMSR",
    "KVM_EXIT_DIRTY_RING_FULL",
    "KVM_EXIT_AP_RESET_HOLD",
    "KVM_EXIT_X86_BUS_LOCK",
    "KVM_EXIT_XEN",
    "KVM_EXIT_RISCV_SBI",
    "KVM_EXIT_RISCV_CSR",
    "KVM_EXIT_NOTIFY",
    "KVM_EXIT_LOONGARCH_IOCSR",
    "KVM_EXIT_MEMORY_FAULT",
    "KVM_EXIT_TDX",
    "KVM_EXIT_ARM_SEA",
    "KVM_EXIT_ARM_LDST64B",
];

/// The name of an exit's reason, or its number.
pub fn name(reason: u32) -> String {
    let known = usize::try_from(reason).ok().and_then(|index| NAMES.get(index));
    known.map_or_else(|| format!("exit reason {reason}"), |name| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvm_bindings::*;

    #[test]
    fn names_are_at_their_numbers() {
        for (reason, expected) in [
            (KVM_EXIT_UNKNOWN, "KVM_EXIT_UNKNOWN"),
            (KVM_EXIT_SHUTDOWN, "KVM_EXIT_SHUTDOWN"),
            (KVM_EXIT_NMI, "KVM_EXIT_NMI"),
            (KVM_EXIT_INTERNAL_ERROR, "KVM_EXIT_INTERNAL_ERROR"),
            (KVM_EXIT_SYSTEM_EVENT, "KVM_EXIT_SYSTEM_EVENT"),
            (KVM_EXIT_X86_BUS_LOCK, "KVM_EXIT_X86_BUS_LOCK"),
            (KVM_EXIT_MEMORY_FAULT, "KVM_EXIT_MEMORY_FAULT"),
            (43, "exit reason 43"),
            (u32::MAX, "exit reason 4294967295"),
        ] {
            assert_eq!(name(reason), expected);
        }
    }
}
