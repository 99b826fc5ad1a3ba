//! What `struct kvm_run` says beside the exit's reason. It is a union, whose meaning the reason decides.
//!
//! See [`KVM_EXIT_INTERNAL_ERROR`](https://docs.kernel.org/virt/kvm/api.html#the-kvm-run-structure).

#![allow(unsafe_code)] // `kvm_run` is a union; nobody else reads it.

use kvm_bindings::{
    KVM_EXIT_INTERNAL_ERROR, KVM_INTERNAL_ERROR_EMULATION,
    KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES, kvm_run,
};

/// What KVM says of an error of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InternalError {
    /// One of `KVM_INTERNAL_ERROR_*`.
    pub suberror: u32,
    /// What belongs to it, where KVM says so.
    pub data: Vec<u64>,
}

/// Words of `kvm_run.emulation_failure` with flags and instruction: KVM counts them so.
const EMULATION_FAILURE_WORDS: usize = 3;

impl InternalError {
    /// Reads it after an exit for `KVM_EXIT_INTERNAL_ERROR`, and only then.
    pub fn read(run: &kvm_run) -> Option<Self> {
        if run.exit_reason != KVM_EXIT_INTERNAL_ERROR {
            return None;
        }
        // SAFETY: the reason says that `internal` is the member; as it is made of integers, any bytes do.
        let internal = unsafe { run.__bindgen_anon_1.internal };
        let count = usize::try_from(internal.ndata).unwrap_or(usize::MAX).min(internal.data.len());
        Some(Self { suberror: internal.suberror, data: internal.data[..count].to_vec() })
    }

    /// The bytes from the instruction on that KVM could not execute, when it gives them.
    pub fn instruction(&self) -> Option<Vec<u8>> {
        let [flags, words @ ..] = self.data.as_slice() else { return None };
        let given = flags & u64::from(KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES) != 0;
        if self.suberror != KVM_INTERNAL_ERROR_EMULATION
            || !given
            || words.len() < EMULATION_FAILURE_WORDS - 1
        {
            return None;
        }
        // `insn_size`, then `insn_bytes`, as they lie in memory.
        let bytes: Vec<u8> = words.iter().take(2).flat_map(|word| word.to_le_bytes()).collect();
        let (&size, bytes) = bytes.split_first()?;
        Some(bytes[..usize::from(size).min(bytes.len())].to_vec()).filter(|bytes| !bytes.is_empty())
    }
}
