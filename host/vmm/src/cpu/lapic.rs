//! The two interrupt lines of a local APIC, in "virtual wire mode" as firmware leaves them (MP
//! specification 1.4, section 3.6.2.2): the boot processor's LINT0 is the old interrupt controller's
//! output, LINT1 is the NMI. The other processors start by an INIT, which resets theirs; there the
//! guest's kernel does it, by the MP table.

use super::Failure;
use kvm_bindings::kvm_lapic_state;
use kvm_ioctls::VcpuFd;
use std::ffi::c_char;

/// Offsets of the registers (Intel SDM volume 3A, table 11-1).
const LVT_LINT0: usize = 0x350;
const LVT_LINT1: usize = 0x360;

/// What a line means: bits 10:8 (same, figure 11-8).
const DELIVERY_MODE: u32 = 0b111 << 8;
const NMI: u32 = 0b100 << 8;
const EXT_INT: u32 = 0b111 << 8;
/// The line is off.
const MASKED: u32 = 1 << 16;

/// Connects the lines of the processor that boots.
pub fn connect_lines(vcpu: &VcpuFd, id: u8) -> Result<(), Failure> {
    if id != 0 {
        return Ok(());
    }
    let mut state = vcpu.get_lapic().map_err(Failure::LapicRefused)?;
    connect(&mut state, LVT_LINT0, EXT_INT);
    connect(&mut state, LVT_LINT1, NMI);
    vcpu.set_lapic(&state).map_err(Failure::LapicRefused)
}

fn connect(state: &mut kvm_lapic_state, register: usize, mode: u32) {
    let value = read(state, register) & !(DELIVERY_MODE | MASKED) | mode;
    for (byte, new) in state.regs[register..].iter_mut().zip(value.to_le_bytes()) {
        *byte = c_char::from_le_bytes([new]);
    }
}

fn read(state: &kvm_lapic_state, register: usize) -> u32 {
    let bytes: [u8; 4] = std::array::from_fn(|offset| state.regs[register + offset].to_le_bytes()[0]);
    u32::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_switched_on_and_keeps_its_other_bits() {
        let mut state = kvm_lapic_state::default();
        state.regs[LVT_LINT0 + 2] = 1; // masked, as after reset
        state.regs[LVT_LINT0] = 0x20; // a vector
        connect(&mut state, LVT_LINT0, EXT_INT);
        connect(&mut state, LVT_LINT1, NMI);
        assert_eq!([read(&state, LVT_LINT0), read(&state, LVT_LINT1)], [0x720, 0x400]);
    }
}
