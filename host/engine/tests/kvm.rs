//! What a VMM process may do to us that crashed, or that its guest has taken over: nothing but end the
//! machine. `hostile/vmm.rs` plays it; no `/dev/kvm` is needed.

use kiln_devices::{ComposedStorage, FileStorage, Segment, Storage};
use kiln_engine::kvm::Kvm;
use kiln_engine::{CpuModel, Disk, Engine, Error, Exit, Machine, MachineSpec};
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::num::NonZeroU8;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const PORT: u32 = 1024;

/// A machine is given up this long after its process should have ended.
const PATIENCE: Duration = Duration::from_secs(2);

/// One test at a time, which leaves no descriptor, thread or process behind.
struct Alone {
    before: (usize, usize),
    directory: tempfile::TempDir,
    /// Until everything else is gone.
    _turn: MutexGuard<'static, ()>,
}

impl Alone {
    fn new() -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = tempfile::tempdir().unwrap();
        // Enough of a kernel for this side: the magic number of a bzImage.
        let mut image = vec![0; 1024];
        image[0x202..0x206].copy_from_slice(b"HdrS");
        fs::write(directory.path().join("kernel"), image).unwrap();
        Self { before: (count("fd"), children()), _turn: turn, directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn spec(&self) -> MachineSpec {
        MachineSpec {
            kernel: self.path("kernel"),
            initramfs: b"the agent".to_vec(),
            extra_command_line: vec!["extra=1".into()],
            cpus: NonZeroU8::MIN,
            cpu_model: CpuModel::default(),
            memory_mib: 64,
            disks: Vec::new(),
            ports: vec![PORT],
            console: None,
        }
    }

    fn launch(&self, role: &str) -> Box<dyn Machine> {
        hostile(role).launch(self.spec()).unwrap()
    }

    /// How the machine of a process that plays `role` ends.
    fn exit(&self, role: &str) -> Exit {
        self.launch(role).wait(after(30)).unwrap()
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!((count("fd"), children()), self.before, "descriptors and children");
        }
    }
}

/// Entries of a directory of this process.
fn count(directory: &str) -> usize {
    fs::read_dir(Path::new("/proc/self").join(directory)).unwrap().count()
}

/// Ended children count as well until they are waited for.
fn children() -> usize {
    let parent = format!("PPid:\t{}\n", std::process::id());
    let status = |entry: fs::DirEntry| fs::read_to_string(entry.path().join("status")).ok();
    let all = fs::read_dir("/proc").unwrap().filter_map(|entry| status(entry.ok()?));
    all.filter(|status| status.contains(&parent)).count()
}

fn hostile(role: &str) -> Kvm {
    Kvm::at(env!("CARGO_BIN_EXE_hostile-vmm").into()).with_device("/dev/null".into()).with_arguments([role])
}

fn after(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}

fn failed(why: &str) -> Exit {
    Exit::Failed(why.into())
}

#[test]
fn each_way_to_end_is_told_apart() {
    let alone = Alone::new();
    for (role, exit) in [
        ("restarts", Exit::PoweredOff),
        ("panics", Exit::Panicked("no init".into())),
        ("ends twice", failed("the first word")),
        ("leaves", failed("the VMM process ended with status 0")),
        ("dies", failed("the VMM process ended with status 7: nothing works")),
        ("crashes", failed("the VMM process was killed by signal 11 (SIGSEGV)")),
        (
            "is jailed",
            failed("the VMM process was ended by its jail: system call openat (257) is not allowed"),
        ),
        ("is killed by its filter", failed("the VMM process was ended by its jail")),
        ("garbage", failed("the VMM process said something unintelligible")),
        ("a report and more", failed("the VMM process said something unintelligible")),
        ("too much", failed("the VMM process said too much at once")),
        ("an answer", failed("the VMM process answered what it was not asked")),
    ] {
        let start = Instant::now();
        assert_eq!(alone.exit(role), exit, "{role}");
        assert!(start.elapsed() < PATIENCE, "{role} took {:?}", start.elapsed());
    }
}

#[test]
fn a_process_that_does_not_end_is_ended() {
    let alone = Alone::new();
    for (role, exit) in [
        ("stays", Exit::PoweredOff),
        ("talks on", Exit::PoweredOff),
        ("hangs up", failed("the VMM process was killed by signal 9, as by a host that has no memory left")),
    ] {
        let start = Instant::now();
        assert_eq!(alone.exit(role), exit, "{role}");
        assert!(start.elapsed() < PATIENCE * 2, "{role} took {:?}", start.elapsed());
    }
}

#[test]
fn a_process_that_never_says_what_it_should_runs_into_the_deadline() {
    let alone = Alone::new();
    for role in ["hangs", "leaves a child", "floods"] {
        let mut machine = alone.launch(role);
        let error = machine.accept(PORT, Instant::now() + Duration::from_millis(200)).unwrap_err();
        assert!(error.is_timeout(), "{error}");
        let error = machine.wait(Instant::now()).unwrap_err();
        assert!(error.to_string().starts_with("the machine did not end in time and was killed"), "{error}");
    }
}

#[test]
fn a_killed_machine_says_so() {
    let alone = Alone::new();
    let machine = alone.launch("hangs");
    let killer = machine.killer();
    killer.kill();
    killer.kill();
    assert_eq!(machine.wait(after(10)).unwrap(), Exit::Killed);
}

#[test]
fn an_end_before_anybody_connected_is_not_waited_for() {
    let alone = Alone::new();
    let error = alone.launch("dies").accept(PORT, after(30)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the machine failed: the VMM process ended with status 7: nothing works before it connected to port \
         1024; nothing on its console"
    );
}

#[test]
fn its_words_are_short_and_do_not_reach_the_terminal_as_they_are() {
    let alone = Alone::new();
    let Exit::Failed(why) = alone.exit("escapes") else { panic!("it failed") };
    assert!(why.starts_with("?[31mred?long long") && why.len() <= 240, "{why}");
}

#[test]
fn streams_arrive_where_somebody_may_connect() {
    let alone = Alone::new();
    let mut machine = alone.launch("unknown port");
    assert_eq!(read(machine.as_mut()).unwrap(), "hello");
    let error = read(machine.as_mut()).unwrap_err();
    assert!(matches!(error.exit(), Some(Exit::PoweredOff)), "{error}");
}

#[test]
fn no_more_streams_are_kept_than_may_wait() {
    let alone = Alone::new();
    let mut machine = alone.launch("many streams");
    // Nobody accepts before the last was sent.
    while children() > alone.before.1 {
        assert!(count("fd") < alone.before.0 + 40, "{} descriptors", count("fd"));
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut streams = 0;
    while read(machine.as_mut()).is_ok() {
        streams += 1;
    }
    assert_eq!(streams, 16);
}

#[test]
fn what_is_no_stream_is_closed() {
    let alone = Alone::new();
    let mut machine = alone.launch("no streams");
    // Of the last report's descriptors, one.
    machine.accept(PORT, after(10)).unwrap();
    let error = machine.accept(PORT, after(10)).unwrap_err();
    assert!(matches!(error.exit(), Some(Exit::PoweredOff)), "{error}");
}

fn read(machine: &mut dyn Machine) -> Result<String, Error> {
    let mut text = String::new();
    machine.accept(PORT, after(10))?.read_to_string(&mut text).unwrap();
    Ok(text)
}

#[test]
fn the_counters_are_those_of_the_first_connection() {
    let alone = Alone::new();
    let mut machine = alone.launch("counts");
    read(machine.as_mut()).unwrap();
    assert_eq!(machine.counters().unwrap().exits, 10);
    read(machine.as_mut()).unwrap();
    assert_eq!(machine.counters().unwrap().exits, 10);
}

fn file(content: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    file
}

fn disk(serial: &str, storage: Arc<dyn Storage>, read_only: bool) -> Disk {
    Disk { serial: serial.into(), storage, read_only }
}

#[test]
fn an_error_of_the_host_is_noted_on_its_disk() {
    let alone = Alone::new();
    let storage = Arc::new(FileStorage::writable(file(b"")).unwrap());
    let disks = vec![disk("scratch", storage.clone(), false)];
    let machine = hostile("host errors").launch(MachineSpec { disks, ..alone.spec() }).unwrap();
    assert_eq!(machine.wait(after(10)).unwrap(), Exit::PoweredOff);
    assert_eq!(storage.host_error().unwrap().kind(), ErrorKind::StorageFull);
    drop(storage);
}

#[test]
fn the_process_has_what_it_needs_and_nothing_else() {
    let alone = Alone::new();
    let content = Arc::new(file(b"0123456789"));
    let part = |offset, length| Segment::File { file: content.clone(), offset, length };
    let base = ComposedStorage::new([part(2, 3), Segment::Zeroes(5), part(7, 2)]).unwrap();
    let scratch = FileStorage::writable(file(&[b'x'; 4])).unwrap();
    let disks = vec![disk("base", Arc::new(base), true), disk("scratch", Arc::new(scratch), false)];
    let machine = hostile("looks around").launch(MachineSpec { disks, ..alone.spec() }).unwrap();
    let Exit::Failed(seen) = machine.wait(after(10)).unwrap() else { panic!("it says what it sees") };
    assert_eq!(
        seen.lines().collect::<Vec<_>>(),
        [
            "descriptors of others: 0",
            "environment variables: 0",
            "name: kiln-vmm",
            "command line: quiet earlycon=uart8250,io,0x3f8 console=ttyS0 panic=-1 reboot=k swiotlb=noforce mitigations=off extra=1",
            "initramfs: the agent",
            "base ro=true: \"234\" writable=false + 5 zeroes + \"78\" writable=false + 502 zeroes",
            "scratch ro=false: \"xxxx\" writable=true",
        ]
    );
    drop(content);
}

/// A disk that only this process can read.
struct Private;

impl Storage for Private {
    fn len(&self) -> u64 {
        512
    }

    fn read_at(&self, _: &[vm_memory::VolatileSlice<'_>], _: u64) -> std::io::Result<()> {
        Ok(())
    }

    fn write_at(&self, _: &[vm_memory::VolatileSlice<'_>], _: u64) -> std::io::Result<()> {
        Ok(())
    }

    fn punch_hole(&self, _: u64, _: u64) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_cannot_work_is_refused_before_anything_starts() {
    let alone = Alone::new();
    let spec = || alone.spec();
    let composed = || Arc::new(ComposedStorage::new([Segment::Zeroes(512)]).unwrap());
    let too_many = (0..18).map(|number| disk(&number.to_string(), composed(), true)).collect();
    for (spec, why) in [
        (
            MachineSpec { kernel: "/dev/null".into(), ..spec() },
            "/dev/null is neither a vmlinux for x86-64 nor a bzImage",
        ),
        (MachineSpec { memory_mib: 63, ..spec() }, "63 MiB of memory, but a machine needs at least 64"),
        (MachineSpec { disks: too_many, ..spec() }, "18 disks, but a machine has room for 17"),
        (
            MachineSpec { disks: vec![disk("a", composed(), false)], ..spec() },
            "the disk \"a\" is to be written, but is not one whole file",
        ),
        (
            MachineSpec { disks: vec![disk("a", Arc::new(Private), true)], ..spec() },
            "the disk \"a\" is not made of files, which another process could open",
        ),
    ] {
        assert_eq!(hostile("hangs").launch(spec).err().unwrap().to_string(), why);
    }
    let error = hostile("hangs").with_device("/nonexistent".into()).launch(spec()).err().unwrap();
    assert!(error.is_no_engine() && error.to_string().contains("kvm: there is no /nonexistent"), "{error}");
    let error = Kvm::at("/nonexistent".into()).with_device("/dev/null".into()).launch(spec()).err().unwrap();
    assert_eq!(error.to_string(), "cannot start /nonexistent");
}

#[test]
fn probes_answer() {
    let alone = Alone::new();
    for (role, answer) in [
        ("probe usable", Ok("/dev/null, version KVM API 12, Linux ")),
        ("probe usable and stays", Ok("/dev/null, version KVM API 12, Linux ")),
        ("probe slow", Ok("/dev/null, version KVM API 12, Linux ")),
        ("probe unusable", Err("/dev/null opens, but Linux cannot run on it: int3 ?[31mfails")),
        ("probe answers otherwise", Err("/dev/null: the VMM process answered something else")),
        ("probe dies", Err("/dev/null: the VMM process ended with status 3: no memory slot")),
        ("probe hangs", Err("/dev/null: a tiny guest hung; its KVM cannot be trusted with a whole one")),
    ] {
        let probed = hostile(role).probe();
        match answer {
            Ok(start) => assert!(probed.unwrap().to_string().starts_with(start), "{role}"),
            Err(why) => assert_eq!(probed.unwrap_err().to_string(), why, "{role}"),
        }
    }
    drop(alone);
}

#[test]
fn a_processor_that_lacks_something_is_only_taken_for_a_model_without() {
    let _alone = Alone::new();
    let lesser = || hostile("probe lesser");
    let why = lesser().for_cpu_model(CpuModel::X86_64V3).find().unwrap_err().to_string();
    assert_eq!(
        why,
        "/dev/null works, but this host's processor is less than x86-64-v3: it lacks avx2, bmi?1 (--cpu names \
         another model)"
    );
    for model in [CpuModel::X86_64V2, CpuModel::Host] {
        assert_eq!(lesser().for_cpu_model(model).find().unwrap(), Path::new("/dev/null"));
    }
    assert!(lesser().probe().unwrap().version.ends_with("it lacks avx2, bmi?1"));
}

#[test]
fn one_that_is_slow_is_only_taken_if_asked_for() {
    let alone = Alone::new();
    assert_eq!(
        hostile("probe slow").find().unwrap_err().to_string(),
        "/dev/null works, but its guests' kernels run 70 times slower than programs of this host (--accel kvm \
         uses it all the same)"
    );
    assert_eq!(hostile("probe slow").even_if_slow().find().unwrap(), Path::new("/dev/null"));
    drop(alone);
}

/// Probes three times; how often the guest was run for it.
fn probes(alone: &Alone, role: &str, spoil: impl Fn(&Path)) -> usize {
    let (cache, diary) = (alone.path("cache"), alone.path("diary"));
    let _ = fs::remove_file(&diary);
    let _ = fs::remove_dir_all(&cache);
    fs::create_dir(&cache).unwrap();
    let arguments = [role, diary.to_str().unwrap()];
    let kvm = hostile("").with_arguments(arguments).with_cache(Some(cache.clone()));
    let answers: Vec<_> = (0..3)
        .map(|_| {
            let answer = kvm.probe();
            spoil(&cache);
            answer
        })
        .collect();
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
    let names: Vec<_> = fs::read_dir(&cache).into_iter().flatten().map(|e| e.unwrap().file_name()).collect();
    assert!(names.is_empty() || names == ["kvm-probe"], "{names:?}");
    fs::read(diary).unwrap().len()
}

#[test]
fn what_is_certain_is_found_out_once() {
    let alone = Alone::new();
    for (role, count) in [
        ("probe usable", 1),
        ("probe slow", 1),
        ("probe unusable", 1),
        ("probe dies", 3),
        ("probe answers otherwise", 3),
    ] {
        assert_eq!(probes(&alone, role, |_| {}), count, "{role}");
    }
}

#[test]
fn a_cache_that_is_spoilt_is_no_cache() {
    let alone = Alone::new();
    let overwrite =
        |bytes: &'static [u8]| move |cache: &Path| fs::write(cache.join("kvm-probe"), bytes).unwrap();
    assert_eq!(probes(&alone, "probe usable", overwrite(b"")), 3);
    assert_eq!(probes(&alone, "probe usable", overwrite(&[0xff; 5000])), 3);
    let shorten = |cache: &Path| {
        let path = cache.join("kvm-probe");
        let bytes = fs::read(&path).unwrap();
        fs::write(path, &bytes[..bytes.len() - 1]).unwrap();
    };
    assert_eq!(probes(&alone, "probe usable", shorten), 3);
    let lengthen = |cache: &Path| {
        let path = cache.join("kvm-probe");
        let bytes = fs::read(&path).unwrap();
        fs::write(path, [&bytes[..], b"x"].concat()).unwrap();
    };
    assert_eq!(probes(&alone, "probe usable", lengthen), 3);
    let remove = |cache: &Path| fs::remove_dir_all(cache).unwrap_or_default();
    assert_eq!(probes(&alone, "probe usable", remove), 3);
}

#[test]
fn another_program_finds_out_for_itself() {
    let alone = Alone::new();
    let (cache, diary, copy) = (alone.path(""), alone.path("diary"), alone.path("copy"));
    fs::copy(env!("CARGO_BIN_EXE_hostile-vmm"), &copy).unwrap();
    for program in [Path::new(env!("CARGO_BIN_EXE_hostile-vmm")), &copy] {
        let kvm = Kvm::at(program.to_owned()).with_device("/dev/null".into()).with_cache(Some(cache.clone()));
        kvm.with_arguments(["probe usable", diary.to_str().unwrap()]).probe().unwrap();
    }
    assert_eq!(fs::read(diary).unwrap().len(), 2);
}
