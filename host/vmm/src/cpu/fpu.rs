//! Floating point as firmware leaves it: nothing in the registers, all exceptions masked.
//!
//! MXCSR has its value for that (0x1f80) after a reset, and `KVM_SET_FPU` ignores the one it is given.

use super::Failure;
use kvm_bindings::kvm_fpu;
use kvm_ioctls::VcpuFd;

/// x87 control word after `fninit`: 64-bit precision, all exceptions masked (Intel SDM volume 1, 8.1.5).
const FCW: u16 = 0x37f;
/// Sets it.
pub fn set(vcpu: &VcpuFd) -> Result<(), Failure> {
    vcpu.set_fpu(&kvm_fpu { fcw: FCW, ..Default::default() }).map_err(Failure::FpuRefused)
}
