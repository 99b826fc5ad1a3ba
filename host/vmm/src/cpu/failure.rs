//! Why a virtual processor cannot be set up.

/// Why a virtual processor cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// `KVM_GET_SUPPORTED_CPUID` failed.
    #[error("kvm does not say which processor features it supports")]
    NothingSupported(#[source] kvm_ioctls::Error),
    /// More than KVM takes.
    #[error("{0} cpuid leaves, more than kvm takes")]
    TooManyLeaves(usize),
    /// `KVM_SET_CPUID2` failed.
    #[error("kvm refuses the processor's cpuid")]
    CpuidRefused(#[source] kvm_ioctls::Error),
    /// `KVM_CAP_ENFORCE_PV_FEATURE_CPUID` is there, but cannot be enabled.
    #[error("kvm refuses to limit its own interfaces to those in the cpuid")]
    ParavirtualizationNotLimited(#[source] kvm_ioctls::Error),
    /// `KVM_SET_MSRS` failed altogether.
    #[error("kvm refuses the processor's model-specific registers")]
    MsrsRefused(#[source] kvm_ioctls::Error),
    /// `KVM_SET_MSRS` stopped at one of them.
    #[error("kvm refuses the model-specific register {name} ({index:#x})")]
    MsrRefused {
        /// As the manual spells it.
        name: &'static str,
        /// Its number.
        index: u32,
    },
    /// `KVM_SET_FPU` failed.
    #[error("kvm refuses the processor's floating-point state")]
    FpuRefused(#[source] kvm_ioctls::Error),
    /// `KVM_GET_LAPIC` or `KVM_SET_LAPIC` failed.
    #[error("kvm refuses the state of the processor's local apic")]
    LapicRefused(#[source] kvm_ioctls::Error),
    /// `KVM_CAP_X86_USER_SPACE_MSR` or `KVM_X86_SET_MSR_FILTER` are there, but fail.
    #[error("kvm refuses to pass on what the guest asks of its wall clock")]
    WallClockNotFiltered(#[source] kvm_ioctls::Error),
}
