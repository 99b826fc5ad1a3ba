//! What the agent itself could not do.

use std::fmt;

/// A failure of our own machinery: what was tried, and the error number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// For people, with the path.
    pub what: String,
    /// `errno`, or 0 when no system call failed.
    pub errno: i32,
}

/// The agent's results.
pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// A failure that no system call reported.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), errno: 0 }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.errno {
            0 => f.write_str(&self.what),
            errno => write!(f, "{}: {}", self.what, std::io::Error::from_raw_os_error(errno)),
        }
    }
}

/// Says what was tried when an error comes up.
pub trait Trying<T> {
    /// Turns the error into a [`Failure`] to do `what`.
    ///
    /// # Errors
    /// The failure, if `self` is one.
    fn trying<W: Into<String>>(self, what: impl FnOnce() -> W) -> Result<T>;
}

impl<T> Trying<T> for rustix::io::Result<T> {
    fn trying<W: Into<String>>(self, what: impl FnOnce() -> W) -> Result<T> {
        self.map_err(|e| Failure { what: what().into(), errno: e.raw_os_error() })
    }
}

impl<T> Trying<T> for std::io::Result<T> {
    fn trying<W: Into<String>>(self, what: impl FnOnce() -> W) -> Result<T> {
        self.map_err(|e| Failure { what: what().into(), errno: e.raw_os_error().unwrap_or(0) })
    }
}

impl<T> Trying<T> for std::result::Result<T, kiln_protocol::Error> {
    fn trying<W: Into<String>>(self, what: impl FnOnce() -> W) -> Result<T> {
        self.map_err(|e| Failure::new(format!("{}: {e}", what().into())))
    }
}
