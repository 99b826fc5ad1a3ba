//! Which system calls a thread may make.
//!
//! A filter is a program that the kernel runs before every call
//! ([seccomp](https://docs.kernel.org/userspace-api/seccomp_filter.html)). These allow what is
//! listed and *trap* the rest: the call does not happen, and the thread gets SIGSYS. There is one
//! exception: a call newer than the table of names fails with `ENOSYS`, as on a kernel that lacks it.
//! No attacker gains by that, and a C library that tries something new before it does as ever goes on
//! working. An older call that is not listed is never made in good faith, so it is worth an alarm.
//!
//! Every filter allows what the Rust and C libraries do on their own, [`BASE`]. None allows to make
//! memory executable.

use crate::Error;
use crate::error::Kind;
use libc::{
    MADV_DONTNEED, MADV_FREE, MADV_HUGEPAGE, MADV_NOHUGEPAGE, SECCOMP_RET_ERRNO, SYS_brk, SYS_clock_gettime,
    SYS_clock_nanosleep, SYS_close, SYS_exit, SYS_exit_group, SYS_fcntl, SYS_futex, SYS_getpid,
    SYS_getrandom, SYS_gettid, SYS_ioctl, SYS_madvise, SYS_mmap, SYS_mprotect, SYS_mremap, SYS_munmap,
    SYS_nanosleep, SYS_restart_syscall, SYS_rseq, SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn,
    SYS_sched_getaffinity, SYS_sched_yield, SYS_set_robust_list, SYS_sigaltstack, SYS_tgkill, SYS_write,
    SYS_writev,
};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};
use std::cell::Cell;
use std::collections::BTreeMap;
use syscalls::Sysno;

/// A call that a thread may make. Several rules for one call are alternatives.
#[derive(Debug, Clone, Copy)]
pub enum Rule<'a> {
    /// The call of this number, whatever its arguments.
    Any(i64),
    /// The call of this number when all conditions hold. There is at least one.
    If(i64, &'a [Condition<'a>]),
    /// `ioctl` with one of these requests.
    Ioctl(&'a [u64]),
}

/// What an argument must be, counted from 0. Only its lower 32 bits are looked at: this is for arguments
/// of which the kernel takes no more, not for lengths and pointers.
#[derive(Debug, Clone, Copy)]
pub enum Condition<'a> {
    /// The argument of this index is one of these.
    OneOf(u8, &'a [u32]),
    /// The argument of this index has none of these bits.
    Lacks(u8, u32),
}

const PROT_EXEC: u32 = libc::PROT_EXEC.cast_unsigned();

/// `MADV_GUARD_INSTALL` and `MADV_GUARD_REMOVE` of `<linux/mman.h>`: stacks of glibc 2.42.
const MADV_GUARD: [u32; 2] = [102, 103];

/// The advice that allocators give. Others change what a file holds or what other processes share.
const ADVICE: &[u32] = &[
    MADV_DONTNEED.cast_unsigned(),
    MADV_FREE.cast_unsigned(),
    MADV_HUGEPAGE.cast_unsigned(),
    MADV_NOHUGEPAGE.cast_unsigned(),
    MADV_GUARD[0],
    MADV_GUARD[1],
];

/// The signals whose handlers `abort` and the standard library's stack overflow handler reset.
const FATAL: &[u32] =
    &[libc::SIGABRT.cast_unsigned(), libc::SIGBUS.cast_unsigned(), libc::SIGSEGV.cast_unsigned()];

/// What every thread may do. The list is longer than what one C library needs, as another version does
/// things otherwise.
const BASE: &[Rule<'_>] = &[
    // Memory: malloc, stacks, the random numbers of the vDSO (which look at the number of processors).
    Rule::Any(SYS_brk),
    Rule::If(SYS_mmap, &[Condition::Lacks(2, PROT_EXEC)]),
    Rule::If(SYS_mprotect, &[Condition::Lacks(2, PROT_EXEC)]),
    Rule::Any(SYS_mremap),
    Rule::Any(SYS_munmap),
    Rule::If(SYS_madvise, &[Condition::OneOf(2, ADVICE)]),
    Rule::Any(SYS_getrandom),
    Rule::Any(SYS_sched_getaffinity),
    // Waiting: locks, channels, sleep, and clocks where the vDSO has none.
    Rule::Any(SYS_futex),
    Rule::Any(SYS_sched_yield),
    Rule::Any(SYS_restart_syscall),
    Rule::Any(SYS_clock_gettime),
    Rule::Any(SYS_clock_nanosleep),
    Rule::Any(SYS_nanosleep),
    // Descriptors go, and debug builds look whether they are there.
    Rule::Any(SYS_close),
    Rule::If(SYS_fcntl, &[Condition::OneOf(1, &[libc::F_GETFD.cast_unsigned()])]),
    // Signals, panics, aborts: words on the standard error, then a signal to itself (see `compile`).
    Rule::Any(SYS_write),
    Rule::Any(SYS_writev),
    Rule::Any(SYS_getpid),
    Rule::Any(SYS_gettid),
    Rule::If(SYS_rt_sigaction, &[Condition::OneOf(0, FATAL)]),
    Rule::Any(SYS_rt_sigprocmask),
    Rule::Any(SYS_rt_sigreturn),
    Rule::Any(SYS_sigaltstack),
    // The end of a thread, and of the process.
    Rule::Any(SYS_exit),
    Rule::Any(SYS_exit_group),
    Rule::Any(SYS_rseq),
    Rule::Any(SYS_set_robust_list),
];

/// What a thread may do; everything else ends the process.
#[derive(Debug)]
pub struct Filter {
    name: &'static str,
    program: BpfProgram,
}

thread_local! {
    static NAME: Cell<&'static str> = const { Cell::new("main") };
}

/// Async-signal-safe: the value needs neither initialisation nor destruction.
pub(crate) fn name_of_this_thread() -> &'static str {
    NAME.get()
}

impl Filter {
    /// A filter for threads of this process, which `name` tells when one violates it, as in "the `name`
    /// thread".
    ///
    /// # Errors
    /// When a rule has no condition, one is about a seventh argument, or there are too many.
    pub fn compile(name: &'static str, rules: &[Rule<'_>]) -> Result<Self, Error> {
        let program = allow(rules).and_then(program).map_err(|error| Kind::Compile(name, error))?;
        Ok(Self { name, program })
    }

    /// Restricts the calling thread, for good, and all that it might start. Sets `no_new_privs`.
    ///
    /// # Errors
    /// When the kernel has no such filters.
    pub fn install(&self) -> Result<(), Error> {
        NAME.set(self.name);
        seccompiler::apply_filter(&self.program).map_err(|error| Kind::Install(self.name, error))?;
        Ok(())
    }
}

/// Alternatives for each call; none stands for all.
type Calls = BTreeMap<i64, Vec<SeccompRule>>;

fn allow(rules: &[Rule<'_>]) -> Result<Calls, BackendError> {
    // A signal to one of its own threads: to itself, to abort, or to wake another from a call.
    let own = [std::process::id()];
    let own = [Condition::OneOf(0, &own)];
    let mut calls = Calls::new();
    for rule in BASE.iter().chain(&[Rule::If(SYS_tgkill, &own)]).chain(rules) {
        match *rule {
            Rule::Any(call) => drop(calls.insert(call, Vec::new())),
            Rule::If(call, conditions) => add(&mut calls, call, alternatives(conditions)?),
            Rule::Ioctl(requests) => {
                let is = |request: &u64| SeccompRule::new(vec![compare(1, SeccompCmpOp::Eq, *request)?]);
                add(&mut calls, SYS_ioctl, requests.iter().map(is).collect::<Result<_, _>>()?);
            }
        }
    }
    Ok(calls)
}

fn add(calls: &mut Calls, call: i64, mut rules: Vec<SeccompRule>) {
    let unconditional = calls.get(&call).is_some_and(Vec::is_empty);
    if !unconditional && !rules.is_empty() {
        calls.entry(call).or_default().append(&mut rules);
    }
}

/// One rule for each combination of values.
fn alternatives(conditions: &[Condition<'_>]) -> Result<Vec<SeccompRule>, BackendError> {
    let mut combinations = vec![Vec::new()];
    for condition in conditions {
        let values = condition.values()?;
        let with_each = |before: Vec<_>| -> Vec<_> {
            values.iter().map(|value| before.iter().chain([value]).cloned().collect()).collect()
        };
        combinations = combinations.into_iter().flat_map(with_each).collect();
    }
    combinations.into_iter().map(SeccompRule::new).collect()
}

impl Condition<'_> {
    fn values(&self) -> Result<Vec<SeccompCondition>, BackendError> {
        match *self {
            Self::OneOf(index, values) => {
                values.iter().map(|value| compare(index, SeccompCmpOp::Eq, (*value).into())).collect()
            }
            Self::Lacks(index, bits) => Ok(vec![compare(index, SeccompCmpOp::MaskedEq(bits.into()), 0)?]),
        }
    }
}

fn compare(index: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, value)
}

fn program(calls: Calls) -> Result<BpfProgram, BackendError> {
    let filter = SeccompFilter::new(calls, SeccompAction::Trap, SeccompAction::Allow, TargetArch::x86_64)?;
    let listed: BpfProgram = filter.try_into()?;
    Ok(NEWER_CALLS_ARE_MISSING.iter().cloned().chain(listed).collect())
}

/// `nr` in `struct seccomp_data`, and the instructions of `<linux/bpf_common.h>`.
const NUMBER_OFFSET: u32 = 0;
const LOAD_WORD: u16 = 0x20;
const JUMP_IF_GREATER: u16 = 0x25;
const RETURN: u16 = 0x06;

/// Before the list is looked at.
const NEWER_CALLS_ARE_MISSING: [sock_filter; 3] = [
    sock_filter { code: LOAD_WORD, jt: 0, jf: 0, k: NUMBER_OFFSET },
    sock_filter { code: JUMP_IF_GREATER, jt: 0, jf: 1, k: Sysno::last().id().cast_unsigned() },
    sock_filter { code: RETURN, jt: 0, jf: 0, k: SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned() },
];

/// What x86-64 calls the system call of this number.
pub fn syscall_name(number: i64) -> &'static str {
    let known = usize::try_from(number).ok().and_then(Sysno::new);
    known.map_or("one without a name", |call| call.name())
}

#[cfg(test)]
mod tests;
