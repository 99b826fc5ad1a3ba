use super::*;
use kvm_bindings::{KVM_EXIT_INTERNAL_ERROR, kvm_run, kvm_segment};

/// As KVM leaves it.
fn run(suberror: u32, data: &[u64]) -> kvm_run {
    let mut run = kvm_run { exit_reason: KVM_EXIT_INTERNAL_ERROR, ..Default::default() };
    run.__bindgen_anon_1.internal.suberror = suberror;
    run.__bindgen_anon_1.internal.ndata = data.len() as u32;
    let mut words = [0; 16];
    words[..data.len()].copy_from_slice(data);
    run.__bindgen_anon_1.internal.data = words;
    run
}

/// Flags, then a size and fifteen bytes.
fn emulation_failure(flags: u64, size: u8, code: &[u8]) -> [u64; 3] {
    let mut bytes = [0x90; 16];
    bytes[0] = size;
    bytes[1..=code.len()].copy_from_slice(code);
    let word = |half: &[u8]| u64::from_le_bytes(half.try_into().unwrap());
    [flags, word(&bytes[..8]), word(&bytes[8..])]
}

#[test]
fn instruction_bytes_are_taken_when_kvm_says_they_are_there() {
    let stac = [0x0f, 0x01, 0xcb];
    let full = emulation_failure(1, 3, &stac);
    for (suberror, data, expected) in [
        (1, &full[..], Some(&stac[..])),
        // Without the flag, with fewer words, of another error, of an older KVM.
        (1, &emulation_failure(0, 3, &stac)[..], None),
        (1, &full[..2], None),
        (2, &full[..], None),
        (1, &[], None),
        (1, &emulation_failure(1, 0, &stac)[..], None),
    ] {
        let error = InternalError::read(&run(suberror, data)).unwrap();
        assert_eq!(error.instruction().as_deref(), expected, "{suberror} {data:x?}");
    }
}

#[test]
fn counts_beyond_the_structure_are_bounded() {
    let mut run = run(1, &emulation_failure(1, 255, &[0xcc]));
    run.__bindgen_anon_1.internal.ndata = u32::MAX;
    let error = InternalError::read(&run).unwrap();
    assert_eq!(error.data.len(), 16);
    assert_eq!(error.instruction().unwrap().len(), instruction::BYTES_MAX);
}

#[test]
fn the_union_is_not_read_after_other_exits() {
    let mut run = run(1, &[]);
    run.exit_reason = kvm_bindings::KVM_EXIT_HLT;
    assert_eq!(InternalError::read(&run), None);
}

#[test]
fn a_place_is_read_as_the_mode_says() {
    let segment = |l, db, base| kvm_segment { l, db, base, ..Default::default() };
    for (efer, cs, expected) in [
        (EFER_LMA, segment(1, 0, 0x1000), (Width::Bits64, 0x10)),
        (EFER_LMA, segment(0, 1, 0x1000), (Width::Bits32, 0x1010)),
        // `l` means nothing outside of long mode.
        (0, segment(1, 0, 0x1000), (Width::Bits16, 0x1010)),
        (0, segment(0, 1, u64::MAX), (Width::Bits32, 0xf)),
    ] {
        let place = Place::from_registers(0x10, &kvm_sregs { efer, cs, ..Default::default() });
        assert_eq!((place.width, place.linear), expected);
    }
}

#[test]
fn the_ring_is_the_stacks() {
    let stack = |dpl| kvm_sregs { ss: kvm_segment { dpl, ..Default::default() }, ..Default::default() };
    assert_eq!(Place::from_registers(0, &stack(0)).ring, 0);
    assert_eq!(Place::from_registers(0, &stack(3)).ring, 3);
}

#[test]
fn instructions_are_named_with_their_place() {
    let place = Place {
        rip: 0xffff_ffff_8123_4567,
        linear: 0xffff_ffff_8123_4567,
        ring: 0,
        width: Width::Bits64,
        is_at_reset: false,
    };
    assert_eq!(named(&[0xcc], place), "the instruction `int3` (cc) at 0xffffffff81234567 in ring 0");
}

#[test]
fn a_triple_fault_says_where_unless_the_processor_forgot() {
    let cause =
        "the guest's processor met a fault while handling a fault while handling a fault (triple fault)";
    let mut sregs = kvm_sregs::default();
    sregs.cs.base = RESET_CS_BASE;
    assert_eq!(shutdown(None), cause);
    assert_eq!(
        shutdown(Some(Place::from_registers(RESET_RIP, &sregs))),
        format!("{cause}, nobody knows where")
    );
    assert_eq!(shutdown(Some(Place::from_registers(0x1234, &sregs))), format!("{cause} at 0x1234 in ring 0"));
}

#[test]
fn refusals_to_enter_are_explained_where_known() {
    for (reason, expected) in [
        (
            0x8000_0021,
            "the guest's registers are in a state that it does not accept (hardware reason 0x80000021)",
        ),
        (u64::MAX, "the guest's state is not valid (hardware reason 0xffffffffffffffff)"),
        (0x1234, "hardware reason 0x1234"),
    ] {
        assert_eq!(entry_failure(reason), expected);
    }
}

#[test]
fn undelivered_events_are_named() {
    for (data, expected) in [
        (&[][..], "an interrupt or exception"),
        (&[0x8000_030e], "exception 14"),
        (&[0x8000_00ec, 0x31], "interrupt 236, as the host's processor stopped for its reason 0x31"),
        (&[u64::MAX], "event 255"),
    ] {
        assert_eq!(undelivered(data), expected);
    }
}

#[test]
fn exits_become_what_describe_takes() {
    assert_eq!(Fatal::from(&VcpuExit::InternalError), Fatal::InternalError);
    assert_eq!(Fatal::from(&VcpuExit::Shutdown), Fatal::Shutdown);
    assert_eq!(Fatal::from(&VcpuExit::FailEntry(7, 1)), Fatal::FailEntry { reason: 7, cpu: 1 });
    assert_eq!(Fatal::from(&VcpuExit::Nmi), Fatal::Unexpected);
}
