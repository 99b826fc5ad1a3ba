//! The micro-VM on KVM: one jailed process that boots a Linux kernel and serves its devices.
//!
//! [`main`] is the whole process. kiln starts it with a socket as its standard input, on which it
//! gets one order and reports what becomes of it (see [`channel`]); its standard output is the
//! guest's console. It opens no file by name: what a machine needs comes as open descriptors. Every
//! thread gives up all rights it does not need before the guest's first instruction.
//!
//! [`machine`] is the boot recipe; [`layout`] says where everything is in guest memory.

// What fuzzing is shown has no other readers.
#![cfg_attr(fuzzing, allow(missing_docs))]

mod attach;
mod boot;
mod bus;
pub mod channel;
mod control;
mod counters;
mod cpu;
mod error;
mod failure;
mod filters;
mod inherited;
mod layout;
mod machine;
mod memory;
mod ports;
mod probe;
mod threads;
mod vcpu;
mod vm;
mod worker;

#[cfg(fuzzing)]
pub use boot::{Entry, Failure, Payload, load};
pub use cpu::program_features;
pub use layout::MEMORY_MIB_MAX;

use channel::{CpuModel, Ending, Finding, Lacking, Order, Report, Specification, Verdict};
use control::Control;
use error::{Error, Kind};
use kiln_jail::Limits;
use kvm_ioctls::Kvm;
use std::os::fd::RawFd;
use std::process::ExitCode;
use std::sync::Arc;

/// Descriptors of a probe: its machine, its processor, the standard ones.
const PROBE_FILES_MAX: u64 = 64;

/// The VMM process, from its order to its end.
pub fn main() -> ExitCode {
    let control = match inherited::control() {
        Ok(socket) => Arc::new(Control::new(socket)),
        Err(_) => return misused(),
    };
    match control.order() {
        Ok(Order::Run(specification)) => run(&specification, &control),
        Ok(Order::Probe { kvm }) => probe(kvm, &control),
        Err(_) => return misused(),
    }
    ExitCode::SUCCESS
}

/// A person has found the hidden command.
fn misused() -> ExitCode {
    eprintln!("this is a part of kiln that kiln starts itself");
    ExitCode::FAILURE
}

fn run(specification: &Specification, control: &Arc<Control>) {
    match machine::run(specification, control) {
        Ok(Some(ended)) => control.report(&Report::Ended { ending: ended.ending, counters: ended.counters }),
        Ok(None) => {}
        Err(error) => {
            let ending = Ending::Failed(chain(&error));
            control.report(&Report::Ended { ending, counters: channel::Counters::default() });
        }
    }
}

fn probe(kvm: RawFd, control: &Control) {
    let finding = confined(kvm)
        .and_then(|kvm| find(&kvm))
        .unwrap_or_else(|error| Finding { verdict: Verdict::Unusable(chain(&error)), lacking: Vec::new() });
    control.report(&Report::Probed(finding));
}

fn find(kvm: &Kvm) -> Result<Finding, Error> {
    let mut lacking = Vec::new();
    for model in CpuModel::FIXED {
        let features: Vec<_> = cpu::missing(kvm, model)?.into_iter().map(str::to_owned).collect();
        lacking.extend((!features.is_empty()).then_some(Lacking { model, features }));
    }
    Ok(Finding { verdict: probe::probe(kvm), lacking })
}

/// The guest of a probe is ours, but it tries what a host may fail at.
fn confined(kvm: RawFd) -> Result<Kvm, Error> {
    let limits = Limits { open_files: PROBE_FILES_MAX, file_bytes: u64::from(MEMORY_MIB_MAX) << 20 };
    kiln_jail::confine(&limits, &[kvm])?;
    Ok(inherited::kvm(kvm).map_err(Kind::setup("what it was given"))?)
}

/// An error and its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
