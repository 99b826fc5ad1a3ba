//! What the tiny guest tries, in the order in which it does.

/// The guest announces each by its number, just before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// Does nothing for ever; never asked for but by a test.
    Hang,
    /// Causes an exception; likewise.
    Undefined,
    Breakpoint,
    Exchange,
    Stac,
    Popcnt,
    Xsave,
    Ldmxcsr,
    Sse,
    EnterRing3,
    /// Announced in ring 3.
    Syscall,
    /// Announced where `syscall` leads to.
    Sysret,
    /// Announced in ring 3 again.
    SyscallAgain,
    /// Announced where `syscall` leads to again.
    Returned,
    Loop,
    LoopBegin,
    LoopEnd,
    Done,
}

/// Every stage at its number.
const ALL: [Stage; 18] = [
    Stage::Hang,
    Stage::Undefined,
    Stage::Breakpoint,
    Stage::Exchange,
    Stage::Stac,
    Stage::Popcnt,
    Stage::Xsave,
    Stage::Ldmxcsr,
    Stage::Sse,
    Stage::EnterRing3,
    Stage::Syscall,
    Stage::Sysret,
    Stage::SyscallAgain,
    Stage::Returned,
    Stage::Loop,
    Stage::LoopBegin,
    Stage::LoopEnd,
    Stage::Done,
];

impl Stage {
    /// The stage that the guest announces by `number`.
    pub fn from_number(number: u8) -> Option<Self> {
        ALL.get(usize::from(number)).copied()
    }

    /// The ring in which it begins.
    pub fn ring(self) -> u8 {
        match self {
            Self::Syscall | Self::SyscallAgain => 3,
            _ => 0,
        }
    }

    /// What is tried from its announcement to the next one.
    pub fn what(self) -> &'static str {
        match self {
            Self::Hang => "a loop without end",
            Self::Undefined => "an undefined instruction",
            Self::Breakpoint => "a breakpoint in ring 0, and the return from its handler",
            Self::Exchange => "a locked exchange of 16 bytes in ring 0",
            Self::Stac => "access to programs' memory, switched on and off in ring 0",
            Self::Popcnt => "counting bits in ring 0",
            Self::Xsave => "saving and restoring a program's registers in ring 0",
            Self::Ldmxcsr => "setting up floating point in ring 0",
            Self::Sse => "computing with SSE in ring 0",
            Self::EnterRing3 => "the switch from ring 0 to ring 3 by iretq",
            Self::Syscall => "the switch from ring 3 to ring 0 by syscall",
            Self::Sysret => "the switch from ring 0 to ring 3 by sysretq",
            Self::SyscallAgain => "the second switch from ring 3 to ring 0 by syscall",
            Self::Returned => "a privileged instruction behind syscall",
            Self::Loop | Self::LoopBegin => "a loop in ring 0",
            Self::LoopEnd => "the way on from a loop in ring 0",
            Self::Done => "the end",
        }
    }
}

/// A choice of stages. Those within the switches between rings, and within the loop, come with the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stages(u64);

impl Stages {
    /// All that Linux needs.
    pub const KERNEL: Self = Self::of(&[
        Stage::Breakpoint,
        Stage::Exchange,
        Stage::Stac,
        Stage::Popcnt,
        Stage::Xsave,
        Stage::Ldmxcsr,
        Stage::Sse,
        Stage::EnterRing3,
        Stage::Loop,
    ]);

    /// These only.
    pub const fn of(stages: &[Stage]) -> Self {
        let mut bits = 0;
        let mut index = 0;
        while index < stages.len() {
            bits |= 1 << stages[index] as u8;
            index += 1;
        }
        Self(bits)
    }

    /// A bit for each, by its number.
    pub fn bits(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_at_their_numbers() {
        for (number, stage) in (0..).zip(ALL) {
            assert_eq!(stage as u8, number);
            assert_eq!(Stage::from_number(number), Some(stage));
        }
        assert_eq!(Stage::from_number(ALL.len() as u8), None);
        assert_eq!(Stage::from_number(u8::MAX), None);
    }
}
