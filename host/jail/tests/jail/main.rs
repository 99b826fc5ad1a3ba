//! Really jailed processes, and what they cannot do: each test starts this program again, as a prisoner
//! that makes one attempt and says with its exit status what came of it.
//!
//! Every attempt succeeds in a process that is free, or it would prove nothing; and each layer is tried
//! alone. As root, everything is done as root and as nobody.

mod attempt;
mod inside;
mod prison;

use attempt::Attempt;
use kiln_jail::Landlock;
use prison::{Cell, Outcome, Prisoner, User};

const TESTS: [(&str, fn()); 11] = [
    ("landlock_alone_forbids_what_it_can", landlock_alone_forbids_what_it_can),
    (
        "a_filter_alone_ends_every_attempt_and_names_the_call",
        a_filter_alone_ends_every_attempt_and_names_the_call,
    ),
    ("a_confined_process_has_lost_its_rights", a_confined_process_has_lost_its_rights),
    ("what_is_not_kept_is_closed", what_is_not_kept_is_closed),
    (
        "a_file_larger_than_the_limit_is_an_error_and_no_death",
        a_file_larger_than_the_limit_is_an_error_and_no_death,
    ),
    ("a_kernel_without_landlock_is_an_answer", a_kernel_without_landlock_is_an_answer),
    ("threads_live_and_end_under_a_filter", threads_live_and_end_under_a_filter),
    ("a_filtered_thread_can_panic_and_abort", a_filtered_thread_can_panic_and_abort),
    ("the_thread_that_broke_the_rules_is_named", the_thread_that_broke_the_rules_is_named),
    ("a_signal_is_not_taken_for_a_violation", a_signal_is_not_taken_for_a_violation),
    ("a_ruleset_leaves_what_it_names_and_nothing_else", a_ruleset_leaves_what_it_names_and_nothing_else),
];

fn main() {
    if let Ok(sentence) = std::env::var(prison::SENTENCE) {
        inside::serve(&sentence);
    }
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|word| name.contains(word.as_str()));
    let mut failed = 0;
    for (name, test) in TESTS.into_iter().filter(|(name, _)| is_wanted(name)) {
        let passed = std::panic::catch_unwind(test).is_ok();
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        failed += i32::from(!passed);
    }
    prison::clean_up();
    std::process::exit(failed.min(1));
}

fn free(attempt: Attempt, user: User) -> Outcome {
    Prisoner::new(Cell::None, user).tries(attempt)
}

fn landlock_alone_forbids_what_it_can() {
    let Landlock::Enforced { abi } = kiln_jail::landlock() else {
        println!("no Landlock here: {}", kiln_jail::landlock());
        return;
    };
    for user in User::all() {
        for attempt in Attempt::all() {
            assert_eq!(free(attempt, user), Outcome::Success, "{attempt:?} as {user:?}, free");
            let expected = match attempt.refused_by_landlock() {
                Some((since, errno)) if abi >= since => Outcome::Errno(errno),
                _ => Outcome::Success,
            };
            let outcome = Prisoner::new(Cell::Confined, user).tries(attempt);
            assert_eq!(outcome, expected, "{attempt:?} as {user:?}");
        }
    }
}

fn a_filter_alone_ends_every_attempt_and_names_the_call() {
    for user in User::all() {
        for attempt in Attempt::all() {
            for cell in [Cell::Filtered, Cell::Both] {
                match Prisoner::new(cell, user).tries(attempt) {
                    Outcome::Violation { thread, call } => {
                        assert_eq!(thread, "test");
                        assert!(attempt.calls().contains(&call.as_str()), "{attempt:?} as {user:?}: {call}");
                    }
                    outcome => {
                        assert_eq!(outcome, Outcome::Signal(libc::SIGSYS), "{attempt:?} as {user:?}");
                        assert!(attempt.blocks_signals(), "{attempt:?} as {user:?} went unreported");
                    }
                }
            }
        }
    }
}

fn a_confined_process_has_lost_its_rights() {
    for user in User::all() {
        let outcome = Prisoner::new(Cell::Confined, user).does("look at itself");
        assert_eq!(outcome, Outcome::Success, "{user:?}");
    }
}

fn what_is_not_kept_is_closed() {
    for user in User::all() {
        assert_eq!(Prisoner::new(Cell::Confined, user).inherits(), [false, true], "{user:?}");
        assert_eq!(Prisoner::new(Cell::None, user).inherits(), [true, true], "{user:?}, free");
    }
}

fn a_file_larger_than_the_limit_is_an_error_and_no_death() {
    let outcome = Prisoner::new(Cell::Confined, User::Current).does("write a large file");
    assert_eq!(outcome, Outcome::Errno(libc::EFBIG));
}

fn a_kernel_without_landlock_is_an_answer() {
    for (errno, answer) in [
        (libc::ENOSYS, "this kernel has none"),
        (libc::EOPNOTSUPP, "this kernel has it switched off (boot parameter `lsm=`)"),
        (libc::EPERM, "it may not be used here: Operation not permitted (os error 1)"),
    ] {
        let prisoner = Prisoner::new(Cell::OldKernel(errno), User::Current);
        assert_eq!(prisoner.does("say what Landlock does"), Outcome::Said(answer.into()));
        assert_eq!(prisoner.tries(Attempt::OpenFile), Outcome::Success, "all else is confined");
        assert_eq!(prisoner.does("look at itself"), Outcome::Success);
    }
}

fn threads_live_and_end_under_a_filter() {
    for user in User::all() {
        let outcome = Prisoner::new(Cell::Confined, user).does("live in filtered threads");
        assert_eq!(outcome, Outcome::Success, "{user:?}");
    }
}

fn a_filtered_thread_can_panic_and_abort() {
    let prisoner = Prisoner::new(Cell::Both, User::Current);
    assert_eq!(prisoner.does("panic and recover"), Outcome::Success);
    assert_eq!(prisoner.does("abort"), Outcome::Signal(libc::SIGABRT));
}

fn the_thread_that_broke_the_rules_is_named() {
    let outcome = Prisoner::new(Cell::Confined, User::Current).does("break the rules in a thread");
    assert_eq!(outcome, Outcome::Violation { thread: "disk".into(), call: "getppid".into() });
}

fn a_signal_is_not_taken_for_a_violation() {
    let outcome = Prisoner::new(Cell::Confined, User::Current).does("send itself SIGSYS");
    assert_eq!(outcome, Outcome::Other("somebody sent SIGSYS to the main thread".into()));
}

fn a_ruleset_leaves_what_it_names_and_nothing_else() {
    for user in User::all() {
        let outcome = Prisoner::new(Cell::None, user).does("keep the right to read one directory");
        assert_eq!(outcome, Outcome::Success, "{user:?}");
    }
}
