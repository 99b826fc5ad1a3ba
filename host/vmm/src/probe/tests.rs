use super::*;
use crate::failure::{self, Fatal};
use iced_x86::{Decoder, DecoderOptions};
use stage::Stage;
use vm_memory::{Address, Bytes};

/// The real one, or the reason why there is none.
fn kvm() -> Option<Kvm> {
    Kvm::new().inspect_err(|error| eprintln!("SKIPPED: /dev/kvm does not open: {error}")).ok()
}

#[test]
fn the_verdict_is_the_same_every_time_and_comes_in_time() {
    let Some(kvm) = kvm() else { return };
    let begin = Instant::now();
    let verdicts = [probe(&kvm), probe(&kvm), probe(&kvm)];
    assert!(begin.elapsed() < 3 * Duration::from_secs(3), "{:?}", begin.elapsed());
    eprintln!("{verdicts:?}, {:?} each", begin.elapsed() / 3);
    match &verdicts[0] {
        Verdict::Slow { .. } => assert!(verdicts.iter().all(|other| matches!(other, Verdict::Slow { .. }))),
        first => assert!(verdicts.iter().all(|other| other == first)),
    }
}

#[test]
fn where_it_is_usable_every_stage_was_announced_in_its_order() {
    let Some(kvm) = kvm() else { return };
    let Ok(findings) = trial::run(&kvm, Stages::KERNEL, TIME_MAX) else { return };
    eprintln!("{findings:?}");
    let numbers: Vec<u8> = findings.stages.iter().map(|stage| *stage as u8).collect();
    let loop_begin = numbers.iter().position(|number| *number == Stage::LoopBegin as u8).unwrap();
    assert!(numbers[..loop_begin].is_sorted());
    // The others depend on CPUID.
    for stage in [Stage::Breakpoint, Stage::Ldmxcsr, Stage::Sse, Stage::Returned, Stage::LoopEnd] {
        assert!(findings.stages.contains(&stage), "{stage:?}");
    }
}

#[test]
fn each_stage_works_or_says_what_failed() {
    let Some(kvm) = kvm() else { return };
    for stage in [
        Stage::Breakpoint,
        Stage::Exchange,
        Stage::Stac,
        Stage::Popcnt,
        Stage::Xsave,
        Stage::Ldmxcsr,
        Stage::Sse,
    ] {
        match trial::run(&kvm, Stages::of(&[stage]), TIME_MAX) {
            // The guest goes by CPUID, which need not have it.
            Ok(findings) => assert_eq!(findings.stages.last(), Some(&Stage::Done)),
            Err(reason) => {
                eprintln!("{reason}");
                assert!(reason.starts_with(stage.what()), "{reason}");
                assert!(reason.ends_with(" in ring 0"), "{reason}");
            }
        }
    }
}

#[test]
fn the_switches_between_rings_work_or_the_one_that_does_not_is_named() {
    let Some(kvm) = kvm() else { return };
    let switches =
        [Stage::EnterRing3, Stage::Syscall, Stage::Sysret, Stage::SyscallAgain, Stage::Returned, Stage::Done];
    match trial::run(&kvm, Stages::of(&switches[..1]), TIME_MAX) {
        Ok(findings) => assert_eq!(findings.stages, switches),
        Err(reason) => {
            eprintln!("{reason}");
            assert!(switches.iter().any(|stage| reason.starts_with(stage.what())), "{reason}");
        }
    }
}

#[test]
fn the_loop_is_timed_here_and_there() {
    let Some(kvm) = kvm() else { return };
    let findings = trial::run(&kvm, Stages::of(&[Stage::Loop]), 5 * TIME_MAX).unwrap();
    let (guest, native) = (findings.loop_time.unwrap(), native_loop_time());
    eprintln!("{guest:?} in ring 0, {native:?} natively");
    // One turn cannot take less than a cycle.
    let least = Duration::from_nanos(u64::from(guest::TURNS) / 10);
    assert!(guest > least && native > least);
}

#[test]
fn a_guest_that_hangs_is_fetched_back() {
    let Some(kvm) = kvm() else { return };
    let begin = Instant::now();
    let reason = trial::run(&kvm, Stages::of(&[Stage::Hang]), Duration::from_millis(200)).unwrap_err();
    assert!(begin.elapsed() < Duration::from_secs(2));
    assert!(reason.starts_with("a loop without end: the guest hung at the instruction `jmp 0x"), "{reason}");
}

#[test]
fn an_exception_is_named_with_its_instruction() {
    let Some(kvm) = kvm() else { return };
    let reason = trial::run(&kvm, Stages::of(&[Stage::Undefined]), TIME_MAX).unwrap_err();
    let expected =
        "an undefined instruction: invalid opcode (exception 6) at the instruction `ud2` (0f 0b) at 0x";
    assert!(reason.starts_with(expected), "{reason}");
}

#[test]
fn what_no_machine_survives_is_described() {
    let Some(kvm) = kvm() else { return };
    let triple_fault = "the guest's processor met a fault while handling a fault while handling a fault";
    for (code, expected) in [
        // No emulator of KVM's adds vectors from a device.
        (
            &[0x66, 0x0f, 0xfe, 0x04, 0x25, 0, 0, 0x10, 0][..],
            "KVM cannot execute the instruction `paddd xmm0, [0x100000]` (66 0f fe 04 25 00 00 10 00) at 0x8000 in ring 0",
        ),
        (&[0xe4, 0xe0], "KVM stopped for KVM_EXIT_IO, which nobody asked for, at 0x8000 in ring 0"),
        (&[0x0f, 0x0b], triple_fault),
    ] {
        let description = description(&kvm, code);
        assert!(description.starts_with(expected), "{description}");
    }
}

/// What becomes of this code on a processor that has no interrupt gates.
fn description(kvm: &Kvm, code: &[u8]) -> String {
    let mut machine = machine::Machine::new(kvm, Stages::of(&[])).unwrap();
    machine.memory.write_slice(code, guest::CODE).unwrap();
    let mut sregs = machine.vcpu.get_sregs().unwrap();
    sregs.idt.limit = 0;
    machine.vcpu.set_sregs(&sregs).unwrap();
    let fatal = Fatal::from(&machine.vcpu.run().unwrap());
    failure::describe(&mut machine.vcpu, &machine.memory, fatal)
}

#[test]
fn without_stages_the_guest_comes_to_its_end() {
    let Some(kvm) = kvm() else { return };
    let findings = trial::run(&kvm, Stages::of(&[]), TIME_MAX).unwrap();
    assert_eq!(findings.stages, [Stage::Done]);
}

#[test]
fn slow_is_what_software_would_do_as_well() {
    let native = Duration::from_micros(100);
    for (guest_us, expected) in [
        (90, Verdict::Usable),
        (799, Verdict::Usable),
        (800, Verdict::Slow { factor: 8 }),
        (50_000, Verdict::Slow { factor: 500 }),
    ] {
        assert_eq!(verdict(Duration::from_micros(guest_us), native), expected);
    }
    assert_eq!(verdict(Duration::MAX, Duration::ZERO), Verdict::Slow { factor: u32::MAX });
}

#[test]
fn the_guests_code_is_made_of_instructions_that_may_be_moved() {
    let start = guest::CODE.raw_value();
    let code = guest::code();
    let range = start..start + code.len() as u64;
    for instruction in Decoder::with_ip(64, code, start, DecoderOptions::NONE) {
        assert!(!instruction.is_invalid(), "at {:#x}", instruction.ip());
        let target = if instruction.is_ip_rel_memory_operand() {
            instruction.ip_rel_memory_address()
        } else {
            instruction.near_branch_target()
        };
        assert!(target == 0 || range.contains(&target), "{instruction:?} at {:#x}", instruction.ip());
    }
}

#[test]
fn every_exception_but_the_breakpoint_pushes_its_vector_first_or_behind_an_error_code() {
    // AMD64 manual, volume 2, section 8.4: those for which the processor pushes one itself.
    let with_error_code = [8, 10, 11, 12, 13, 14, 17, 21, 29, 30];
    for vector in (0..guest::EXCEPTIONS as u8).filter(|vector| *vector != 3) {
        let offset = (guest::exception_entry(vector) - guest::CODE.raw_value()) as usize;
        let [push, number, ..] = guest::code()[offset..] else { panic!("no code for {vector}") };
        let expected = if with_error_code.contains(&vector) { vector } else { 0 };
        assert_eq!((push, number), (0x6a, expected), "{vector}");
    }
}
