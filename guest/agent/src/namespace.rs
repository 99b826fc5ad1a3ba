//! The first process of a step's namespaces: it enters the step's view, starts the program, and
//! waits for it, taking in orphans meanwhile. When it ends, the kernel kills everything else in
//! there, and no mount is left.

use crate::{
    account::{self, Account},
    failure::{Failure, Result, Trying},
    machine,
    program::{self, NotStarted},
    sys::{self, Fork, Namespaces},
    view::{SCRIPT_DIRECTORY, View},
};
use kiln_protocol::{Ending, Program, Step, encode};
use rustix::{
    fs::{Mode, OFlags, open},
    io::{Errno, write},
    process::{Gid, Pid, Uid, WaitOptions, WaitStatus, chdir, setsid, umask, wait},
    stdio::{dup2_stderr, dup2_stdin, dup2_stdout},
    thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};
use std::{ffi::CString, os::fd::OwnedFd};

/// What a step's program is given, apart from what its root holds.
pub struct Launch<'a> {
    /// What the host asked for.
    pub step: &'a Step,
    /// The root.
    pub view: &'a View,
    /// Variables that the agent adds.
    pub variables: &'a [(&'a str, &'a str)],
    /// Where it starts, if the step does not say.
    pub working_directory: &'a str,
}

/// The ends of the step's pipes that it gets.
pub struct Streams {
    /// Standard input; `/dev/null` without.
    pub stdin: Option<OwnedFd>,
    /// Standard output.
    pub stdout: OwnedFd,
    /// Standard error.
    pub stderr: OwnedFd,
    /// Takes one [`Verdict`].
    pub report: OwnedFd,
}

struct Standard {
    stdin: Option<OwnedFd>,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

/// What comes back through [`Streams::report`]: how the step ended, or what failed (with errno).
pub type Verdict = std::result::Result<Ending, (String, i32)>;

/// Runs the step, as process 1 of new namespaces.
pub fn run(launch: &Launch<'_>, streams: Streams) -> ! {
    // Only the agent's own panic ends the VM.
    drop(std::panic::take_hook());
    let Streams { stdin, stdout, stderr, report } = streams;
    let standard = Standard { stdin, stdout, stderr };
    let verdict = enter_and_run(launch, standard, &report).map_err(|failure| (failure.what, failure.errno));
    tell(&report, verdict);
    sys::exit(0)
}

/// Longest text of a verdict, in bytes: with the rest of the frame less than `PIPE_BUF`
/// ([pipe(7)](https://man7.org/linux/man-pages/man7/pipe.7.html)).
const TEXT_MAX: usize = 3072;

/// One write of less than `PIPE_BUF` is atomic, and does not wait for the reader, who only looks when
/// the step is gone. Nobody is there to tell that it failed.
fn tell(pipe: &OwnedFd, mut verdict: Verdict) {
    if let Ok(Ending::NotStarted { what, .. }) | Err((what, _)) = &mut verdict {
        what.truncate(what.floor_char_boundary(TEXT_MAX));
    }
    let mut frame = Vec::new();
    if encode(&verdict, &mut frame).is_ok() {
        _ = write(pipe, &frame);
    }
}

fn enter_and_run(launch: &Launch<'_>, standard: Standard, report: &OwnedFd) -> Result<Ending> {
    launch.view.enter()?;
    let script = write_script(launch.step)?;
    match sys::fork(Namespaces::Inherited).trying(|| "start a process")? {
        Fork::Parent { child, .. } => {
            // A step that closes its input is the only one that had it open.
            drop(standard);
            wait_for(child)
        }
        Fork::Child => {
            let failed = become_program(launch, &standard, &script);
            tell(report, Ok(failed.into()));
            sys::exit(0)
        }
    }
}

/// The main process' ending. If it reported itself that it could not start, that report is first.
fn wait_for(main: Pid) -> Result<Ending> {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == main => return Ok(ending(status)),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).trying(|| "wait for the step"),
        }
    }
}

fn ending(status: WaitStatus) -> Ending {
    let byte = |number: i32| u8::try_from(number).expect("wait(2) tells codes and signals in 8 bits");
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Ending::Exited(byte(code)),
        (None, signal) => Ending::Signaled(byte(signal.expect("a process that ended exited or was killed"))),
    }
}

/// The path of the script, which is there if the step has one.
fn write_script(step: &Step) -> Result<String> {
    let path = format!("{SCRIPT_DIRECTORY}/{}", file_name(&step.name));
    if let Program::Script(text) = &step.program {
        let write = || {
            std::fs::create_dir(SCRIPT_DIRECTORY)?;
            std::fs::write(&path, text)?;
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        };
        write().trying(|| format!("write {path}"))?;
        std::fs::set_permissions(SCRIPT_DIRECTORY, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .trying(|| format!("write {path}"))?;
    }
    Ok(path)
}

/// A step's name, as it may be shown in messages of its shell.
fn file_name(name: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    let name: String = name.chars().take(64).map(|c| if allowed(c) { c } else { '_' }).collect();
    if name.is_empty() { "step".into() } else { name }
}

fn become_program(launch: &Launch<'_>, standard: &Standard, script: &str) -> NotStarted {
    let step = launch.step;
    let prepared = || -> std::result::Result<Vec<CString>, NotStarted> {
        let account = find_account(step.user.as_deref())?;
        let environment = program::environment(&step.environment, launch.variables, &account.home)?;
        attach(standard).map_err(|e| NotStarted::new("standard streams", e.raw_os_error()))?;
        enter_directory(step.working_directory.as_deref().unwrap_or(launch.working_directory))?;
        leave_agent_state()?;
        assume(&account)?;
        Ok(environment)
    };
    match prepared() {
        Err(failed) => failed,
        Ok(environment) => {
            program::execute(&program::arguments(&step.program, script), &step.environment, &environment)
        }
    }
}

fn find_account(user: Option<&str>) -> std::result::Result<Account, NotStarted> {
    let read = |path| std::fs::read(path).unwrap_or_default();
    account::resolve(user.unwrap_or("0"), &read("/etc/passwd"), &read("/etc/group"))
        .map_err(|what| NotStarted::new(what, libc::EINVAL))
}

fn attach(standard: &Standard) -> rustix::io::Result<()> {
    match &standard.stdin {
        Some(stdin) => dup2_stdin(stdin)?,
        None => dup2_stdin(open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)?,
    }
    dup2_stdout(&standard.stdout)?;
    dup2_stderr(&standard.stderr)
}

fn enter_directory(path: &str) -> std::result::Result<(), NotStarted> {
    chdir(path).map_err(|e| NotStarted::new(format!("working directory {path}"), e.raw_os_error()))
}

/// Gives up what only the agent needs. The session is the step's own.
fn leave_agent_state() -> std::result::Result<(), NotStarted> {
    setsid().map_err(|e| NotStarted::new("a new session", e.raw_os_error()))?;
    umask(Mode::from_raw_mode(0o022));
    machine::limit_open_files_of_step()
        .map_err(|e| NotStarted::new("the limit of open files", e.raw_os_error()))?;
    sys::restore_signals();
    // From now on it may be killed for want of memory.
    _ = std::fs::write("/proc/self/oom_score_adj", "0");
    Ok(())
}

fn assume(account: &Account) -> std::result::Result<(), NotStarted> {
    let groups: Vec<_> = account.groups.iter().map(|&group| Gid::from_raw(group)).collect();
    let (user, group) = (Uid::from_raw(account.uid), Gid::from_raw(account.gid));
    set_thread_groups(&groups)
        .and_then(|()| set_thread_res_gid(group, group, group))
        .and_then(|()| set_thread_res_uid(user, user, user))
        .map_err(|e| {
            NotStarted::new(format!("user {} and group {}", account.uid, account.gid), e.raw_os_error())
        })
}

/// Turns a verdict back into what it was.
pub fn judge(verdict: Verdict) -> Result<Ending> {
    verdict.map_err(|(what, errno)| Failure { what, errno })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn script_names_are_plain() {
        let table = [("run-as-root", "run-as-root"), ("../etc", "___etc"), ("", "step"), ("a b/ü", "a_b__")];
        for (name, wanted) in table {
            assert_eq!(file_name(name), wanted);
        }
    }
}
