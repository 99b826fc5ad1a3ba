//! What a step executes: finding it, starting it, and saying why it does not start.

use crate::sys;
use kiln_protocol::{Ending, Program};
use std::{ffi::CString, fs::File, io::Read, os::unix::ffi::OsStrExt, path::Path};

/// Where commands are looked up when the environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Runs scripts that do not name an interpreter.
const SHELL: &str = "/bin/sh";
/// As much of a program as is looked at for its interpreter.
const HEAD: u64 = 4096;

/// A program that could not be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotStarted {
    /// What was tried, with the path.
    pub what: String,
    /// `errno`.
    pub errno: i32,
}

impl NotStarted {
    /// From what was tried and how it failed.
    pub fn new(what: impl Into<String>, errno: i32) -> Self {
        Self { what: what.into(), errno }
    }
}

impl From<NotStarted> for Ending {
    fn from(failed: NotStarted) -> Self {
        Self::NotStarted { what: failed.what, errno: failed.errno }
    }
}

/// Arguments, the program itself first.
pub fn arguments(program: &Program, script_path: &str) -> Vec<String> {
    match program {
        Program::Script(text) if text.starts_with(b"#!") => vec![script_path.into()],
        Program::Script(_) => vec![SHELL.into(), "-e".into(), script_path.into()],
        Program::Command(arguments) => arguments.clone(),
    }
}

/// The environment: what is given, then `additions` that replace, then `HOME` if it is missing.
pub fn environment(
    given: &[String],
    additions: &[(&str, &str)],
    home: &[u8],
) -> Result<Vec<CString>, NotStarted> {
    let is_added = |variable: &&String| additions.iter().any(|(name, _)| value(variable, name).is_some());
    let mut all: Vec<Vec<u8>> =
        given.iter().filter(|v| !is_added(v)).map(|v| v.clone().into_bytes()).collect();
    all.extend(additions.iter().map(|(name, value)| format!("{name}={value}").into_bytes()));
    if !given.iter().any(|variable| value(variable, "HOME").is_some()) {
        all.push([b"HOME=", home].concat());
    }
    all.into_iter().map(|variable| c_string(variable, "an environment variable")).collect()
}

/// The value, if the variable has that name.
fn value<'a>(variable: &'a str, name: &str) -> Option<&'a str> {
    variable.strip_prefix(name)?.strip_prefix('=')
}

fn c_string(bytes: impl Into<Vec<u8>>, what: &str) -> Result<CString, NotStarted> {
    CString::new(bytes).map_err(|_| NotStarted::new(format!("{what} contains a NUL byte"), libc::EINVAL))
}

/// Becomes the program, in the current root and directory; comes back only when that fails.
pub fn execute(arguments: &[String], given: &[String], environment: &[CString]) -> NotStarted {
    let Some(program) = arguments.first() else {
        return NotStarted::new("an empty command", libc::ENOENT);
    };
    let vector: Result<Vec<_>, _> = arguments.iter().map(|a| c_string(a.as_bytes(), "an argument")).collect();
    match vector {
        Err(invalid) => invalid,
        Ok(vector) if program.contains('/') => attempt(program, &vector, environment),
        Ok(vector) => search(program, path(given), &vector, environment),
    }
}

fn path(environment: &[String]) -> &str {
    environment.iter().find_map(|variable| value(variable, "PATH")).unwrap_or(DEFAULT_PATH)
}

fn search(name: &str, path: &str, vector: &[CString], environment: &[CString]) -> NotStarted {
    let mut reason = NotStarted::new(format!("{name}: not found in {path}"), libc::ENOENT);
    for directory in path.split(':') {
        let candidate = if directory.is_empty() { name.into() } else { format!("{directory}/{name}") };
        let failed = attempt(&candidate, vector, environment);
        match failed.errno {
            libc::ENOENT | libc::ENOTDIR if !Path::new(&candidate).exists() => {}
            // Another directory may have one that may be executed.
            libc::EACCES => reason = failed,
            _ => return failed,
        }
    }
    reason
}

fn attempt(path: &str, vector: &[CString], environment: &[CString]) -> NotStarted {
    let error = match c_string(path, "the program's path") {
        Ok(path) => sys::execve(&path, vector, environment),
        Err(invalid) => return invalid,
    };
    let errno = error.raw_os_error().unwrap_or(0);
    NotStarted::new(explain(path, errno), errno)
}

/// "No such file" may mean the program's interpreter.
fn explain(path: &str, errno: i32) -> String {
    let mut head = Vec::new();
    let opened = (errno == libc::ENOENT).then(|| File::open(path).ok()).flatten();
    match opened.map(|file| file.take(HEAD).read_to_end(&mut head)) {
        Some(Ok(_)) => match interpreter(&head) {
            Some(name) => format!(
                "{}, the interpreter of {path}",
                Path::new(std::ffi::OsStr::from_bytes(name)).display()
            ),
            None => format!("the interpreter of {path}"),
        },
        _ => path.into(),
    }
}

/// What the `#!` line or the ELF program header `PT_INTERP` names.
fn interpreter(head: &[u8]) -> Option<&[u8]> {
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|&b| b == b'\n').next()?.trim_ascii_start();
        return line.split(|b| b" \t\r".contains(b)).next().filter(|name| !name.is_empty());
    }
    elf_interpreter(head)
}

/// [elf(5)](https://man7.org/linux/man-pages/man5/elf.5.html), little-endian.
fn elf_interpreter(head: &[u8]) -> Option<&[u8]> {
    const PT_INTERP: u64 = 3;
    let is_64_bit = head.strip_prefix(b"\x7fELF")?.first() == Some(&2);
    // Offsets of e_phoff, e_phentsize, e_phnum in the header and of p_offset, p_filesz in an entry; size of an address.
    let (phoff, phentsize, phnum, offset, filesz, word) =
        if is_64_bit { (32, 54, 56, 8, 32, 8) } else { (28, 42, 44, 4, 16, 4) };
    let table = number(head, phoff, word)?;
    for index in 0..number(head, phnum, 2)? {
        let entry = table.checked_add(index.checked_mul(number(head, phentsize, 2)?)?)?;
        let entry = head.get(usize::try_from(entry).ok()?..)?;
        if number(entry, 0, 4)? == PT_INTERP {
            let start = usize::try_from(number(entry, offset, word)?).ok()?;
            let length = usize::try_from(number(entry, filesz, word)?).ok()?;
            let name = head.get(start..start.checked_add(length)?)?;
            return name.strip_suffix(b"\0");
        }
    }
    None
}

/// A little-endian number of `width` bytes.
fn number(bytes: &[u8], at: usize, width: usize) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(width)?)?;
    Some(field.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(items: &[&str]) -> Vec<String> {
        items.iter().map(|&s| s.into()).collect()
    }

    #[test]
    fn scripts_run_by_their_first_line_or_the_shell() {
        let table: [(&[u8], &[&str]); 3] = [
            (b"#!/usr/bin/perl\n1;", &["/s"]),
            (b"echo hello", &["/bin/sh", "-e", "/s"]),
            (b"", &["/bin/sh", "-e", "/s"]),
        ];
        for (text, wanted) in table {
            assert_eq!(arguments(&Program::Script(text.to_vec()), "/s"), strings(wanted));
        }
        assert_eq!(arguments(&Program::Command(strings(&["ls", "-l"])), "/s"), strings(&["ls", "-l"]));
    }

    #[test]
    fn the_environment_gets_only_what_is_missing() {
        type Row<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a [&'a str]);
        let table: [Row<'_>; 4] = [
            (&["A=1"], &[], &["A=1", "HOME=/root"]),
            (&["HOME=", "A=1"], &[], &["HOME=", "A=1"]),
            (&["HOMER=x"], &[], &["HOMER=x", "HOME=/root"]),
            (&["layer=old", "HOME=/h"], &[("layer", "/kiln/layer")], &["HOME=/h", "layer=/kiln/layer"]),
        ];
        for (given, additions, wanted) in table {
            let environment = environment(&strings(given), additions, b"/root").unwrap();
            let environment: Vec<_> = environment.iter().map(|v| v.to_str().unwrap()).collect();
            assert_eq!(environment, wanted);
        }
    }

    #[test]
    fn a_nul_byte_cannot_be_passed_on() {
        let failed = environment(&strings(&["A=\0"]), &[], b"/").unwrap_err();
        assert_eq!(failed, NotStarted::new("an environment variable contains a NUL byte", libc::EINVAL));
        let failed = execute(&strings(&["/bin/true", "\0"]), &[], &[]);
        assert_eq!(failed.what, "an argument contains a NUL byte");
    }

    #[test]
    fn what_is_missing_is_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("script");
        std::fs::write(&script, "#! /no/such/interpreter -x\n").unwrap();
        std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let script = script.to_str().unwrap();
        let path = format!("PATH=/no/such/directory:{}", directory.path().display());
        let table = [
            (script, libc::ENOENT, format!("/no/such/interpreter, the interpreter of {script}")),
            ("script", libc::ENOENT, format!("/no/such/interpreter, the interpreter of {script}")),
            ("/no/such/program", libc::ENOENT, "/no/such/program".into()),
            ("nothing", libc::ENOENT, format!("nothing: not found in {}", &path[5..])),
            ("/", libc::EACCES, "/".into()),
        ];
        for (program, errno, what) in table {
            assert_eq!(execute(&strings(&[program]), &strings(&[&path]), &[]), NotStarted::new(what, errno));
        }
    }

    #[test]
    fn the_loader_of_a_program_is_named() {
        let mut head = Vec::new();
        File::open("/proc/self/exe").unwrap().take(HEAD).read_to_end(&mut head).unwrap();
        let loader = interpreter(&head).expect("the test program is dynamically linked");
        assert!(loader.starts_with(b"/lib"), "{loader:?}");
        for length in 0..head.len().min(1024) {
            interpreter(&head[..length]);
        }
    }
}
