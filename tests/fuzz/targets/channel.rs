//! See [`kiln_fuzz::channel`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| kiln_fuzz::channel::play(input));
