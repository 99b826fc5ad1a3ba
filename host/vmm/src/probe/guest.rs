//! The tiny guest itself: its code, which lies in this program.
//!
//! The code is copied to [`CODE`] in a machine whose memory is mapped one to one, so it addresses itself
//! relative to the instruction pointer and its data by number. It runs the [`Stage`]s whose bits are set
//! in `r15`, each announced by its number at [`STAGE`]. What it finds wrong it says at [`WRONG`], an
//! exception at [`EXCEPTION`], with the vector, the error code and the processor's frame on the stack.
//! These are addresses without memory, so that a write to them comes back from `KVM_RUN`. Ports would do
//! for a kernel, but not for ring 3: on some hosts `iretq` cannot give it the right to them.

#![allow(unsafe_code)] // Assembly, its bytes, the loop called as a function.

use super::stage::Stage;
use super::tables::{FLAGS, USER_CODE, USER_DATA};
use std::arch::global_asm;
use vm_memory::{Address, GuestAddress};

/// Where the guest's code is.
pub const CODE: GuestAddress = GuestAddress(0x8000);
/// 64 bytes to work on.
const SCRATCH: u64 = 0xa000;
/// Where the processor's extended state is saved to.
const XSAVE_AREA: u64 = 0xb000;
/// Stacks grow down from here: one for the start and ring 3, one for what interrupts ring 3.
pub const STACK: u64 = 0xe000;
pub const INTERRUPT_STACK: u64 = 0xf000;

/// Memory of the guest, which uses the first 64 KiB of it.
pub const MEMORY_MIB: u32 = 1;
/// Where the guest speaks, one byte at a time: right behind its memory.
pub const STAGE: u64 = (MEMORY_MIB as u64) << 20;
pub const WRONG: u64 = STAGE + 1;
pub const EXCEPTION: u64 = STAGE + 2;

/// How often the loop is timed; the best counts.
const ROUNDS: u32 = 5;
/// Turns of the loop per round: long beside an exit, short where ring 0 is emulated.
pub const TURNS: u32 = 200_000;

/// Vectors that are the processor's own (Intel SDM, volume 3, section 6.3.1).
pub const EXCEPTIONS: usize = 32;
/// From one exception's entry to the next one's.
const ENTRY_BYTES: u64 = 16;
/// Exceptions that push an error code, by their bits (AMD64 manual, volume 2, section 8.4).
const WITH_ERROR_CODE: u32 = 0x6022_7d00;

global_asm!(
    // Goes on behind `otherwise` unless the stage is wanted; announces it.
    ".macro kiln_stage number:req, otherwise:req",
    "    bt r15, \\number",
    "    jnc \\otherwise",
    "    kiln_announce \\number",
    ".endm",
    ".macro kiln_announce number:req",
    "    mov byte ptr [{STAGE}], \\number",
    ".endm",
    // Skips what the processor does not have: CPUID's leaf, its register, its bit.
    ".macro kiln_feature leaf:req, register:req, bit:req, otherwise:req",
    "    xor eax, eax",
    "    cpuid",
    "    cmp eax, \\leaf",
    "    jb \\otherwise",
    "    mov eax, \\leaf",
    "    xor ecx, ecx",
    "    cpuid",
    "    bt \\register, \\bit",
    "    jnc \\otherwise",
    ".endm",
    // Says that something is wrong unless the condition holds.
    ".macro kiln_check condition:req",
    "    j\\condition 99f",
    "    mov byte ptr [{WRONG}], 0",
    "99:",
    ".endm",
    ".pushsection .text.kiln_probe, \"ax\", @progbits",
    ".balign 64",
    ".globl kiln_probe_begin",
    ".hidden kiln_probe_begin",
    "kiln_probe_begin:",
    // A loop without end, for the test of the watchdog.
    "    kiln_stage {HANG}, 20f",
    "19: jmp 19b",
    // An exception that nobody awaits, for the test of what is said of one.
    "20: kiln_stage {UNDEFINED}, 20f",
    "    ud2",
    // int3 through an interrupt gate and back. The handler counts in r14.
    "20: kiln_stage {BREAKPOINT}, 21f",
    "    xor r14d, r14d",
    "    int3",
    "    cmp r14d, 1",
    "    kiln_check e",
    // Locks, reference counts and pointers with a version.
    "21: kiln_feature 1, ecx, 13, 22f",
    "    kiln_stage {EXCHANGE}, 22f",
    "    mov edi, {SCRATCH}",
    "    xor eax, eax",
    "    xor edx, edx",
    "    mov ebx, 0x1111",
    "    mov ecx, 0x2222",
    "    lock cmpxchg16b [rdi]",
    "    kiln_check e",
    "    cmp [rdi], rbx",
    "    kiln_check e",
    "    cmp [rdi + 8], rcx",
    "    kiln_check e",
    // Access to programs' memory, switched on and off. Bit 18 is "alignment check".
    "22: kiln_feature 7, ebx, 20, 23f",
    "    kiln_stage {STAC}, 23f",
    "    stac",
    "    pushfq",
    "    pop rax",
    "    bt eax, 18",
    "    kiln_check c",
    "    clac",
    "    pushfq",
    "    pop rax",
    "    bt eax, 18",
    "    kiln_check nc",
    // Bit sets.
    "23: kiln_feature 1, ecx, 23, 24f",
    "    kiln_stage {POPCNT}, 24f",
    "    mov ecx, 0xf0f0",
    "    popcnt ecx, ecx",
    "    cmp ecx, 8",
    "    kiln_check e",
    // A program's registers saved and restored: CR4.OSXSAVE, then x87 and SSE into XCR0.
    "24: kiln_feature 1, ecx, 26, 25f",
    "    kiln_stage {XSAVE}, 25f",
    "    mov rax, cr4",
    "    bts rax, 18",
    "    mov cr4, rax",
    "    xor ecx, ecx",
    "    xgetbv",
    "    or al, 3",
    "    xsetbv",
    "    fninit",
    "    mov edi, {XSAVE_AREA}",
    "    mov eax, 3",
    "    xor edx, edx",
    "    xsave64 [rdi]",
    "    cmp word ptr [rdi], 0x37f",
    "    kiln_check e",
    "    mov eax, 3",
    "    xor edx, edx",
    "    xrstor64 [rdi]",
    // The kernel's own floating point begins with this one.
    "25: kiln_stage {LDMXCSR}, 26f",
    "    mov edi, {SCRATCH}",
    "    mov dword ptr [rdi + 32], 0x1fa0",
    "    ldmxcsr [rdi + 32]",
    "    stmxcsr [rdi + 36]",
    "    cmp dword ptr [rdi + 36], 0x1fa0",
    "    kiln_check e",
    // SSE, as in checksums and encryption.
    "26: kiln_stage {SSE}, 27f",
    "    mov edi, {SCRATCH}",
    "    mov dword ptr [rdi + 16], 0x3333",
    "    movaps xmm0, [rdi + 16]",
    "    movdqa xmm1, xmm0",
    "    paddd xmm1, xmm0",
    "    movaps [rdi + 48], xmm1",
    "    cmp dword ptr [rdi + 48], 0x6666",
    "    kiln_check e",
    // To ring 3 and back, twice: the first time by `iretq`, as to a new program, then by `sysretq`.
    "27: kiln_stage {ENTER_RING_3}, 40f",
    "    xor r13d, r13d",
    "    push {USER_DATA}",
    "    push {STACK}",
    "    push {USER_FLAGS}",
    "    push {USER_CODE}",
    "    lea rax, [rip + 30f]",
    "    push rax",
    "    iretq",
    "30: kiln_announce {SYSCALL}",
    "    syscall",
    "    kiln_announce {SYSCALL_AGAIN}",
    "    inc r13d",
    "    syscall",
    ".globl kiln_probe_syscall_entry",
    ".hidden kiln_probe_syscall_entry",
    "kiln_probe_syscall_entry:",
    "    test r13d, r13d",
    "    jnz 31f",
    "    kiln_announce {SYSRET}",
    // Only ring 0 may.
    "    mov rax, cr3",
    "    sysretq",
    "31: kiln_announce {RETURNED}",
    "    mov rax, cr3",
    // The loop.
    "40: kiln_stage {LOOP}, 43f",
    "    mov esp, {STACK}",
    "    mov ebx, {ROUNDS}",
    "42: kiln_announce {LOOP_BEGIN}",
    "    mov edi, {TURNS}",
    "    call kiln_probe_loop",
    "    kiln_announce {LOOP_END}",
    "    dec ebx",
    "    jnz 42b",
    "43: kiln_announce {DONE}",
    "44: hlt",
    "    jmp 44b",
    // What is timed, here as there.
    ".balign 64",
    ".globl kiln_probe_loop",
    ".hidden kiln_probe_loop",
    "kiln_probe_loop:",
    "50: dec rdi",
    "    jnz 50b",
    "    ret",
    // The breakpoint's handler.
    ".globl kiln_probe_breakpoint",
    ".hidden kiln_probe_breakpoint",
    "kiln_probe_breakpoint:",
    "    inc r14d",
    "    iretq",
    // One entry for each exception, which all leave the same on the stack.
    ".balign {ENTRY_BYTES}",
    ".globl kiln_probe_exceptions",
    ".hidden kiln_probe_exceptions",
    "kiln_probe_exceptions:",
    ".set kiln_vector, 0",
    ".rept {EXCEPTIONS}",
    "    .balign {ENTRY_BYTES}",
    "    .if (({WITH_ERROR_CODE} >> kiln_vector) & 1) == 0",
    "    push 0",
    "    .endif",
    "    push kiln_vector",
    "    jmp 60f",
    "    .set kiln_vector, kiln_vector + 1",
    ".endr",
    "60: mov al, [rsp]",
    "    mov [{EXCEPTION}], al",
    "    jmp 44b",
    ".globl kiln_probe_end",
    ".hidden kiln_probe_end",
    "kiln_probe_end:",
    ".popsection",
    STAGE = const STAGE,
    WRONG = const WRONG,
    EXCEPTION = const EXCEPTION,
    HANG = const Stage::Hang as u8,
    UNDEFINED = const Stage::Undefined as u8,
    BREAKPOINT = const Stage::Breakpoint as u8,
    EXCHANGE = const Stage::Exchange as u8,
    STAC = const Stage::Stac as u8,
    POPCNT = const Stage::Popcnt as u8,
    XSAVE = const Stage::Xsave as u8,
    LDMXCSR = const Stage::Ldmxcsr as u8,
    SSE = const Stage::Sse as u8,
    ENTER_RING_3 = const Stage::EnterRing3 as u8,
    SYSCALL = const Stage::Syscall as u8,
    SYSRET = const Stage::Sysret as u8,
    SYSCALL_AGAIN = const Stage::SyscallAgain as u8,
    RETURNED = const Stage::Returned as u8,
    LOOP = const Stage::Loop as u8,
    LOOP_BEGIN = const Stage::LoopBegin as u8,
    LOOP_END = const Stage::LoopEnd as u8,
    DONE = const Stage::Done as u8,
    SCRATCH = const SCRATCH,
    XSAVE_AREA = const XSAVE_AREA,
    STACK = const STACK,
    USER_DATA = const USER_DATA,
    USER_CODE = const USER_CODE,
    USER_FLAGS = const FLAGS,
    ROUNDS = const ROUNDS,
    TURNS = const TURNS,
    EXCEPTIONS = const EXCEPTIONS,
    ENTRY_BYTES = const ENTRY_BYTES,
    WITH_ERROR_CODE = const WITH_ERROR_CODE,
);

unsafe extern "C" {
    static kiln_probe_begin: u8;
    static kiln_probe_syscall_entry: u8;
    static kiln_probe_breakpoint: u8;
    static kiln_probe_exceptions: u8;
    static kiln_probe_end: u8;
    #[link_name = "kiln_probe_loop"]
    fn native_loop(turns: u64);
}

/// The guest's code, to be copied to [`CODE`].
pub fn code() -> &'static [u8] {
    let length = offset(&raw const kiln_probe_end);
    // SAFETY: the two symbols enclose the assembly above, which is in one section and never changes.
    unsafe { std::slice::from_raw_parts(&raw const kiln_probe_begin, length as usize) }
}

/// Where `syscall` leads to.
pub fn syscall_entry() -> u64 {
    CODE.raw_value() + offset(&raw const kiln_probe_syscall_entry)
}

/// Where an exception leads to.
pub fn exception_entry(vector: u8) -> u64 {
    const BREAKPOINT: u8 = 3;
    CODE.raw_value()
        + match vector {
            BREAKPOINT => offset(&raw const kiln_probe_breakpoint),
            _ => offset(&raw const kiln_probe_exceptions) + u64::from(vector) * ENTRY_BYTES,
        }
}

/// Runs the loop as the host's own program.
pub fn run_natively() {
    // SAFETY: the function above takes its one argument where C has it, counts it down and returns.
    unsafe { native_loop(TURNS.into()) }
}

fn offset(symbol: *const u8) -> u64 {
    symbol as u64 - &raw const kiln_probe_begin as u64
}
