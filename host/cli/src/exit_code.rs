//! Exit codes, listed in the README.

use kiln_builder::Class;

/// Added to a signal's number, as shells do.
const SIGNAL_BASE: u8 = 128;

/// The exit code of a failed `kiln build`.
pub fn of_build(class: Class) -> u8 {
    match class {
        Class::Other => 1,
        Class::Usage => 2,
        Class::StepExited(_) | Class::StepNotFound | Class::StepNotExecutable => 10,
        Class::StepSignaled(_) => 11,
        Class::ScratchFull => 12,
        Class::OutOfMemory => 13,
        Class::TimedOut => 14,
        Class::StepRebooted => 15,
        Class::CorruptInput => 20,
        Class::DigestMismatch => 21,
        Class::TruncatedInput => 22,
        Class::NoEngine => 30,
        Class::Machine => 31,
        Class::Interrupted(signal) => of_signal(signal),
    }
}

/// The exit code of a `kiln run` that did not end with 0: the command's own as far as there is
/// one, then as `docker run` and timeout(1).
pub fn of_run(class: Class) -> u8 {
    match class {
        Class::StepExited(code) => code,
        Class::StepSignaled(signal) => of_signal(signal.into()),
        Class::StepNotExecutable => 126,
        Class::StepNotFound => 127,
        Class::TimedOut => 124,
        Class::Interrupted(signal) => of_signal(signal),
        // The kernel's out-of-memory killer sends SIGKILL (9).
        Class::OutOfMemory => of_signal(9),
        _ => 125,
    }
}

fn of_signal(signal: i32) -> u8 {
    u8::try_from(signal).map_or(u8::MAX, |signal| SIGNAL_BASE.saturating_add(signal))
}
