//! The kiln command: arguments, wiring, progress, exit codes.

mod arguments;
mod build;
mod cache;
mod doctor;
mod exit_code;
mod installation;
mod interruption;
mod machine;
mod progress;
mod run;

use arguments::{Arguments, Command};
use clap::Parser;
use kiln_build::Class;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    allow_all_open_files();
    let (result, code_of): (_, fn(_) -> u8) = match &arguments.command {
        Command::Build(arguments) => (build::run(arguments), exit_code::of_build),
        Command::Run(arguments) => (run::run(arguments), exit_code::of_run),
        Command::Doctor(arguments) => (doctor::run(arguments).map(u8::from).map(|ready| 1 - ready), |_| 1),
        Command::Cache(command) => (cache::run(command).map(|()| 0), |_| 1),
    };
    match result {
        Ok(code) => code.into(),
        Err(error) => {
            let class =
                error.downcast_ref::<kiln_build::Error>().map_or(Class::Other, kiln_build::Error::class);
            if !is_the_commands_own(&arguments.command, class) {
                eprintln!("kiln: error: {}", chain(&error));
            }
            code_of(class).into()
        }
    }
}

/// Each layer of an image in use is an open file, and images may have hundreds.
fn allow_all_open_files() {
    let limit = getrlimit(Resource::Nofile);
    // Only a wish: the usual limit suffices for most images.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// Whether a command of `kiln run` simply exited with another code than zero: it has said why.
fn is_the_commands_own(command: &Command, class: Class) -> bool {
    matches!((command, class), (Command::Run(_), Class::StepExited(_)))
}

/// The error and its causes, each said once: a cause that an outer error already quotes is left
/// out.
fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}
