//! Real machines: QEMU, the real kernel (`$KILN_KERNEL`), and a small program of our own in it.

use kiln_devices::{ComposedStorage, FileStorage, Segment, Storage};
use kiln_engine::qemu::Qemu;
use kiln_engine::{CpuModel, Disk, Engine, Exit, Initramfs, Machine, MachineSpec};
use std::io::{Read, Seek, SeekFrom, Write};
use std::num::NonZeroU8;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

const PORT: u32 = 1024;
const MIB: usize = 1024 * 1024;

fn kernel() -> PathBuf {
    let path = std::env::var_os("KILN_KERNEL");
    path.expect("these tests need $KILN_KERNEL: a kernel as scripts/build-kernel makes it").into()
}

/// The guest's program, built once.
fn init() -> &'static [u8] {
    static INIT: OnceLock<Vec<u8>> = OnceLock::new();
    INIT.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("init");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guest/init.rs");
        let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
        rustc.args([
            "--edition",
            "2024",
            "-O",
            "-C",
            "target-feature=+crt-static",
            "-C",
            "strip=symbols",
            "-o",
        ]);
        let status = rustc.arg(&program).arg(source).status().expect("these tests need rustc");
        assert!(status.success());
        std::fs::read(program).unwrap()
    })
}

fn spec(test: &str) -> MachineSpec {
    MachineSpec {
        kernel: kernel(),
        initramfs: Initramfs::with_init(init()).finish(),
        extra_command_line: vec![format!("KILN_TEST={test}")],
        cpus: NonZeroU8::MIN,
        cpu_model: CpuModel::default(),
        memory_mib: 256,
        disks: Vec::new(),
        ports: vec![PORT],
        console: std::env::var_os("KILN_TEST_CONSOLE").map(|_| Box::new(std::io::stderr()) as _),
    }
}

fn launch(spec: MachineSpec) -> Box<dyn Machine> {
    Qemu::from_environment().launch(spec).unwrap()
}

fn after(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}

fn read_all(mut stream: UnixStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// As the guest's.
fn checksum(mut sum: u64, bytes: &[u8]) -> u64 {
    for byte in bytes {
        sum = (sum.rotate_left(5) ^ u64::from(*byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    sum
}

#[test]
fn a_guest_that_switches_itself_off_is_gone() {
    let spec = spec("off");
    let start = Instant::now();
    let exit = launch(spec).wait(after(60)).unwrap();
    assert_eq!(exit, Exit::PoweredOff);
    println!("boot to power off: {:?}", start.elapsed());
}

#[test]
fn disks_are_read_and_written_as_the_driver_likes() {
    let mut scratch_file = tempfile::tempfile().unwrap();
    scratch_file.set_len(4 * MIB as u64).unwrap();
    scratch_file.write_all_at_for_test(1024 * 1024, &[0xaa; MIB]);
    let scratch = Arc::new(FileStorage::writable(scratch_file.try_clone().unwrap()).unwrap());
    let (base, content) = composed();
    let disks = vec![
        Disk { serial: "base".into(), storage: Arc::new(base), read_only: true },
        Disk { serial: "scratch".into(), storage: scratch, read_only: false },
    ];
    let mut machine = launch(MachineSpec { disks, ..spec("disks") });
    let report = read_all(machine.accept(PORT, after(60)).unwrap());
    let mut before = vec![0; 4 * MIB];
    before[MIB..2 * MIB].fill(0xaa);
    let expected = format!(
        "base ro=1 sectors={} discard=0 cache=write through sum={:016x}\n\
         write refused: true\n\
         scratch ro=0 sectors=8192 discard=1073741824 cache=write through sum={:016x}\n",
        content.len() / 512,
        checksum(0, &content),
        checksum(0, &before)
    );
    assert_eq!(report, expected);
    assert_eq!(machine.wait(after(60)).unwrap(), Exit::PoweredOff);
    before[MIB..2 * MIB].fill(0);
    for (index, byte) in before[64 * 1024..64 * 1024 + 300_000].iter_mut().enumerate() {
        *byte = (index % 251) as u8;
    }
    let mut now = Vec::new();
    scratch_file.seek(SeekFrom::Start(0)).unwrap();
    scratch_file.read_to_end(&mut now).unwrap();
    assert!(now == before, "the scratch disk is not as the guest wrote it");
}

trait WriteAt {
    fn write_all_at_for_test(&mut self, offset: u64, bytes: &[u8]);
}

impl WriteAt for std::fs::File {
    fn write_all_at_for_test(&mut self, offset: u64, bytes: &[u8]) {
        self.seek(SeekFrom::Start(offset)).unwrap();
        self.write_all(bytes).unwrap();
    }
}

/// A disk of three hundred odd pieces, and its content.
fn composed() -> (ComposedStorage, Vec<u8>) {
    let mut file = tempfile::tempfile().unwrap();
    let bytes: Vec<u8> = (0..2 * MIB).map(|i| (i * i / 7 % 256) as u8).collect();
    file.write_all(&bytes).unwrap();
    let file = Arc::new(file);
    let (mut segments, mut content) = (Vec::new(), Vec::new());
    for piece in 0..300 {
        let (offset, length) = (piece * 997, 1 + piece * 37 % 5000);
        segments.push(Segment::File { file: file.clone(), offset: offset as u64, length: length as u64 });
        content.extend_from_slice(&bytes[offset..offset + length]);
        segments.push(Segment::Zeroes(piece as u64 % 3));
        content.resize(content.len() + piece % 3, 0);
    }
    content.resize(content.len().next_multiple_of(512), 0);
    let storage = ComposedStorage::new(segments).unwrap();
    assert_eq!(storage.len(), content.len() as u64);
    (storage, content)
}

#[test]
fn bytes_go_both_ways_far_over_the_credit_window() {
    const LENGTH: usize = 64 * MIB;
    let mut machine = launch(spec("bulk"));
    let mut stream = machine.accept(PORT, after(60)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(&(LENGTH as u64).to_le_bytes()).unwrap();
    let block: Vec<u8> = (0..MIB).map(|i| (i % 249) as u8).collect();
    let (mut sum, start) = (0, Instant::now());
    for _ in 0..LENGTH / MIB {
        stream.write_all(&block).unwrap();
        sum = checksum(sum, &block);
    }
    let mut word = [0; 8];
    stream.read_exact(&mut word).unwrap();
    assert_eq!(u64::from_le_bytes(word), sum, "host to guest");
    println!("host to guest, with checksum: {:?} for {LENGTH} bytes", start.elapsed());

    let (mut sum, start) = (0, Instant::now());
    let mut block = vec![0; MIB];
    for _ in 0..LENGTH / MIB {
        stream.read_exact(&mut block).unwrap();
        sum = checksum(sum, &block);
    }
    stream.read_exact(&mut word).unwrap();
    println!("guest to host, with checksum: {:?} for {LENGTH} bytes", start.elapsed());
    assert_eq!(u64::from_le_bytes(word), sum, "guest to host");
    assert_eq!(machine.wait(after(60)).unwrap(), Exit::PoweredOff);
}

#[test]
fn a_slow_reader_holds_the_guest_back_and_a_fast_one_does_not_wait() {
    const LENGTH: usize = 256 * MIB;
    let mut machine = launch(spec("flood"));
    let mut stream = machine.accept(PORT, after(60)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(&(LENGTH as u64).to_le_bytes()).unwrap();
    let before = anonymous_kib();
    std::thread::sleep(Duration::from_millis(500));
    let held_kib = anonymous_kib().saturating_sub(before);
    assert!(held_kib < 16 * 1024, "{held_kib} KiB held for a reader that does not read");
    let (mut left, mut block, start) = (LENGTH, vec![0; MIB], Instant::now());
    while left > 0 {
        let count = stream.read(&mut block).unwrap();
        assert!(count > 0, "the stream ended {left} bytes early");
        left -= count;
    }
    let rate = (LENGTH / MIB) as f64 / start.elapsed().as_secs_f64();
    println!("guest to host: {rate:.0} MiB/s");
    assert_eq!(machine.wait(after(60)).unwrap(), Exit::PoweredOff);
}

/// This process's own memory, without the guests'.
fn anonymous_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_port_nobody_listens_on_is_refused() {
    let mut machine = launch(spec("refused"));
    assert_eq!(read_all(machine.accept(PORT, after(60)).unwrap()), "ConnectionReset\n");
    assert_eq!(machine.wait(after(60)).unwrap(), Exit::PoweredOff);
}

#[test]
fn a_guest_that_said_all_can_still_listen() {
    let mut machine = launch(spec("half-close"));
    let mut stream = machine.accept(PORT, after(60)).unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    assert_eq!(said, "all said");
    stream.write_all(&vec![7; 3 * MIB]).unwrap();
    drop(stream);
    let mut heard = [0; 8];
    machine.accept(PORT, after(60)).unwrap().read_exact(&mut heard).unwrap();
    assert_eq!(u64::from_le_bytes(heard), 3 * MIB as u64);
    assert_eq!(machine.wait(after(60)).unwrap(), Exit::PoweredOff);
}

#[test]
fn the_last_words_of_a_guest_that_does_not_wait_are_heard() {
    let mut machine = launch(spec("last-words"));
    let mut stream = machine.accept(PORT, after(60)).unwrap();
    std::thread::sleep(Duration::from_secs(2));
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).unwrap();
    assert_eq!(heard.len(), 900_000);
    assert_eq!(machine.wait(after(60)).unwrap(), Exit::PoweredOff);
}

#[test]
fn a_reader_learns_that_the_machine_was_killed_before_anyone_waits_for_it() {
    let mut machine = launch(spec("silent"));
    let mut stream = machine.accept(PORT, after(60)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    machine.killer().kill();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    assert_eq!(machine.wait(after(60)).unwrap(), Exit::Killed);
}

#[test]
fn the_guest_does_not_learn_the_date() {
    let mut machine = launch(spec("clock"));
    let report = read_all(machine.accept(PORT, after(60)).unwrap());
    let seconds: Vec<u64> = report.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(seconds.len(), 3, "{report}");
    assert!(seconds.iter().all(|seconds| *seconds < 3600), "{report}");
    assert_eq!(machine.wait(after(60)).unwrap(), Exit::PoweredOff);
}

#[test]
fn several_connections_do_not_mix() {
    let mut machine = launch(spec("many"));
    let streams: Vec<_> = (0..8).map(|_| machine.accept(PORT, after(60)).unwrap()).collect();
    for (number, mut stream) in streams.into_iter().enumerate() {
        let mut line = vec![0; "stream 0\n".len()];
        stream.read_exact(&mut line).unwrap();
        assert_eq!(String::from_utf8(line).unwrap(), format!("stream {number}\n"));
    }
    assert_eq!(machine.wait(after(60)).unwrap(), Exit::PoweredOff);
}

#[test]
fn a_guest_notices_that_the_host_has_gone() {
    let mut machine = launch(spec("gone"));
    drop(machine.accept(PORT, after(60)).unwrap());
    assert_eq!(read_all(machine.accept(PORT, after(60)).unwrap()), "BrokenPipe\n");
    assert_eq!(machine.wait(after(60)).unwrap(), Exit::PoweredOff);
}

#[test]
fn a_kernel_that_gives_up_is_seen_at_once() {
    let start = Instant::now();
    let mut machine = launch(spec("panic"));
    let error = machine.accept(PORT, after(60)).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("the guest's kernel gave up: Attempted to kill init!"), "{text}");
    assert!(text.contains("Kernel panic - not syncing"), "{text}");
    assert!(matches!(machine.wait(after(60)).unwrap(), Exit::Panicked(_)));
    assert!(start.elapsed() < Duration::from_secs(30));
}

#[test]
fn a_guest_that_never_connects_runs_into_the_deadline() {
    let mut machine = launch(spec("hang"));
    let error = machine.accept(PORT, after(2)).unwrap_err();
    assert!(error.is_timeout(), "{error}");
    let error = machine.wait(after(0)).unwrap_err();
    assert!(error.to_string().starts_with("the machine did not end in time and was killed"), "{error}");
}

#[test]
fn a_killed_machine_ends_its_streams_and_leaves_nothing() {
    let mut machine = launch(spec("silent"));
    let mut stream = machine.accept(PORT, after(60)).unwrap();
    let killer = machine.killer();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        killer.kill();
        killer.kill();
        killer
    });
    let start = Instant::now();
    assert_eq!(machine.wait(after(60)).unwrap(), Exit::Killed);
    assert!(start.elapsed() < Duration::from_secs(2), "killing took {:?}", start.elapsed());
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    thread.join().unwrap().kill();
    // Other tests' machines end meanwhile, and may be zombies for a moment.
    let gone = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        zombies() == 0
    });
    assert!(gone, "a child was not reaped");
}

/// Ended children of this process that nobody reaped.
fn zombies() -> usize {
    let parent = format!("PPid:\t{}", std::process::id());
    let status = |entry: std::fs::DirEntry| std::fs::read_to_string(entry.path().join("status")).ok();
    let all = std::fs::read_dir("/proc").unwrap().filter_map(|entry| status(entry.ok()?));
    all.filter(|status| status.contains(&parent) && status.contains("State:\tZ")).count()
}

#[test]
fn a_noisy_console_is_kept_short_and_clean() {
    let mut machine = launch(spec("noise"));
    drop(machine.accept(PORT, after(60)).unwrap());
    // The console comes another way than the connection, and may come later.
    let until = after(10);
    while !machine.console_tail().contains("line 1999") && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
    let tail = machine.console_tail();
    assert!(tail.contains("line 1999 ?[31mred"), "{tail}");
    assert!(tail.len() < 8 * 1024 && !tail.contains('\u{1b}'), "{tail}");
    assert_eq!(machine.wait(after(60)).unwrap(), Exit::PoweredOff);
}

#[test]
fn a_file_that_is_no_kernel_is_refused_before_anything_starts() {
    let spec = MachineSpec { kernel: "/dev/null".into(), ..spec("off") };
    let error = Qemu::from_environment().launch(spec).err().unwrap();
    assert_eq!(error.to_string(), "/dev/null is neither a vmlinux for x86-64 nor a bzImage");
}

/// A program that stands for QEMU, in a directory that goes with the returned guard.
fn stand_in(script: &str) -> (tempfile::TempDir, Qemu) {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("qemu");
    std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    (directory, Qemu::at(program))
}

/// What a caller of such a program learns.
fn refusal(script: &str) -> kiln_engine::Error {
    let (_directory, qemu) = stand_in(script);
    let mut machine = qemu.launch(spec("off")).unwrap();
    machine.accept(PORT, after(60)).unwrap_err()
}

#[test]
fn a_qemu_that_fails_says_why() {
    let error = refusal(
        "[ \"$*\" = --version ] && echo 'QEMU emulator version 9.2.0' && exit
        echo 'no such machine' >&2; exit 3",
    );
    assert_eq!(
        error.to_string(),
        "the machine failed: QEMU ended with status 3: no such machine before it connected to port \
         1024; nothing on its console"
    );
    assert!(!error.is_no_engine());
}

#[test]
fn a_qemu_that_is_too_old_is_told_by_its_failure() {
    let error = refusal(
        "[ \"$*\" = --version ] && echo 'QEMU emulator version 6.2.0 (Debian)' && exit
        echo 'vhost-user-vsock-device: no such device' >&2; exit 1",
    );
    let text = error.to_string();
    assert!(text.starts_with("QEMU 6.2.0 is too old, 7.2 is needed (install it: "), "{text}");
    assert!(error.is_no_engine());
}

#[test]
fn a_program_that_is_no_qemu_is_told_by_its_end() {
    for script in ["exit 0", "exit 1", "echo some words", "echo some words; exit 1"] {
        let text = refusal(script).to_string();
        assert!(text.contains("does not tell its version (install it: "), "{text}");
    }
}

#[test]
fn a_qemu_that_runs_nothing_is_no_machine_that_switched_itself_off() {
    let version = "[ \"$*\" = --version ] && echo 'QEMU emulator version 9.2.0'";
    let text = refusal(&format!("{version}; exit 0")).to_string();
    assert!(text.starts_with("the machine failed: QEMU ended without running the guest before"), "{text}");
}

#[test]
fn memory_that_cannot_be_had_is_the_reason_given() {
    let error = Qemu::from_environment().launch(MachineSpec { memory_mib: 1 << 20, ..spec("off") });
    let text = error.err().unwrap().to_string();
    assert_eq!(text, "1048576 MiB of memory, but a machine can have at most 523264");
    // As much as the address space of a QEMU under this limit does not hold.
    let (_directory, qemu) = stand_in("ulimit -v 2000000; exec qemu-system-x86_64 \"$@\"");
    let mut machine = qemu.launch(MachineSpec { memory_mib: 4096, ..spec("off") }).unwrap();
    let text = machine.accept(PORT, after(60)).unwrap_err().to_string();
    assert!(text.contains("as the host does not give it the machine's memory: "), "{text}");
}

#[test]
fn a_qemu_without_a_sandbox_runs_without() {
    let real = "exec qemu-system-x86_64 \"$@\"";
    for complaint in [
        "There is no option group 'sandbox'",
        "-sandbox support is not enabled in this QEMU binary",
        "failed to install seccomp syscall filter in the kernel",
    ] {
        let script = format!("[ \"$1\" = -sandbox ] && echo \"{complaint}\" >&2 && exit 1\n{real}");
        let (_directory, qemu) = stand_in(&script);
        let mut machine = qemu.launch(spec("refused")).unwrap();
        assert_eq!(read_all(machine.accept(PORT, after(60)).unwrap()), "ConnectionReset\n");
        assert_eq!(machine.wait(after(60)).unwrap(), Exit::PoweredOff);
    }
}

/// What a QEMU could try once its guest has taken it over. Each line that succeeds is told.
const ATTEMPTS: &str = "
    tell() { echo \"it could $1\" >&2; }
    read -r line </etc/passwd && tell 'read a file'
    read -r line </proc/$PPID/maps && tell 'look into our memory'
    (: >\"$0.new\") && tell 'make a file'
    (: >>\"$0\") && tell 'change itself'
    rm \"$0\" && tell 'remove itself'";

/// Needs Landlock, and signals its sixth version.
#[test]
fn a_qemu_reads_nothing_but_its_own_and_writes_nothing() {
    let kiln_engine::Landlock::Enforced { abi } = kiln_engine::landlock() else {
        println!("no Landlock here: {}", kiln_engine::landlock());
        return;
    };
    let signal = if abi >= 6 { "kill -0 $PPID && tell 'signal us'" } else { "" };
    // The second run comes after QEMU's own sandbox was refused; both make their attempts.
    let complaint = "[ \"$1\" = -sandbox ] && echo no seccomp >&2 && exit 1";
    for script in [String::new(), complaint.into()] {
        let text = refusal(&format!(
            "[ \"$*\" = --version ] && echo 'QEMU emulator version 9.2.0' && exit
            {ATTEMPTS}\n{signal}\n{script}\necho made all attempts >&2; exit 3"
        ));
        let text = text.to_string();
        assert!(text.contains("made all attempts") && !text.contains("it could"), "{text}");
        assert!(text.contains("(it may read its installation and the kernel only)"), "{text}");
    }
}

/// The test above proves something: free, such a program can do all of it.
#[test]
fn a_program_that_is_not_jailed_can_do_all_that_a_qemu_cannot() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("free");
    std::fs::write(&program, format!("{ATTEMPTS}\nkill -0 $PPID && tell 'signal us'\n")).unwrap();
    let output = Command::new("/bin/sh").arg(&program).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(told.matches("it could").count(), 6, "{told}");
}

#[test]
fn a_missing_qemu_is_named_with_how_to_get_one() {
    let error = Qemu::at("/nonexistent/qemu".into()).launch(spec("off")).err().unwrap();
    let text = error.to_string();
    let start = "no engine can be used here: qemu: /nonexistent/qemu is not installed (install it: ";
    assert!(text.starts_with(start) && error.is_no_engine(), "{text}");
}

/// With the socket and the random number device, as many as the machine has places for.
#[test]
fn a_machine_has_room_for_six_disks_and_no_more() {
    let disk = |number: u8| {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[number; 4096]).unwrap();
        let storage = Arc::new(FileStorage::read_only(file).unwrap());
        Disk { serial: format!("disk-{number}"), storage, read_only: true }
    };
    let with_disks = |count| MachineSpec { disks: (0..count).map(disk).collect(), ..spec("disks") };
    let mut machine = launch(with_disks(6));
    let report = read_all(machine.accept(PORT, after(60)).unwrap());
    let of_disk = |number: u8| {
        let sum = checksum(0, &[number; 4096]);
        format!(
            "disk-{number} ro=1 sectors=8 discard=0 cache=write through sum={sum:016x}\nwrite refused: true\n"
        )
    };
    assert_eq!(report, (0..6).map(of_disk).collect::<String>());
    assert_eq!(machine.wait(after(60)).unwrap(), Exit::PoweredOff);
    let error = Qemu::from_environment().launch(with_disks(7)).err().unwrap();
    assert_eq!(error.to_string(), "7 disks, but a machine has room for 6");
}

#[test]
fn more_processors_and_memory_behind_the_hole_work_too() {
    let two = NonZeroU8::new(2).unwrap();
    let mut machine = launch(MachineSpec { cpus: two, memory_mib: 4096, ..spec("many") });
    let streams: Vec<_> = (0..8).map(|_| machine.accept(PORT, after(60)).unwrap()).collect();
    drop(streams);
    assert_eq!(machine.wait(after(60)).unwrap(), Exit::PoweredOff);
}
