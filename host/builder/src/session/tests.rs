use super::*;
use crate::{Class, packing::NoLayer};
use kiln_engine::Accel;
use kiln_protocol::{Program, Stage, Step, Stream};
use std::{path::PathBuf, sync::Mutex};

const NO_SPACE_LEFT: ScratchUsage = ScratchUsage { size: 1 << 30, available: 4096, available_inodes: 9 };
const SPACE_LEFT: ScratchUsage = ScratchUsage { size: 1 << 30, available: 1 << 29, available_inodes: 9 };

fn job(steps: &[&str]) -> Job {
    let step = |name: &&str| Step {
        name: (*name).to_owned(),
        stage: Stage::Root,
        program: Program::Script(b"true".to_vec()),
        user: None,
        environment: Vec::new(),
        working_directory: None,
        stdin: false,
    };
    Job {
        hostname: "kiln".to_owned(),
        clock: 0,
        base: None,
        tools: None,
        contents: None,
        scratch: "scratch".to_owned(),
        target: None,
        steps: steps.iter().map(step).collect(),
        send_layer: false,
    }
}

fn guest() -> GuestSettings {
    GuestSettings {
        accel: Accel::Tcg,
        kernel: None,
        lib_dir: PathBuf::new(),
        memory_mib: 512,
        cpus: None,
        cpu_model: Default::default(),
        scratch_size: 2 << 30,
        show_console: false,
    }
}

fn hello() -> FromGuest {
    FromGuest::Hello { version: VERSION, kernel: "6.12".to_owned() }
}

fn report(ending: Ending) -> StepReport {
    StepReport { step: 0, ending, oom_kills: 0, scratch: SPACE_LEFT }
}

fn done() -> FromGuest {
    FromGuest::Done { scratch: SPACE_LEFT }
}

/// Plays a guest that says this and hangs up, whatever it is told.
fn talk(messages: &[FromGuest], job: &Job, observer: &dyn Observer) -> Result<Vec<StepReport>, Error> {
    let (host, mut guest) = UnixStream::pair().unwrap();
    let mut wire = Vec::new();
    messages.iter().for_each(|message| encode(message, &mut wire).unwrap());
    guest.write_all(&wire).unwrap();
    // Whoever hangs up with unread data resets the connection; this one only stops talking.
    guest.shutdown(std::net::Shutdown::Write).unwrap();
    run_job(host, job, None, observer, &mut NoLayer)
}

fn error_of(messages: &[FromGuest]) -> String {
    let error = talk(messages, &job(&["run-as-root"]), &|_: Event<'_>| {}).unwrap_err();
    assert_eq!(error.class(), Class::Machine, "{error}");
    error.to_string()
}

#[test]
fn a_job_that_ends_well_is_told_as_it_goes() {
    let told = Mutex::new(Vec::new());
    let observer = |event: Event<'_>| {
        told.lock().unwrap().push(match event {
            Event::StepStarted { name } => format!("start {name}"),
            Event::Output { stream: Stream::Stdout, bytes } => {
                format!("out {}", String::from_utf8_lossy(bytes))
            }
            Event::StepEnded { name, .. } => format!("end {name}"),
            other => format!("{other:?}"),
        });
    };
    let messages = [
        hello(),
        FromGuest::StepStarted { step: 0 },
        FromGuest::Output { stream: Stream::Stdout, bytes: b"hi".to_vec() },
        FromGuest::StepEnded(report(Ending::Exited(0))),
        done(),
    ];
    let reports = talk(&messages, &job(&["run-as-root"]), &observer).unwrap();
    assert!(check_reports(&job(&["run-as-root"]), &reports, &guest()).is_ok());
    assert_eq!(told.into_inner().unwrap(), ["start run-as-root", "out hi", "end run-as-root"]);
}

#[test]
fn a_guest_that_breaks_the_protocol_is_not_believed() {
    let started = FromGuest::StepStarted { step: 0 };
    for (messages, error) in [
        (vec![done()], "the guest sent `done` where it must not"),
        (vec![hello(), hello()], "the guest sent `hello` where it must not"),
        (vec![hello(), done()], "the guest sent `done` where it must not"),
        (
            vec![hello(), FromGuest::StepStarted { step: 1 }],
            "the guest sent `step started` where it must not",
        ),
        (vec![hello(), started.clone(), started.clone()], "the guest sent `step started` where it must not"),
        (vec![hello(), started.clone(), done()], "the guest sent `done` where it must not"),
        (
            vec![hello(), FromGuest::StepEnded(report(Ending::Exited(0)))],
            "the guest sent `step ended` where it must not",
        ),
        (vec![hello(), FromGuest::Layer(LayerRecord::Zeroes(1))], "the guest sent `layer` where it must not"),
        (
            vec![hello(), FromGuest::Output { stream: Stream::Stdout, bytes: Vec::new() }],
            "the guest sent `output` where it must not",
        ),
        (vec![hello(), started], "the connection to the guest broke"),
        (vec![], "the connection to the guest broke"),
    ] {
        assert_eq!(error_of(&messages), error, "{messages:?}");
    }
}

#[test]
fn an_agent_of_another_build_is_told_apart() {
    let error = error_of(&[FromGuest::Hello { version: VERSION + 1, kernel: String::new() }]);
    assert!(error.contains("they are of different builds"), "{error}");
}

#[test]
fn each_ending_has_its_own_error() {
    let ended = |ending, oom_kills, scratch| StepReport { step: 0, ending, oom_kills, scratch };
    for (report, class, message) in [
        (ended(Ending::Exited(3), 0, SPACE_LEFT), Class::StepExited(3), "s exited with code 3"),
        (
            ended(Ending::Signaled(11), 0, SPACE_LEFT),
            Class::StepSignaled(11),
            "s was killed by signal 11 (SIGSEGV)",
        ),
        (
            ended(Ending::Rebooted, 0, SPACE_LEFT),
            Class::StepRebooted,
            "s tried to reboot or power off; a step ends by exiting",
        ),
        (
            ended(Ending::Signaled(9), 1, SPACE_LEFT),
            Class::OutOfMemory,
            "the guest ran out of memory (512 MiB) in s; raise --memory",
        ),
        (
            ended(Ending::Exited(1), 0, NO_SPACE_LEFT),
            Class::ScratchFull,
            "the scratch disk (2048 MiB) is full after s; raise --disk-size",
        ),
        // A script that goes on regardless leaves half-written files.
        (
            ended(Ending::Exited(0), 0, NO_SPACE_LEFT),
            Class::ScratchFull,
            "the scratch disk (2048 MiB) is full after s; raise --disk-size",
        ),
        (
            ended(Ending::NotStarted { what: "/bin/sh\r".to_owned(), errno: 2 }, 0, SPACE_LEFT),
            Class::StepNotFound,
            "s could not be started: /bin/sh\\r",
        ),
        (
            ended(Ending::NotStarted { what: "/x".to_owned(), errno: 13 }, 0, SPACE_LEFT),
            Class::StepNotExecutable,
            "s could not be started: /x",
        ),
    ] {
        let error = check_reports(&job(&["s"]), std::slice::from_ref(&report), &guest()).unwrap_err();
        assert_eq!((error.class(), error.to_string().as_str()), (class, message), "{report:?}");
    }
}

#[test]
fn a_process_killed_for_memory_is_the_scripts_own_business_when_it_copes() {
    let report = StepReport { step: 0, ending: Ending::Exited(0), oom_kills: 1, scratch: SPACE_LEFT };
    assert!(check_reports(&job(&["s"]), &[report], &guest()).is_ok());
}
