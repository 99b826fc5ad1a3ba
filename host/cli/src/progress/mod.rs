//! What the user sees while a build runs. Everything goes to standard error: standard output may
//! be the image.

mod json;
mod lines;
mod plain;
mod terminal;
mod transfer;

pub use transfer::{Quiet, observer as transfer};

use crate::arguments::Progress;
use kiln_builder::{Interrupt, Observer};
use std::io::{self, IsTerminal};

/// The observer for `--progress`.
pub fn observer(progress: Progress, verbose: u8) -> Box<dyn Observer> {
    match progress {
        Progress::Json => Box::new(json::Json),
        Progress::Auto if io::stderr().is_terminal() => Box::new(terminal::Terminal::new()),
        Progress::Auto | Progress::Plain => Box::new(plain::Plain::new(verbose)),
    }
}

/// The observer of `kiln run`: the command's output is passed through as it is, and kiln itself
/// speaks only when something is unusual, or when asked to.
pub fn pass_through(verbose: u8, interrupt: Interrupt) -> Box<dyn Observer> {
    Box::new(plain::PassThrough::new(verbose, interrupt))
}

/// The last line of `--progress json`.
pub fn json_error(text: &str, exit_code: u8) {
    json::error(text, exit_code);
}
