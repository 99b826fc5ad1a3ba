//! What a virtual processor is like when it starts, but for the registers that depend on how the kernel
//! is entered.
//!
//! Two guests with the same inputs shall do the same on any two hosts, so a processor has the features
//! of a *model*, not those of the host: the lists are in [`feature`], what is made of them in [`cpuid`].
//! Neither are the guest's wall clock ([`wall_clock`]) and the load on the host for the guest to see.

mod cpuid;
mod failure;
mod feature;
mod fpu;
mod lapic;
mod msrs;
mod supported;
mod wall_clock;

pub use failure::Failure;
pub use wall_clock::{answer as answer_msr_write, fix as fix_wall_clock};

use crate::channel::CpuModel;
use feature::{FEATURES, Feature, Level, Needed};
use kvm_bindings::{CpuId, KVM_CAP_ENFORCE_PV_FEATURE_CPUID, kvm_enable_cap};
use kvm_ioctls::{Kvm, VcpuFd};
use supported::Supported;

/// One of the processors of a machine: each is a core with one thread, all are in one package.
#[derive(Debug, Clone, Copy)]
struct Processor {
    /// The number of its local APIC.
    id: u8,
    /// Processors of the machine.
    cpus: u8,
}

/// Sets up everything of a processor but the boot registers: CPUID, model-specific registers, floating
/// point, the local APIC's lines. `id` counts from 0, which is the one that boots; the machine has `cpus`.
/// The machine must have its interrupt controller, and all this must be done before the first run.
///
/// # Errors
/// When KVM refuses a part.
pub fn configure(kvm: &Kvm, vcpu: &VcpuFd, id: u8, cpus: u8, model: CpuModel) -> Result<(), Failure> {
    let supported = Supported::read(kvm)?;
    let leaves = cpuid::leaves(&supported, Processor { id, cpus }, model);
    // First: KVM checks by it what it is given next.
    set_cpuid(vcpu, &leaves)?;
    refuse_other_paravirtualization(kvm, vcpu)?;
    msrs::set(vcpu)?;
    fpu::set(vcpu)?;
    lapic::connect_lines(vcpu, id)
}

/// Which of the model's features that a program can tell the host lacks, by their names in
/// `/proc/cpuinfo`; the guest does without. Those that only matter to its kernel, which has a substitute
/// for each, are not among them.
///
/// # Errors
/// When KVM does not say what it supports.
pub fn missing(kvm: &Kvm, model: CpuModel) -> Result<Vec<&'static str>, Failure> {
    let supported = Supported::read(kvm)?;
    Ok(Level::of(model).map_or_else(Vec::new, |level| cpuid::missing(&supported, level)))
}

/// The features by which programs know a model, as in `/proc/cpuinfo`; none for the host's own.
pub fn program_features(model: CpuModel) -> impl Iterator<Item = &'static str> {
    let level = Level::of(model);
    let has = move |feature: &&Feature| {
        matches!(feature.needed, Needed::From(_)) && level.is_some_and(|level| feature.is_in(level))
    };
    FEATURES.iter().filter(has).map(|feature| feature.name)
}

fn set_cpuid(vcpu: &VcpuFd, leaves: &[kvm_bindings::kvm_cpuid_entry2]) -> Result<(), Failure> {
    let leaves = CpuId::from_entries(leaves).map_err(|_| Failure::TooManyLeaves(leaves.len()))?;
    vcpu.set_cpuid2(&leaves).map_err(Failure::CpuidRefused)
}

/// Without this a guest can use interfaces of KVM that its CPUID does not name; older kernels than 5.10
/// cannot do it.
fn refuse_other_paravirtualization(kvm: &Kvm, vcpu: &VcpuFd) -> Result<(), Failure> {
    if kvm.check_extension_raw(KVM_CAP_ENFORCE_PV_FEATURE_CPUID.into()) <= 0 {
        return Ok(());
    }
    let enforce =
        kvm_enable_cap { cap: KVM_CAP_ENFORCE_PV_FEATURE_CPUID, args: [1, 0, 0, 0], ..Default::default() };
    vcpu.enable_cap(&enforce).map_err(Failure::ParavirtualizationNotLimited)
}

#[cfg(test)]
mod tests;
