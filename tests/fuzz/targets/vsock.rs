//! See [`kiln_fuzz::vsock`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| kiln_fuzz::vsock::play(input));
