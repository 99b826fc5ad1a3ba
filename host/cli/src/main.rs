//! The kiln command: arguments, wiring, progress, exit codes.

mod arguments;
mod attestation_files;
mod build;
mod cache;
mod convert;
mod copy;
mod diff;
mod disk;
mod doctor;
mod exit_code;
mod export;
mod files;
mod inspect;
mod installation;
mod interruption;
mod machine;
mod progress;
mod rebase;
mod registries_conf;
mod registry;
mod run;
mod squash;
mod toolbox;
mod workplace;

use arguments::{Arguments, Command, Progress};
use clap::Parser;
use kiln_builder::Class;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::SIGPIPE;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Before anything else is done: what runs a machine starts with nothing but what it is given.
    if std::env::args_os().nth(1).is_some_and(|word| word == kiln_engine::VMM_ARGUMENT) {
        return kiln_engine::vmm_main();
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    allow_all_open_files();
    let (result, code_of): (_, fn(_) -> u8) = match &arguments.command {
        Command::Build(arguments) => (build::run(arguments), exit_code::of_build),
        Command::Run(arguments) => (run::run(arguments), exit_code::of_run),
        Command::Disk(arguments) => (disk::run(arguments), exit_code::of_build),
        Command::Convert(arguments) => (convert::run(arguments).map(|()| 0), exit_code::of_build),
        Command::Copy(arguments) => (copy::run(arguments).map(|()| 0), exit_code::of_build),
        Command::Inspect(arguments) => (inspect::run(arguments).map(|()| 0), exit_code::of_build),
        Command::Diff(arguments) => (diff::run(arguments), |_| diff::TROUBLE),
        Command::Export(arguments) => (export::run(arguments).map(|()| 0), exit_code::of_build),
        Command::Rebase(arguments) => (rebase::run(arguments).map(|()| 0), exit_code::of_build),
        Command::Doctor(arguments) => (doctor::run(arguments).map(u8::from).map(|ready| 1 - ready), |_| 1),
        Command::Cache(command) => (cache::run(command).map(|()| 0), |_| 1),
    };
    match result {
        Ok(code) => code.into(),
        Err(error) => {
            let class = exit_code::class(&error);
            let is_build_like = !matches!(arguments.command, Command::Run(_) | Command::Diff(_));
            let code = match class {
                Class::Other if is_build_like && exit_code::is_of_registry(&error) => exit_code::REGISTRY,
                class => code_of(class),
            };
            report(&arguments.command, class, &chain(&error), code);
            code.into()
        }
    }
}

/// Each layer of an image in use is an open file, and images may have hundreds.
fn allow_all_open_files() {
    let limit = getrlimit(Resource::Nofile);
    // Only a wish: the usual limit suffices for most images.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// Shows help, or what is wrong with the arguments. For `kiln run`, code 2 belongs to the command.
fn usage(error: &clap::Error) -> ExitCode {
    // Nobody to tell.
    let _ = error.print();
    let is_run = std::env::args_os().nth(1).is_some_and(|command| command == "run");
    match (error.use_stderr(), is_run) {
        (false, _) => ExitCode::SUCCESS,
        (true, true) => exit_code::of_run(Class::Usage).into(),
        (true, false) => exit_code::of_build(Class::Usage).into(),
    }
}

fn report(command: &Command, class: Class, text: &str, code: u8) {
    match (command, class) {
        // The command has said why itself; or nobody reads on.
        (Command::Run(_), Class::StepExited(_) | Class::Interrupted(SIGPIPE)) => {}
        (Command::Build(arguments), _) if arguments.progress == Progress::Json => {
            progress::json_error(text, code);
        }
        _ => eprintln!("kiln: error: {text}"),
    }
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
