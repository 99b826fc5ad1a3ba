//! Which engines the tests run on.

use crate::{repository::kiln_binary, tool::tool};
use serde_json::Value;
use std::io::Write;

/// What `--accel` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// QEMU's emulation.
    Tcg,
    /// KVM.
    Kvm,
}

/// Chooses the engines, separated by spaces; those that work here if not set.
const ENGINES_VARIABLE: &str = "KILN_TEST_ENGINES";

impl Engine {
    /// The word for `--accel`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcg => "tcg",
            Self::Kvm => "kvm",
        }
    }

    /// What `kiln doctor` calls it: by who runs the VM.
    pub fn doctors_name(self) -> &'static str {
        match self {
            Self::Tcg => "qemu",
            Self::Kvm => "kvm",
        }
    }

    /// Why tests on this engine are to be skipped, if they are. Emulation works everywhere, so that only a choice skips it.
    pub fn reason_to_skip(self) -> Option<String> {
        match std::env::var(ENGINES_VARIABLE) {
            Ok(chosen) if chosen.split([' ', ',']).any(|name| name == self.name()) => None,
            Ok(chosen) => Some(format!("{ENGINES_VARIABLE} is {chosen:?}")),
            Err(_) if self == Self::Tcg => None,
            Err(_) => self.doctors_objection(),
        }
    }

    fn doctors_objection(self) -> Option<String> {
        let output =
            tool("env").arg(kiln_binary()).args(["doctor", "--json"]).output().expect("env runs kiln");
        let findings: Value = serde_json::from_slice(&output.stdout).expect("kiln doctor --json prints JSON");
        let engines = findings["engines"].as_array().expect("doctor lists engines");
        match engines.iter().find(|engine| engine["name"] == self.doctors_name()) {
            Some(engine) if engine["usable"] == true => None,
            Some(engine) => Some(engine["detail"].as_str().unwrap_or("no reason given").to_owned()),
            None => Some("this kiln has no such engine".to_owned()),
        }
    }
}

/// Runs a test on an engine, or says why not: past the test runner's capture, so that nobody takes a skip for a success.
pub fn run_on(engine: Engine, name: &str, test: impl FnOnce(Engine)) {
    match engine.reason_to_skip() {
        None => test(engine),
        Some(reason) => {
            let line = format!("SKIPPED {name} on {}: {reason}\n", engine.name());
            std::io::stderr().write_all(line.as_bytes()).expect("standard error is open");
        }
    }
}

/// Makes of functions that take an [`Engine`] one test for each engine.
#[macro_export]
macro_rules! on_every_engine {
    ($($test:ident),+ $(,)?) => {
        mod tcg {
            $(#[test] fn $test() { $crate::run_on($crate::Engine::Tcg, stringify!($test), super::$test) })+
        }
        mod kvm {
            $(#[test] fn $test() { $crate::run_on($crate::Engine::Kvm, stringify!($test), super::$test) })+
        }
    };
}
