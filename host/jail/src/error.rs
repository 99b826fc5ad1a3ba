//! What can go wrong when rights are given up.

use std::io;

/// A right could not be given up; whoever gets this must not go on.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(#[from] pub(crate) Kind);

#[derive(Debug, thiserror::Error)]
pub(crate) enum Kind {
    #[error("cannot {0}")]
    Step(&'static str, #[source] io::Error),
    #[error("cannot restrict this process with Landlock")]
    Landlock(#[source] landlock::RulesetError),
    #[error("cannot compile the system call filter of the {0} thread")]
    Compile(&'static str, #[source] seccompiler::BackendError),
    #[error("cannot install the system call filter of the {0} thread")]
    Install(&'static str, #[source] seccompiler::Error),
}

impl Kind {
    /// For `map_err`: the step that failed.
    pub fn step<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Step(what, error.into())
    }
}
