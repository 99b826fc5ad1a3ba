//! `kiln run`: a throw-away root command.

use kiln_tests::{Debian, Engine, Kiln, Room, on_every_engine};
use std::fs::File;

on_every_engine!(
    exit_code_and_streams_are_passed_through,
    a_command_that_cannot_be_executed,
    a_killed_command,
    another_user_with_input,
    nobody_reads_the_output,
    variables_replace_the_images,
);

fn run(engine: Engine, room: &Room, debian: &Debian) -> Kiln {
    let base = format!("docker-archive:{}", debian.image().display());
    room.kiln().args(["run", "--base", &base]).engine(engine)
}

fn exit_code_and_streams_are_passed_through(engine: Engine) {
    let debian = Debian::get();
    let room = Room::with_debian(&debian);
    run(engine, &room, &debian).args(["--", "true"]).run().succeeds().prints("").leaves_nothing();
    let script = "printf 'out\\0put'; echo message >&2; touch /etc/only-here; exit 7";
    let outcome = run(engine, &room, &debian).args(["--", "sh", "-c", script]).run();
    outcome.exits_with(7).prints("out\0put").says("message").leaves_nothing();
}

fn a_command_that_cannot_be_executed(engine: Engine) {
    let debian = Debian::get();
    let room = Room::with_debian(&debian);
    run(engine, &room, &debian).args(["--", "no-such-command"]).run().exits_with(127).says("no-such-command");
    run(engine, &room, &debian).args(["--", "/etc/passwd"]).run().exits_with(126).says("/etc/passwd");
}

fn a_killed_command(engine: Engine) {
    let debian = Debian::get();
    let room = Room::with_debian(&debian);
    let killed = run(engine, &room, &debian).args(["--", "sh", "-c", "kill -9 $$"]).run();
    killed.exits_with(137).leaves_nothing();
    let late = run(engine, &room, &debian).args(["--timeout", "6s", "--", "sleep", "1000"]).run();
    late.exits_with(124).says("--timeout").leaves_nothing();
}

fn another_user_with_input(engine: Engine) {
    let debian = Debian::get();
    let room = Room::with_debian(&debian);
    let input = room.write("input", "typed\n");
    let script = "id -u; id -g; read line; echo \"got $line\"";
    let kiln = run(engine, &room, &debian)
        .args(["--user", "games", "-i"])
        .stdin(File::open(input).expect("it is there"));
    kiln.args(["--", "sh", "-c", script]).run().succeeds().prints("5\n60\ngot typed\n");
}

fn nobody_reads_the_output(engine: Engine) {
    let debian = Debian::get();
    let room = Room::with_debian(&debian);
    let endless =
        run(engine, &room, &debian).args(["--", "yes"]).through(["sh", "-c", "\"$@\" | head -n 1", "sh"]);
    endless.run().succeeds().prints("y\n").leaves_nothing();
}

fn variables_replace_the_images(engine: Engine) {
    let debian = Debian::get();
    let room = Room::with_debian(&debian);
    let kiln = run(engine, &room, &debian).args([
        "-e",
        "PATH=/usr/bin",
        "-e",
        "FROM_OUTSIDE",
        "-e",
        "UNSET_OUTSIDE",
    ]);
    let outcome = kiln
        .env("FROM_OUTSIDE", "1")
        .args(["-w", "/tmp", "--", "sh", "-c", "pwd; env -u PWD -u HOME | sort"])
        .run();
    outcome.succeeds().prints("/tmp\nFROM_OUTSIDE=1\nPATH=/usr/bin\n");
}

#[test]
fn what_is_not_the_commands_fault_has_its_own_code() {
    let room = Room::new();
    let missing = room.kiln().args(["run", "--base", "/nonexistent/base.tar", "--", "true"]).run();
    missing.exits_with(125).says("/nonexistent/base.tar");
    room.kiln()
        .args(["run", "--no-such-option", "--", "true"])
        .run()
        .exits_with(125)
        .says("--no-such-option");
}
