//! What a prisoner does: enters its cell, does what it was told, and ends with an error's number.

use crate::attempt::{Attempt, Outside};
use kiln_jail::{Condition, Filter, Landlock, Limits, Rule, Ruleset, confine, report_violations};
use rustix::fs::{MemfdFlags, Mode, memfd_create};
use rustix::process::{
    DumpableBehavior, Resource, Signal, dumpable_behavior, getpid, getrlimit, kill_process, umask,
};
use rustix::thread::{CapabilitySet, capabilities, no_new_privs};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, apply_filter};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::RawFd;
use std::panic::catch_unwind;
use std::process::exit;
use std::thread;
use std::time::{Duration, Instant};

const LIMITS: Limits = Limits { open_files: 64, file_bytes: 1 << 20 };

/// Never returns to the tests.
pub fn serve(sentence: &str) -> ! {
    let words: Vec<&str> = sentence.split('\n').collect();
    let [cell, what, more @ ..] = &words[..] else { panic!("{sentence}") };
    let kept = more.first().and_then(|number| number.parse().ok());
    let landlock = enter(cell, kept.as_slice());
    let done = match Attempt::named(what) {
        Some(attempt) => attempt.make(&outside(more)),
        None => act(what, landlock),
    };
    exit(done.map_or_else(|error| error.raw_os_error().unwrap_or(255), |()| 0));
}

fn outside(words: &[&str]) -> Outside {
    let [directory, port, victim] = words else { panic!("{words:?}") };
    Outside { directory: directory.into(), tcp_port: port.parse().unwrap(), victim: victim.parse().unwrap() }
}

fn enter(cell: &str, keep: &[RawFd]) -> Option<Landlock> {
    report_violations();
    match cell {
        "None" => return None,
        "Filtered" => {}
        "Confined" | "Both" => {}
        errno => take_landlock_away(errno.parse().unwrap()),
    }
    let landlock = (cell != "Filtered").then(|| confine(&LIMITS, keep).unwrap());
    if matches!(cell, "Filtered" | "Both") {
        Filter::compile("test", &[]).unwrap().install().unwrap();
    }
    landlock
}

/// Lets the kernel look like one that has none.
fn take_landlock_away(errno: u32) {
    let calls = [libc::SYS_landlock_create_ruleset, libc::SYS_landlock_restrict_self];
    let rules = calls.map(|call| (call, Vec::new())).into();
    let filter =
        SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(errno), TargetArch::x86_64);
    let program: BpfProgram = filter.unwrap().try_into().unwrap();
    apply_filter(&program).unwrap();
}

fn act(what: &str, landlock: Option<Landlock>) -> io::Result<()> {
    match what {
        "wait" => return wait(),
        "look at itself" => look_at_itself(),
        "say what Landlock does" => println!("{}", landlock.unwrap()),
        "write a large file" => return write_a_large_file(),
        "live in filtered threads" => live_in_filtered_threads(),
        "panic and recover" => assert!(catch_unwind(|| panic!("as it should")).is_err()),
        "abort" => std::process::abort(),
        "break the rules in a thread" => break_the_rules_in_a_thread(),
        "send itself SIGSYS" => kill_process(getpid(), Signal::SYS)?,
        "keep the right to read one directory" => return read_one_directory(),
        _ => panic!("{what}"),
    }
    Ok(())
}

fn wait() -> io::Result<()> {
    io::stdout().write_all(b"!")?;
    io::stdout().flush()?;
    io::stdin().read_to_end(&mut Vec::new()).map(drop)
}

fn look_at_itself() {
    assert!(no_new_privs().unwrap());
    assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    let sets = capabilities(None).unwrap();
    for set in [sets.effective, sets.permitted, sets.inheritable] {
        assert_eq!(set, CapabilitySet::empty());
    }
    assert_eq!(umask(Mode::empty()), Mode::RWXG | Mode::RWXO);
    let limits =
        [(Resource::Nofile, LIMITS.open_files), (Resource::Fsize, LIMITS.file_bytes), (Resource::Core, 0)];
    for (resource, most) in limits {
        let limit = getrlimit(resource);
        assert_eq!((limit.current, limit.maximum), (Some(most), Some(most)), "{resource:?}");
    }
}

fn write_a_large_file() -> io::Result<()> {
    let mut file = File::from(memfd_create("large", MemfdFlags::CLOEXEC)?);
    file.write_all(&vec![1; LIMITS.file_bytes as usize])?;
    file.write_all(&[1])
}

/// With a filter that allows nothing of its own, what a thread of a program does all the same.
fn live_in_filtered_threads() {
    let live = || {
        Filter::compile("living", &[]).unwrap().install().unwrap();
        let start = Instant::now();
        for round in 0..20 {
            // Below the size from which malloc maps, and above; what is freed last is the top.
            let small: Vec<Vec<u8>> = (0..200).map(|_| vec![round; 100_000]).collect();
            let mut large = vec![round; 20 << 20];
            large.extend_from_within(..);
            drop((small, large));
        }
        let map: HashMap<u32, u32> = (0..1000).map(|number| (number, number)).collect();
        assert_eq!(map.len(), 1000);
        thread::sleep(Duration::from_millis(10));
        thread::yield_now();
        assert!(start.elapsed() > Duration::from_millis(10));
        assert!(catch_unwind(|| panic!("as it should")).is_err());
    };
    let threads = [(); 3].map(|()| thread::spawn(live));
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

fn break_the_rules_in_a_thread() {
    let rules = [Rule::If(libc::SYS_fcntl, &[Condition::Lacks(1, 1)])];
    let filter = Filter::compile("disk", &rules).unwrap();
    let work = move || {
        filter.install().unwrap();
        let _ = rustix::process::getppid();
    };
    thread::spawn(work).join().unwrap();
}

/// `/etc`, and no more.
fn read_one_directory() -> io::Result<()> {
    let ruleset = Ruleset::reading(["/etc", "/nonexistent"]).unwrap();
    let landlock = ruleset.restrict_self().unwrap();
    let refused = |result: io::Result<()>| match landlock {
        Landlock::Enforced { .. } => assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EACCES)),
        Landlock::Unavailable(_) => result.unwrap(),
    };
    File::open("/etc/passwd")?;
    refused(File::open("/proc/self/status").map(drop));
    refused(File::options().write(true).open("/dev/null").map(drop));
    Ok(())
}
