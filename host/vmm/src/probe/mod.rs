//! Whether KVM can run Linux here: a tiny guest that tries what a kernel cannot do without.
