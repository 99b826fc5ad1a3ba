//! Asks a VMM process whether KVM can run a machine here.

use super::Kvm;
use super::keeper::failure;
use super::line::{Line, Word, clean};
use crate::console::Console;
use crate::process::{self, Ended, Hearing, Process, Program};
use crate::{Exit, Unusable};
use kiln_vmm::channel::{Finding, Order, Report, Verdict};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::mpsc::{self, SyncSender};
use std::time::Duration;

/// A probe takes a fraction of a second. One that is not done by then never will be.
const DEADLINE: Duration = Duration::from_secs(5);

/// What running the tiny guest tells. Whatever goes wrong before it does, is an error, and may be
/// otherwise the next time.
///
/// # Errors
/// Why nothing was found out.
pub(super) fn ask(kvm: &Kvm, device: File) -> Result<Finding, Unusable> {
    let failed = |what: &str| Unusable { reason: format!("{}: {what}", kvm.device.display()), remedy: None };
    let order = Order::Probe { kvm: device.as_raw_fd() };
    let (line, theirs) = Line::with(&order).map_err(|error| failed(&error.to_string()))?;
    let program = Program { input: Some(theirs), descriptors: vec![Box::new(device)], ..kvm.program() };
    let (answer, answered) = mpsc::sync_channel(1);
    let keeper = Box::new(Asker { line, finding: None, failure: None, answer });
    let process = Process::start("kvm-probe", program, Console::new(None), keeper);
    let process = process.map_err(|error| failed(&error.to_string()))?;
    let answer = answered.recv_timeout(DEADLINE);
    drop(process);
    match answer {
        Ok(answer) => answer.map_err(|why| failed(&why)),
        Err(_) => Err(failed("a tiny guest hung; its KVM cannot be trusted with a whole one")),
    }
}

struct Asker {
    line: Line,
    finding: Option<Finding>,
    failure: Option<String>,
    answer: SyncSender<Result<Finding, String>>,
}

impl process::Keeper for Asker {
    fn control(&self) -> Option<BorrowedFd<'_>> {
        Some(self.line.as_fd())
    }

    fn hear(&mut self) -> Hearing {
        match self.line.receive() {
            Ok(Word::NothingYet) => return Hearing::GoesOn,
            Ok(Word::Report(Report::Probed(finding), _)) => self.finding = Some(finding),
            Ok(Word::End) => return Hearing::Over(DEADLINE),
            Ok(Word::Report(..)) => self.failure = Some("the VMM process answered something else".into()),
            Err(violation) => self.failure = Some(format!("the VMM process {violation}")),
        }
        Hearing::Over(Duration::ZERO)
    }

    fn judge(&mut self, _program: &mut Program, ended: Ended) -> Option<Exit> {
        if self.finding.is_none() {
            self.failure.get_or_insert_with(|| failure(&ended));
        }
        Some(Exit::PoweredOff)
    }

    fn over(self: Box<Self>, _exit: Exit) {
        let answer = self.finding.map(cleaned).ok_or(self.failure.unwrap_or_default());
        // Nobody waits any longer when the time was up.
        let _ = self.answer.send(answer);
    }
}

/// Its words may end up on a terminal.
fn cleaned(finding: Finding) -> Finding {
    let verdict = match finding.verdict {
        Verdict::Unusable(why) => Verdict::Unusable(clean(&why)),
        verdict => verdict,
    };
    let mut lacking = finding.lacking;
    let features = lacking.iter_mut().flat_map(|lacking| &mut lacking.features);
    features.for_each(|feature| *feature = clean(feature));
    Finding { verdict, lacking }
}
