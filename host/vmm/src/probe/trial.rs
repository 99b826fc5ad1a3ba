//! One run of the tiny guest, and what becomes of it.

use super::machine::Machine;
use super::stage::{Stage, Stages};
use super::{guest, watchdog};
use crate::failure::{self, Fatal};
use kvm_ioctls::{Kvm, VcpuExit};
use std::time::{Duration, Instant};
use vm_memory::{Bytes, GuestAddress};

/// More returns than a guest that works causes.
const EXITS_MAX: u32 = 1000;

/// When the loop has cost so much, it is not timed again.
const LOOPING_MAX: Duration = Duration::from_millis(100);

/// What a guest did that came to its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// The stages that it announced.
    pub stages: Vec<Stage>,
    /// The best time of the loop.
    pub loop_time: Option<Duration>,
}

/// Lets the guest try `stages` within `time`; otherwise says what failed, and where.
pub fn run(kvm: &Kvm, stages: Stages, time: Duration) -> Result<Findings, String> {
    let machine = Machine::new(kvm, stages)?;
    let deadline = Instant::now() + time;
    let trial = Trial::new(machine, deadline);
    watchdog::run(deadline, move || trial.run())
        .map_err(|error| format!("the host has no thread for a guest: {error}"))?
        .unwrap_or_else(|| Err("KVM does not come back from the guest, not even for signals".to_owned()))
}

struct Trial {
    machine: Machine,
    deadline: Instant,
    /// The last one announced.
    stage: Option<Stage>,
    loop_begin: Instant,
    looping: Duration,
    findings: Findings,
}

/// What the guest says.
enum Message {
    Stage(u8),
    Wrong,
    Exception(u8),
    /// Nothing: a signal came.
    Interrupted,
}

impl Trial {
    fn new(machine: Machine, deadline: Instant) -> Self {
        let findings = Findings::default();
        Self { machine, deadline, stage: None, loop_begin: Instant::now(), looping: Duration::ZERO, findings }
    }

    fn run(mut self) -> Result<Findings, String> {
        for _ in 0..EXITS_MAX {
            let result = self.step();
            match result.map_err(|reason| self.at_stage(&reason))? {
                Some(Stage::Done) => return Ok(self.findings),
                Some(Stage::LoopEnd) if self.looping > LOOPING_MAX => return Ok(self.findings),
                _ => {}
            }
        }
        Err(self.at_stage("the guest makes no progress"))
    }

    /// Up to the guest's next message.
    fn step(&mut self) -> Result<Option<Stage>, String> {
        let message = self.next_message()?;
        if Instant::now() > self.deadline {
            return Err(format!("the guest hung at {}", self.here()));
        }
        match message {
            Message::Stage(number) => self.enter(number).map(Some),
            Message::Wrong => Err(format!("a wrong result before {}", self.here())),
            Message::Exception(vector) => Err(self.exception(vector)),
            Message::Interrupted => Ok(None),
        }
    }

    fn next_message(&mut self) -> Result<Message, String> {
        let fatal = match self.machine.vcpu.run() {
            Ok(VcpuExit::MmioWrite(guest::STAGE, &[number])) => return Ok(Message::Stage(number)),
            Ok(VcpuExit::MmioWrite(guest::WRONG, _)) => return Ok(Message::Wrong),
            Ok(VcpuExit::MmioWrite(guest::EXCEPTION, &[vector])) => return Ok(Message::Exception(vector)),
            Ok(VcpuExit::Intr) => return Ok(Message::Interrupted),
            Ok(exit) => Fatal::from(&exit),
            Err(error) if [libc::EINTR, libc::EAGAIN].contains(&error.errno()) => {
                return Ok(Message::Interrupted);
            }
            Err(error) => return Err(format!("KVM refuses KVM_RUN: {error}")),
        };
        Err(failure::describe(&mut self.machine.vcpu, &self.machine.memory, fatal))
    }

    fn enter(&mut self, number: u8) -> Result<Stage, String> {
        let now = Instant::now();
        let stage = Stage::from_number(number).ok_or_else(|| format!("the guest announces {number}"))?;
        match stage {
            Stage::LoopBegin => self.loop_begin = now,
            Stage::LoopEnd => self.add_loop(now - self.loop_begin),
            _ => self.check_ring(stage.ring())?,
        }
        self.stage = Some(stage);
        self.findings.stages.push(stage);
        Ok(stage)
    }

    fn add_loop(&mut self, time: Duration) {
        self.looping += time;
        self.findings.loop_time = Some(self.findings.loop_time.map_or(time, |best| best.min(time)));
    }

    /// The guest cannot know its ring for sure, as on some hosts the selectors say what they should.
    fn check_ring(&self, expected: u8) -> Result<(), String> {
        let sregs =
            self.machine.vcpu.get_sregs().map_err(|error| format!("KVM refuses KVM_GET_SREGS: {error}"))?;
        let ring = sregs.ss.dpl;
        if ring == expected {
            return Ok(());
        }
        Err(format!("it leads to ring {ring} instead of ring {expected}"))
    }

    /// The frame is on the stack: vector, error code, instruction pointer, code segment.
    fn exception(&self, vector: u8) -> String {
        let name = exception_name(vector);
        let frame = self.machine.vcpu.get_regs().ok().and_then(|regs| {
            let word = |index: u64| -> Option<u64> {
                let address = regs.rsp.checked_add(8 * index)?;
                self.machine.memory.read_obj(GuestAddress(address)).ok()
            };
            Some((word(2)?, word(3)?))
        });
        let Some((rip, code_segment)) = frame else { return format!("{name} at an unknown place") };
        let ring = (code_segment & 3) as u8;
        let place = failure::there(&self.machine.vcpu, &self.machine.memory, rip, ring);
        format!("{name} at {place}")
    }

    fn here(&self) -> String {
        failure::here(&self.machine.vcpu, &self.machine.memory)
    }

    fn at_stage(&self, reason: &str) -> String {
        let stage = self.stage.map_or("the first instructions in long mode", Stage::what);
        format!("{stage}: {reason}")
    }
}

/// Intel SDM, volume 3, table 6-1.
fn exception_name(vector: u8) -> String {
    let name = match vector {
        1 => "debug exception",
        6 => "invalid opcode",
        7 => "device not available",
        8 => "double fault",
        10 => "invalid TSS",
        11 => "segment not present",
        12 => "stack fault",
        13 => "general protection fault",
        14 => "page fault",
        _ => return format!("exception {vector}"),
    };
    format!("{name} (exception {vector})")
}
