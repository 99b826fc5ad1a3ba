//! `kiln doctor`: what this host can do, and how to mend what it can't.

use crate::{arguments::DoctorArguments, installation};
use anyhow::{Context, Result};
use kiln_engine::Landlock;
use serde::Serialize;
use std::{
    fmt, fs,
    io::{self, Write},
};

/// What was found, for people and programs alike.
#[derive(Serialize)]
struct Findings {
    version: &'static str,
    /// Whether a build with scripts can run.
    usable: bool,
    engines: Vec<EngineFinding>,
    landlock: LandlockFinding,
    kernel: FileFinding,
    agent: FileFinding,
    cache: String,
}

#[derive(Serialize)]
struct EngineFinding {
    name: &'static str,
    usable: bool,
    /// What was found, with paths and versions; or why the engine cannot be used.
    detail: String,
    /// What to do about it.
    remedy: Option<String>,
}

/// Nothing that a build needs: a layer of defence against guests.
#[derive(Serialize)]
struct LandlockFinding {
    /// The version of the kernel's interface.
    abi: Option<u32>,
    /// Why there is none, if so.
    problem: Option<String>,
}

#[derive(Serialize)]
struct FileFinding {
    path: Option<String>,
    /// As the file says itself.
    version: Option<String>,
    size: Option<u64>,
    problem: Option<String>,
}

/// Looks, and prints what it found. `false` when no build with scripts can run.
pub fn run(arguments: &DoctorArguments) -> Result<bool> {
    let findings = examine();
    let mut out = io::stdout().lock();
    if arguments.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&findings)?)?;
    } else {
        print(&findings, &mut out)?;
    }
    Ok(findings.usable)
}

fn examine() -> Findings {
    let settings = kiln_engine::Settings { cache: Some(installation::cache_dir()), ..Default::default() };
    let engines: Vec<_> =
        kiln_engine::engines(&settings).iter().map(|engine| examine_engine(engine.as_ref())).collect();
    let (kernel, agent) = (examine_file("vmlinux", "Linux version "), examine_file("agent", "kiln-agent "));
    Findings {
        version: env!("CARGO_PKG_VERSION"),
        usable: engines.iter().any(|e| e.usable) && kernel.problem.is_none() && agent.problem.is_none(),
        engines,
        landlock: kiln_engine::landlock().into(),
        kernel,
        agent,
        cache: installation::cache_dir().display().to_string(),
    }
}

fn examine_engine(engine: &dyn kiln_engine::Engine) -> EngineFinding {
    let name = engine.name();
    match engine.probe() {
        Ok(usable) => {
            let detail = format!("{} {}", usable.path.display(), usable.version);
            EngineFinding { name, usable: true, detail, remedy: None }
        }
        Err(unusable) => EngineFinding {
            name,
            usable: false,
            detail: unusable.reason.clone(),
            remedy: unusable.remedy.clone(),
        },
    }
}

impl From<Landlock> for LandlockFinding {
    fn from(landlock: Landlock) -> Self {
        match landlock {
            Landlock::Enforced { abi } => Self { abi: Some(abi), problem: None },
            Landlock::Unavailable(why) => Self { abi: None, problem: Some(why) },
        }
    }
}

impl fmt::Display for LandlockFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.abi, &self.problem) {
            (Some(abi), _) => write!(f, "✓ landlock: ABI {abi}"),
            (None, problem) => {
                let problem = problem.as_deref().unwrap_or_default();
                write!(f, "- landlock: {problem}; machines run without it")
            }
        }
    }
}

fn examine_file(name: &str, before_version: &str) -> FileFinding {
    let read = installation::lib_dir().and_then(|directory| {
        let path = directory.join(name);
        let bytes = fs::read(&path).with_context(|| format!("{}; run `scripts/build`", path.display()))?;
        Ok((bytes, path))
    });
    match read {
        Ok((bytes, path)) => FileFinding {
            path: Some(path.display().to_string()),
            version: version(&bytes, before_version),
            size: Some(bytes.len() as u64),
            problem: None,
        },
        Err(error) => {
            FileFinding { path: None, version: None, size: None, problem: Some(format!("{error:#}")) }
        }
    }
}

/// The word that follows `before` in a program, if it begins with a digit.
fn version(program: &[u8], before: &str) -> Option<String> {
    let mut places = memchr::memmem::find_iter(program, before);
    places.find_map(|at| {
        let rest = &program[at + before.len()..];
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b".-+_".contains(byte);
        let length = rest.iter().take_while(|byte| is_part(byte)).count();
        rest.first()?.is_ascii_digit().then(|| String::from_utf8_lossy(&rest[..length]).into_owned())
    })
}

fn print(findings: &Findings, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "kiln {}", findings.version)?;
    for engine in &findings.engines {
        writeln!(out, "{} {}: {}", mark(engine.usable), engine.name, engine.detail)?;
        if let Some(remedy) = &engine.remedy {
            writeln!(out, "  to mend it: {remedy}")?;
        }
    }
    writeln!(out, "{}", findings.landlock)?;
    for (name, file) in [("kernel", &findings.kernel), ("agent", &findings.agent)] {
        let what = file.path.as_ref().or(file.problem.as_ref()).map_or("", String::as_str);
        let version = file.version.as_deref().unwrap_or_default();
        writeln!(out, "{} {name}: {what} {version}", mark(file.problem.is_none()))?;
    }
    writeln!(out, "✓ cache: {}", findings.cache)?;
    let verdict =
        if findings.usable { "Ready to build." } else { "Builds that run scripts cannot run here." };
    writeln!(out, "{verdict}")
}

fn mark(good: bool) -> char {
    if good { '✓' } else { '✗' }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_landlock_is_no_failure() {
        let line = |landlock| LandlockFinding::from(landlock).to_string();
        assert_eq!(line(Landlock::Enforced { abi: 7 }), "✓ landlock: ABI 7");
        assert_eq!(
            line(Landlock::Unavailable("this kernel has none".into())),
            "- landlock: this kernel has none; machines run without it"
        );
    }
}
