//! Exit codes, listed in the README.

use kiln_builder::Class;

/// Added to a signal's number, as shells do.
const SIGNAL_BASE: u8 = 128;

/// A registry failed, or refused, or has not what was asked for.
pub const REGISTRY: u8 = 40;

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

/// The class of whatever failed.
pub fn class(error: &anyhow::Error) -> Class {
    error.chain().find_map(class_of_cause).unwrap_or(Class::Other)
}

/// Of a cause that says more than that something failed.
fn class_of_cause(cause: &(dyn std::error::Error + 'static)) -> Option<Class> {
    let class = if let Some(error) = cause.downcast_ref::<kiln_builder::Error>() {
        error.class()
    } else if let Some(error) = cause.downcast_ref::<kiln_transport::Error>() {
        let is_wrong = error.is_corrupt() || error.is_unsupported();
        of_input(error.is_truncated(), error.is_digest_mismatch(), is_wrong, error.is_usage())
    } else if let Some(error) = cause.downcast_ref::<kiln_image::Error>() {
        let is_wrong = error.is_corrupt() || error.is_unsupported();
        of_input(error.is_truncated(), error.is_digest_mismatch(), is_wrong, error.is_choice())
    } else if let Some(error) = cause.downcast_ref::<kiln_disk::Error>() {
        let is_wrong = error.is_corrupt() || error.is_unsupported();
        of_input(error.is_truncated(), false, is_wrong, false)
    } else if let Some(inner) = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        // Whose own cause is not the error in it, but that one's.
        return class_of_cause(inner);
    } else {
        Class::Other
    };
    (class != Class::Other).then_some(class)
}

fn of_input(is_truncated: bool, is_mismatch: bool, is_wrong: bool, is_usage: bool) -> Class {
    match (is_truncated, is_mismatch, is_wrong, is_usage) {
        (true, ..) => Class::TruncatedInput,
        (_, true, ..) => Class::DigestMismatch,
        (_, _, true, _) => Class::CorruptInput,
        (.., true) => Class::Usage,
        _ => Class::Other,
    }
}

/// Whether a registry failed, or refused, or has not what was asked for.
pub fn is_of_registry(error: &anyhow::Error) -> bool {
    let of_transport = |error: &kiln_transport::Error| error.registry_error().is_some();
    error
        .chain()
        .any(|cause| cause.is::<kiln_registry::Error>() || cause.downcast_ref().is_some_and(of_transport))
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
