//! `kiln doctor`: what this host can do, and how to mend what it can't.

use crate::{arguments::DoctorArguments, installation};
use anyhow::Result;
use kiln_engine::{kvm::Kvm, qemu::Qemu};
use serde::Serialize;
use std::path::Path;

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
    size: Option<u64>,
    problem: Option<String>,
}

/// Looks, and prints what it found. `false` when no build with scripts can run.
pub fn run(arguments: &DoctorArguments) -> Result<bool> {
    let findings = examine();
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&findings)?);
    } else {
        print(&findings);
    }
    Ok(findings.usable)
}

fn examine() -> Findings {
    let engines = vec![examine_engine(&Kvm), examine_engine(&Qemu::from_environment())];
    let (kernel, agent) = (examine_file(installation::kernel(None)), examine_file(installation::agent()));
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

fn examine_file(found: Result<impl AsRef<Path>>) -> FileFinding {
    match found {
        Ok(path) => FileFinding {
            path: Some(path.as_ref().display().to_string()),
            size: path.as_ref().metadata().map(|metadata| metadata.len()).ok(),
            problem: None,
        },
        Err(error) => FileFinding { path: None, size: None, problem: Some(format!("{error:#}")) },
    }
}

fn print(findings: &Findings) {
    println!("kiln {}", findings.version);
    for engine in &findings.engines {
        println!("{} {}: {}", mark(engine.usable), engine.name, engine.detail);
        if let Some(remedy) = &engine.remedy {
            println!("  to mend it: {remedy}");
        }
    }
    for (name, file) in [("kernel", &findings.kernel), ("agent", &findings.agent)] {
        let text = file.path.as_ref().or(file.problem.as_ref());
        println!("{} {name}: {}", mark(file.problem.is_none()), text.map_or("", String::as_str));
    }
    println!("✓ cache: {}", findings.cache);
    println!(
        "{}",
        if findings.usable { "Ready to build." } else { "Builds that run scripts cannot run here." }
    );
}

fn mark(good: bool) -> char {
    if good { '✓' } else { '✗' }
}
