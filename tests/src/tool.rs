//! Other people's tools.

use std::{
    ffi::OsStr,
    process::{Command, Stdio},
};

/// A command of `program`, with a fixed language.
pub fn tool(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("LC_ALL", "C").stdin(Stdio::null());
    // Where an ordinary user's PATH lacks them.
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    // Where skopeo looks for passwords; what it looks for otherwise may be root's and closed.
    command.env("XDG_RUNTIME_DIR", std::env::temp_dir());
    command
}

/// What `program` prints.
///
/// # Panics
/// When it is not installed, or fails.
pub fn tool_output(program: &str, arguments: &[impl AsRef<OsStr>]) -> Vec<u8> {
    succeed(tool(program).args(arguments))
}

/// What a command prints.
///
/// # Panics
/// When it is not installed, or fails.
pub fn succeed(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap_or_else(|error| {
        panic!("cannot run {:?} ({error}): scripts/prepare test installs it", command.get_program())
    });
    assert!(
        output.status.success(),
        "{command:?} failed: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// Whether the tests run as root, so that they can become others and unpack images with real owners.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
