//! Whatever goes wrong has its own message and exit code (`docs/exit-codes.md`), and leaves nothing.

use kiln_tests::{Debian, Engine, Kiln, Room, on_every_engine};
use rustix::process::Signal;
use std::{fs, path::Path};

on_every_engine!(
    a_script_that_fails,
    a_script_killed_by_a_signal,
    a_script_that_fills_the_disk,
    a_script_that_eats_all_memory,
    a_script_past_its_time,
    a_script_that_reboots,
    interrupted_by_ctrl_c,
    interrupted_by_sigterm,
    killed,
);

/// A build of this script on the Debian base.
fn scripted(engine: Engine, room: &Room, debian: &Debian, script: &str) -> Kiln {
    let build_file = format!("from = \"base.tar\"\nrun-as-root = '''\n{script}\n'''\n");
    let context = room.context("context", Some(debian), &build_file);
    room.build(&context, "image.tar", "").engine(engine)
}

/// Runs a script that must fail, with a message of our own and a code.
fn fails(engine: Engine, script: &str, options: &[&str], code: i32, message: &str) {
    let debian = Debian::get();
    let room = Room::with_debian(&debian);
    let kiln = scripted(engine, &room, &debian, script).args(options);
    kiln.run().exits_with(code).says(message).leaves_nothing();
}

fn a_script_that_fails(engine: Engine) {
    fails(engine, "echo before; exit 7", &[], 10, "run-as-root exited with code 7");
}

fn a_script_killed_by_a_signal(engine: Engine) {
    fails(engine, "kill -SEGV $$", &[], 11, "run-as-root was killed by signal 11 (SIGSEGV)");
}

fn a_script_that_fills_the_disk(engine: Engine) {
    let script = "head -c 300M /dev/zero >/large";
    fails(engine, script, &["--disk-size", "128MiB"], 12, "raise --disk-size");
}

fn a_script_that_eats_all_memory(engine: Engine) {
    let script = r#"perl -e '$x .= "x" x 10_000_000 while 1'"#;
    fails(engine, script, &["--memory", "256MiB"], 13, "raise --memory");
}

fn a_script_past_its_time(engine: Engine) {
    fails(engine, "sleep 1000", &["--timeout", "8s"], 14, "--timeout");
}

fn a_script_that_reboots(engine: Engine) {
    // reboot(LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_RESTART), which is what `reboot -f` does.
    let script = "perl -e 'syscall(169, 0xfee1dead, 0x28121969, 0x01234567, 0); sleep 100'";
    fails(engine, script, &[], 15, "run-as-root tried to reboot or power off");
}

/// Sends a signal while a script runs.
fn signalled(engine: Engine, signal: Signal) -> (Room, kiln_tests::Outcome) {
    let debian = Debian::get();
    let room = Room::with_debian(&debian);
    let mut running = scripted(engine, &room, &debian, "echo the script runs; sleep 1000").spawn();
    running.wait_for_output("the script runs");
    let vmm = match engine {
        Engine::Tcg => "qemu",
        Engine::Kvm => "kiln-vmm",
    };
    let processes = running.processes();
    assert!(processes.iter().any(|line| line.contains(vmm)), "no {vmm} among {processes:#?}");
    running.signal(signal);
    let outcome = running.wait();
    (room, outcome)
}

fn interrupted_by_ctrl_c(engine: Engine) {
    let (_room, outcome) = signalled(engine, Signal::INT);
    outcome.exits_with(130).says("interrupted").leaves_nothing();
}

fn interrupted_by_sigterm(engine: Engine) {
    let (_room, outcome) = signalled(engine, Signal::TERM);
    outcome.exits_with(143).says("interrupted").leaves_nothing();
}

/// Nothing can be tidied up then, but the VM must not live on, and no output may be there.
fn killed(engine: Engine) {
    let (room, outcome) = signalled(engine, Signal::KILL);
    outcome.killed_by(9).leaves_no_process();
    assert!(!room.path("image.tar").exists());
}

/// A small image without a script, and a place to put worse ones.
struct Bad {
    room: Room,
    good: Vec<u8>,
}

impl Bad {
    fn new(compression: &str) -> Self {
        let room = Room::new();
        let tree = room.path("scratch/tree");
        fs::create_dir_all(&tree).expect("a directory can be made");
        // Hardly to be compressed, so that damage is in the middle of it: a linear congruential generator.
        let noise = std::iter::successors(Some(1_u32), |last| {
            Some(last.wrapping_mul(1_664_525).wrapping_add(1_013_904_223))
        });
        let noise: Vec<u8> = noise.take(200_000).map(|number| number.to_be_bytes()[0]).collect();
        fs::write(tree.join("noise"), noise).expect("a file can be written");
        let context = room.context("scratch", None, "contents = [\"tree\"]\n");
        let options = format!(",compression={compression}");
        room.build(&context, "good.tar", &options).run().succeeds();
        // The cache gets its directories, so that only new files in them show later.
        let from_good = room.context("from-good", None, "from = \"../good.tar\"\n");
        room.build(&from_good, "from-good.tar", "").run().succeeds();
        let good = fs::read(room.path("good.tar")).expect("it was made");
        Self { room, good }
    }

    fn fails(&self, base: &[u8], pin: &str, code: i32, message: &str) {
        self.room.write("bad.tar", base);
        let build_file = format!("from = \"../bad.tar{pin}\"\n");
        let context = self.room.context("from-bad", None, &build_file);
        let outcome = self.room.build(&context, "image.tar", "").run();
        outcome.exits_with(code).says("bad.tar").says(message).leaves_nothing();
    }

    /// With the byte in the middle changed, which is the layer's.
    fn damaged(&self) -> Vec<u8> {
        let mut bytes = self.good.clone();
        bytes[self.good.len() / 2] ^= 0x10;
        bytes
    }
}

#[test]
fn a_base_that_is_something_else() {
    Bad::new("none").fails(&b"This is no archive at all.\n".repeat(100), "", 20, "");
}

#[test]
fn a_base_with_broken_compression() {
    let bad = Bad::new("gzip");
    bad.fails(&bad.damaged(), "", 20, "");
}

#[test]
fn a_base_whose_layer_was_changed() {
    let bad = Bad::new("none");
    bad.fails(&bad.damaged(), "", 21, "sha256:");
}

#[test]
fn a_base_that_is_not_the_pinned_one() {
    let bad = Bad::new("none");
    let pin = format!("@sha256:{}", "0123456789abcdef".repeat(4));
    bad.fails(&bad.good.clone(), &pin, 21, &pin[1..]);
}

#[test]
fn a_truncated_base() {
    for compression in ["none", "gzip"] {
        let bad = Bad::new(compression);
        bad.fails(&bad.good[..bad.good.len() / 2], "", 22, "");
    }
}

#[test]
fn a_missing_qemu_is_named_with_what_to_install() {
    let debian = Debian::get();
    let room = Room::with_debian(&debian);
    let kiln = scripted(Engine::Tcg, &room, &debian, "true").env("KILN_QEMU", "/nonexistent/qemu");
    kiln.run().exits_with(30).says("/nonexistent/qemu").says("install").leaves_nothing();
}

#[test]
fn an_output_that_cannot_be_written() {
    let room = Room::new();
    let context = room.context("context", None, "");
    room.build(&context, "no/such/directory/image.tar", "").run().exits_with(1).says("no/such/directory");
}

#[test]
fn wrong_arguments() {
    let room = Room::new();
    let nowhere = room.path("nowhere");
    let unknown: &Path = Path::new("type=floppy,dest=x");
    room.kiln().arg("bake").run().exits_with(2).leaves_nothing();
    room.kiln().args(["build", "-o"]).arg(unknown).arg(room.context("context", None, "")).run().exits_with(2);
    room.build(&nowhere, "image.tar", "").run().fails().says("nowhere").leaves_nothing();
}
