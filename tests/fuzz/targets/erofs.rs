//! See [`kiln_fuzz::erofs`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| kiln_fuzz::erofs::play(input));
