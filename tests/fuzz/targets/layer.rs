//! See [`kiln_fuzz::layer`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| kiln_fuzz::layer::play(input));
