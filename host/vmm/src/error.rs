//! What can go wrong before a machine runs.

use crate::channel::CpuModel;
use crate::{boot, cpu, vm};
use std::io;

/// The machine could not be started.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(#[from] Kind);

#[derive(Debug, thiserror::Error)]
pub(crate) enum Kind {
    #[error("cannot set up {0}")]
    Setup(&'static str, #[source] io::Error),
    #[error("the host does not give it {0} MiB of memory")]
    Memory(u32, #[source] io::Error),
    #[error("{0} disks are more than there are interrupt lines for")]
    TooManyDisks(usize),
    #[error("this host's processor is less than {model}: it lacks {}; see --cpu", .missing.join(", "))]
    LesserHost { model: CpuModel, missing: Vec<&'static str> },
    #[error(transparent)]
    Vm(vm::Failure),
    #[error(transparent)]
    Boot(boot::Failure),
    #[error(transparent)]
    Cpu(cpu::Failure),
    #[error("cannot give up its rights")]
    Jail(#[source] kiln_jail::Error),
}

impl Kind {
    /// For `map_err`.
    pub fn setup(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Setup(what, error)
    }

    /// For `map_err`.
    pub fn memory(mebibytes: u32) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Memory(mebibytes, error)
    }
}

macro_rules! from {
    ($($failure:ty => $kind:ident),+ $(,)?) => {
        $(impl From<$failure> for Error {
            fn from(failure: $failure) -> Self {
                Self(Kind::$kind(failure))
            }
        })+
    };
}

from!(vm::Failure => Vm, boot::Failure => Boot, cpu::Failure => Cpu, kiln_jail::Error => Jail);
