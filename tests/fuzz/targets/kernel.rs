//! See [`kiln_fuzz::kernel`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| kiln_fuzz::kernel::play(input));
