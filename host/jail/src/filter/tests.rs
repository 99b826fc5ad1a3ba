//! Filters are judged by running them, on a machine of their own.

use super::*;
use libc::{SECCOMP_RET_ALLOW, SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_TRAP};

const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;
const X32: i64 = 0x4000_0000;

/// The kernel's answer, by the instructions that seccompiler makes.
fn judge(filter: &Filter, architecture: u32, call: i64, arguments: [u64; 6]) -> u32 {
    let word = |offset: u32| match offset {
        0 => call as u32,
        4 => architecture,
        16.. => (arguments[(offset as usize - 16) / 8] >> (offset % 8 * 8)) as u32,
        _ => panic!("{offset} is in no field"),
    };
    let (mut at, mut accumulator) = (0, 0);
    loop {
        let instruction = &filter.program[at];
        let jump = |taken| usize::from(if taken { instruction.jt } else { instruction.jf });
        at += 1;
        match (instruction.code, instruction.k) {
            (0x20, offset) => accumulator = word(offset),
            (0x05, distance) => at += distance as usize,
            (0x15, k) => at += jump(accumulator == k),
            (0x25, k) => at += jump(accumulator > k),
            (0x35, k) => at += jump(accumulator >= k),
            (0x54, k) => accumulator &= k,
            (0x06, answer) => return answer,
            (code, _) => panic!("instruction {code:#x}"),
        }
    }
}

fn answer(rules: &[Rule<'_>], call: i64, arguments: [u64; 6]) -> u32 {
    judge(&Filter::compile("test", rules).unwrap(), X86_64, call, arguments)
}

fn allows(rules: &[Rule<'_>], call: i64, arguments: [u64; 6]) -> bool {
    match answer(rules, call, arguments) {
        SECCOMP_RET_ALLOW => true,
        SECCOMP_RET_TRAP => false,
        other => panic!("{other:#x}"),
    }
}

#[test]
fn only_what_is_listed_is_allowed() {
    let rules = [Rule::Any(libc::SYS_read), Rule::Ioctl(&[0xae80, 5])];
    for (call, arguments, allowed) in [
        (libc::SYS_read, [0; 6], true),
        (libc::SYS_pread64, [0; 6], false),
        (SYS_ioctl, [3, 0xae80, 0, 0, 0, 0], true),
        // The kernel takes 32 bits.
        (SYS_ioctl, [3, 0xffff_ffff_0000_0005, 0, 0, 0, 0], true),
        (SYS_ioctl, [3, 0xae81, 0, 0, 0, 0], false),
        (SYS_ioctl, [0xae80, 0, 0xae80, 0, 0, 0], false),
    ] {
        assert_eq!(allows(&rules, call, arguments), allowed, "{} {arguments:x?}", syscall_name(call));
    }
}

#[test]
fn what_every_thread_may_do_is_limited_too() {
    let own = u64::from(std::process::id());
    for (call, arguments, allowed) in [
        (SYS_mmap, [0, 4096, 3, 0, 0, 0], true),
        (SYS_mmap, [0, 4096, 5, 0, 0, 0], false),
        (SYS_mprotect, [0, 4096, 7, 0, 0, 0], false),
        (SYS_mprotect, [0, 4096, 1 << 32 | 4, 0, 0, 0], false),
        (SYS_madvise, [0, 4096, 4, 0, 0, 0], true),
        (SYS_madvise, [0, 4096, 9, 0, 0, 0], false),
        (SYS_tgkill, [own, 1, 6, 0, 0, 0], true),
        (SYS_tgkill, [own + 1, 1, 6, 0, 0, 0], false),
        (SYS_rt_sigaction, [6, 0, 0, 0, 0, 0], true),
        (SYS_rt_sigaction, [31, 0, 0, 0, 0, 0], false),
        (SYS_fcntl, [3, 1, 0, 0, 0, 0], true),
        (SYS_fcntl, [3, 4, 0, 0, 0, 0], false),
    ] {
        assert_eq!(allows(&[], call, arguments), allowed, "{} {arguments:x?}", syscall_name(call));
    }
}

#[test]
fn nothing_that_reaches_others_is_in_every_filter() {
    for call in Sysno::first().id()..=Sysno::last().id() {
        let name = syscall_name(call.into());
        let reaches =
            ["open", "clone", "fork", "exec", "kill", "ptrace", "socket", "connect", "process_vm", "stat"];
        if reaches.iter().any(|part| name.contains(part)) {
            assert!(!allows(&[], call.into(), [0; 6]), "{name}");
        }
    }
}

#[test]
fn several_conditions_must_all_hold_and_several_rules_are_alternatives() {
    let call = libc::SYS_setsockopt;
    let rules = [
        Rule::If(call, &[Condition::OneOf(1, &[1, 2]), Condition::OneOf(2, &[7, 8])]),
        Rule::If(call, &[Condition::OneOf(1, &[3]), Condition::Lacks(2, 0b101)]),
    ];
    for (level, option, allowed) in
        [(1, 7, true), (2, 8, true), (1, 9, false), (3, 7, false), (3, 0b1010, true), (4, 7, false)]
    {
        assert_eq!(allows(&rules, call, [0, level, option, 0, 0, 0]), allowed, "{level} {option}");
    }
}

#[test]
fn a_rule_without_conditions_stands_above_those_with() {
    let conditional = Rule::If(libc::SYS_fcntl, &[Condition::OneOf(1, &[4])]);
    for rules in [[Rule::Any(SYS_fcntl), conditional], [conditional, Rule::Any(SYS_fcntl)]] {
        assert!(allows(&rules, SYS_fcntl, [3, 9, 0, 0, 0, 0]));
    }
    assert!(!allows(&[Rule::Ioctl(&[])], SYS_ioctl, [0; 6]), "no request is not every request");
    assert!(!allows(&[Rule::If(SYS_ioctl, &[Condition::OneOf(1, &[])])], SYS_ioctl, [0; 6]));
}

#[test]
fn rules_that_cannot_be_are_refused() {
    let error = Filter::compile("disk", &[Rule::If(SYS_ioctl, &[])]).unwrap_err();
    assert_eq!(error.to_string(), "cannot compile the system call filter of the disk thread");
    assert!(Filter::compile("disk", &[Rule::If(SYS_ioctl, &[Condition::OneOf(6, &[1])])]).is_err());
}

#[test]
fn newer_calls_do_not_exist_and_other_architectures_are_not_spoken() {
    let missing = SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    let newest = i64::from(Sysno::last().id());
    assert_eq!(answer(&[], newest, [0; 6]), SECCOMP_RET_TRAP);
    assert_eq!(answer(&[Rule::Any(newest + 1)], newest + 1, [0; 6]), missing);
    assert_eq!(answer(&[], X32 | SYS_write, [0; 6]), missing);
    let filter = Filter::compile("test", &[]).unwrap();
    assert_eq!(judge(&filter, I386, 1, [0; 6]), SECCOMP_RET_KILL_PROCESS);
}

#[test]
fn calls_have_their_names() {
    assert_eq!(syscall_name(libc::SYS_openat), "openat");
    for number in [-1, 400, i64::MAX] {
        assert_eq!(syscall_name(number), "one without a name");
    }
}
