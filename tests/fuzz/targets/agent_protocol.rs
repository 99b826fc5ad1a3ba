//! See [`kiln_fuzz::agent_protocol`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| kiln_fuzz::agent_protocol::play(input));
