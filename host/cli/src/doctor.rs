//! `kiln doctor`: what this host can do, and how to mend what it can't.

use crate::{arguments::DoctorArguments, installation};
use anyhow::{Context, Result};
use serde::Serialize;
use std::{
    fs,
    io::{self, Write},
};

/// What was found, for people and programs alike.
#[derive(Serialize)]
struct Findings {
    version: &'static str,
    /// Whether a build with scripts can run.
    usable: bool,
    engines: Vec<EngineFinding>,
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
    let settings = kiln_engine::Settings { cache: Some(installation::cache_dir()) };
    let engines: Vec<_> =
        kiln_engine::engines(&settings).iter().map(|engine| examine_engine(engine.as_ref())).collect();
    let (kernel, agent) = (examine_file("vmlinux", "Linux version "), examine_file("agent", "kiln-agent "));
    Findings {
        version: env!("CARGO_PKG_VERSION"),
        usable: engines.iter().any(|e| e.usable) && kernel.problem.is_none() && agent.problem.is_none(),
        engines,
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
