//! See [`kiln_fuzz::disk_format`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| kiln_fuzz::disk_format::play(input));
