//! One instruction in words: what it is, and where its bytes come from.
//!
//! The bytes are the guest's, so they may be anything; at most [`BYTES_MAX`] of them are looked at.

use iced_x86::{Decoder, DecoderError, DecoderOptions, FastFormatter, Instruction};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// No instruction is longer (Intel SDM, volume 2, section 2.3.11).
pub const BYTES_MAX: usize = 15;

/// Addresses are translated in pieces of so many bytes.
const PAGE_BYTES: u64 = 4096;

/// How the processor reads instructions: bits of addresses and operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// Real mode, or a segment of that kind.
    Bits16,
    /// Protected mode.
    Bits32,
    /// Long mode.
    Bits64,
}

/// Names the instruction that `bytes` begin with, which is at `address`, its bytes behind it in
/// hexadecimal.
pub fn name(bytes: &[u8], width: Width, address: u64) -> String {
    let bytes = &bytes[..bytes.len().min(BYTES_MAX)];
    if bytes.is_empty() {
        return "an instruction that cannot be read".to_owned();
    }
    let mut decoder = Decoder::with_ip(bits(width), bytes, address, DecoderOptions::NONE);
    let instruction = decoder.decode();
    match decoder.last_error() {
        DecoderError::None => {
            format!("the instruction `{}` ({})", text(&instruction), hexadecimal(&bytes[..instruction.len()]))
        }
        DecoderError::NoMoreBytes if bytes.len() < BYTES_MAX => {
            format!("the instruction that begins with {} and cannot be read on", hexadecimal(bytes))
        }
        _ => format!("{}, which begin no instruction known", hexadecimal(bytes)),
    }
}

/// Reads up to [`BYTES_MAX`] bytes from a linear address on, as far as `translate` knows the way to a
/// physical one.
pub fn read(memory: &GuestMemoryMmap, linear: u64, translate: impl Fn(u64) -> Option<u64>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(BYTES_MAX);
    while bytes.len() < BYTES_MAX {
        let Some(at) = linear.checked_add(bytes.len() as u64) else { break };
        let Some(physical) = translate(at) else { break };
        let until_page_end = PAGE_BYTES - at % PAGE_BYTES;
        let wanted = (BYTES_MAX - bytes.len()).min(until_page_end as usize);
        let mut piece = [0; BYTES_MAX];
        let Ok(count) = memory.read(&mut piece[..wanted], GuestAddress(physical)) else { break };
        bytes.extend_from_slice(&piece[..count]);
        if count < wanted {
            break;
        }
    }
    bytes
}

fn bits(width: Width) -> u32 {
    match width {
        Width::Bits16 => 16,
        Width::Bits32 => 32,
        Width::Bits64 => 64,
    }
}

fn text(instruction: &Instruction) -> String {
    let mut formatter = FastFormatter::new();
    formatter.options_mut().set_use_hex_prefix(true);
    formatter.options_mut().set_uppercase_hex(false);
    formatter.options_mut().set_space_after_operand_separator(true);
    let mut text = String::new();
    formatter.format(instruction, &mut text);
    text
}

fn hexadecimal(bytes: &[u8]) -> String {
    let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    pairs.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An address in Linux' own half.
    const ADDRESS: u64 = 0xffff_ffff_8123_4567;

    #[test]
    fn instructions_have_names() {
        for (bytes, expected) in [
            (&[0xcc][..], "the instruction `int3` (cc)"),
            (
                &[0xf0, 0x48, 0x0f, 0xc7, 0x0f, 0x90],
                "the instruction `lock cmpxchg16b [rdi]` (f0 48 0f c7 0f)",
            ),
            (&[0x0f, 0x01, 0xca], "the instruction `clac` (0f 01 ca)"),
            (&[0x0f, 0x01, 0xcb], "the instruction `stac` (0f 01 cb)"),
            (&[0xf3, 0x48, 0x0f, 0xb8, 0xc7], "the instruction `popcnt rax, rdi` (f3 48 0f b8 c7)"),
            (&[0x48, 0x0f, 0xae, 0x27], "the instruction `xsave64 [rdi]` (48 0f ae 27)"),
            (&[0x0f, 0xc7, 0x2f], "the instruction `xsaves [rdi]` (0f c7 2f)"),
            (&[0x48, 0x0f, 0xae, 0x2f], "the instruction `xrstor64 [rdi]` (48 0f ae 2f)"),
            (&[0x0f, 0xae, 0x54, 0x24, 0xfc], "the instruction `ldmxcsr [rsp-0x4]` (0f ae 54 24 fc)"),
            (&[0x0f, 0x28, 0x06], "the instruction `movaps xmm0, [rsi]` (0f 28 06)"),
            (&[0xc5, 0xf8, 0x77], "the instruction `vzeroupper` (c5 f8 77)"),
            (
                &[0x62, 0xf1, 0x7c, 0x48, 0x28, 0x06],
                "the instruction `vmovaps zmm0, [rsi]` (62 f1 7c 48 28 06)",
            ),
            (
                &[0x8b, 0x05, 0x10, 0, 0, 0],
                "the instruction `mov eax, [0xffffffff8123457d]` (8b 05 10 00 00 00)",
            ),
        ] {
            assert_eq!(name(bytes, Width::Bits64, ADDRESS), expected);
        }
    }

    #[test]
    fn what_is_no_instruction_is_told_apart_from_what_is_cut_off() {
        for (bytes, expected) in [
            (&[][..], "an instruction that cannot be read"),
            (&[0x06, 0xff], "06 ff, which begin no instruction known"),
            (&[0x48, 0x0f], "the instruction that begins with 48 0f and cannot be read on"),
            (
                // One prefix more than any instruction has room for.
                &[0x66; 15],
                "66 66 66 66 66 66 66 66 66 66 66 66 66 66 66, which begin no instruction known",
            ),
        ] {
            assert_eq!(name(bytes, Width::Bits64, ADDRESS), expected);
        }
    }

    #[test]
    fn the_same_bytes_are_others_in_other_modes() {
        let bytes = [0x48, 0x89, 0xc8];
        assert_eq!(name(&bytes, Width::Bits64, 0), "the instruction `mov rax, rcx` (48 89 c8)");
        assert_eq!(name(&bytes, Width::Bits32, 0), "the instruction `dec eax` (48)");
        assert_eq!(name(&bytes, Width::Bits16, 0), "the instruction `dec ax` (48)");
    }

    #[test]
    fn bytes_are_read_across_pages_as_far_as_they_are_mapped() {
        let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 0x4000)]).unwrap();
        memory.write_slice(&[1, 2, 3, 4], GuestAddress(0x1ffc)).unwrap();
        memory.write_slice(&[5; BYTES_MAX], GuestAddress(0x3000)).unwrap();
        let both = |linear: u64| match linear & !0xfff {
            0x7000 => Some(0x1000 + linear % PAGE_BYTES),
            0x8000 => Some(0x3000 + linear % PAGE_BYTES),
            _ => None,
        };
        let first = |linear: u64| both(linear).filter(|_| linear < 0x8000);
        assert_eq!(read(&memory, 0x7ffc, both), [1, 2, 3, 4, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5]);
        assert_eq!(read(&memory, 0x7ffc, first), [1, 2, 3, 4]);
        assert_eq!(read(&memory, 0x9000, both), []);
    }

    #[test]
    fn bytes_are_read_to_the_end_of_memory_and_of_addresses() {
        let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 0x1000)]).unwrap();
        assert_eq!(read(&memory, 0xffc, Some).len(), 4);
        assert_eq!(read(&memory, 0x1000, Some), []);
        assert_eq!(read(&memory, u64::MAX - 3, |_| Some(0)).len(), 4);
    }

    proptest! {
        #[test]
        fn any_bytes_have_a_name_of_bounded_length(bytes: Vec<u8>, address: u64) {
            for width in [Width::Bits16, Width::Bits32, Width::Bits64] {
                prop_assert!(name(&bytes, width, address).len() < 300);
            }
        }
    }
}
