//! kiln as its own VMM process.

use kiln_engine::kvm::Kvm;
use kiln_engine::{Engine, VMM_ARGUMENT};
use std::process::{Command, Stdio};

const KILN: &str = env!("CARGO_BIN_EXE_kiln");

#[test]
fn the_hidden_word_makes_kiln_the_vmm() {
    let kvm = Kvm::at(KILN.into()).with_arguments([VMM_ARGUMENT]);
    let answer = kvm.probe().map_err(|why| why.to_string());
    // Whatever a probe finds out here, it was not that the process is none.
    assert!(!matches!(&answer, Err(why) if why.contains("the VMM process")), "{answer:?}");
}

#[test]
fn a_person_who_finds_it_is_told() {
    let output = Command::new(KILN).arg(VMM_ARGUMENT).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "this is a part of kiln that kiln starts itself\n");
}

#[test]
fn help_does_not_show_it() {
    let output = Command::new(KILN).arg("--help").output().unwrap();
    assert!(!String::from_utf8_lossy(&output.stdout).contains(VMM_ARGUMENT));
}
