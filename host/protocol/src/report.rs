//! What the agent tells the host.

use crate::{LayerRecord, job::Stage};
use serde::{Deserialize, Serialize};

/// A message from the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromGuest {
    /// The first message.
    Hello {
        /// [`VERSION`](crate::VERSION) of the agent.
        version: u32,
        /// `uname -r` of the guest kernel.
        kernel: String,
    },
    /// A step begins: its index in the job.
    StepStarted {
        /// Index in [`Job::steps`](crate::Job::steps).
        step: u32,
    },
    /// What the running step wrote, as it wrote it.
    Output {
        /// Which of its streams.
        stream: Stream,
        /// At most [`MAX_DATA`](crate::MAX_DATA).
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
    /// The step and everything it started is gone.
    StepEnded(StepReport),
    /// A piece of the new layer.
    Layer(LayerRecord),
    /// The agent itself could not go on. The last message.
    Failed(GuestFailure),
    /// The job is done, or its last step ended badly. The last message.
    Done {
        /// State of the scratch disk at the end.
        scratch: ScratchUsage,
    },
}

/// One of a step's two output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How a step ended, and what the kernel saw meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepReport {
    /// Index in [`Job::steps`](crate::Job::steps).
    pub step: u32,
    /// How it ended.
    pub ending: Ending,
    /// Processes the kernel killed for want of memory during the step.
    pub oom_kills: u64,
    /// State of the scratch disk at the end of the step.
    pub scratch: ScratchUsage,
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// Exit code.
    Exited(u8),
    /// Killed by this signal.
    Signaled(u8),
    /// It called `reboot(2)`, which ended its PID namespace and nothing else.
    Rebooted,
    /// It could not be started: why, and the error number (2 for a missing program or interpreter).
    NotStarted {
        /// What was tried, with the path.
        what: String,
        /// `errno`.
        errno: i32,
    },
}

/// Space on the scratch disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ScratchUsage {
    /// Usable in all.
    pub size: u64,
    /// Still free.
    pub available: u64,
    /// Files that can still be made.
    pub available_inodes: u64,
}

/// Our machinery in the guest failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestFailure {
    /// The stage it happened in; `None` while starting up.
    pub stage: Option<Stage>,
    /// What failed, with the path.
    pub what: String,
    /// `errno`, or 0.
    pub errno: i32,
    /// State of the scratch disk, when it was mounted.
    pub scratch: Option<ScratchUsage>,
}
