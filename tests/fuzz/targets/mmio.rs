//! See [`kiln_fuzz::mmio`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| kiln_fuzz::mmio::play(input));
