//! A world for the agent without a virtual machine: its real code as root in fresh namespaces, on
//! loop devices, over a Unix socket.

use kiln_protocol::{
    Decoder, FromGuest, FromHost, Job, LayerEntry, LayerRecord, Program, Stage, Step, StepReport, Stream,
    encode,
};
use std::{
    fs,
    io::{Read, Write},
    os::unix::{fs::symlink, net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};
use tempfile::TempDir;

/// The guest's clock in all jobs here.
pub const CLOCK: u64 = 1_000_000_000;
/// Host programs that make up the base's userland.
const PROGRAMS: [&str; 27] = [
    "/bin/sh",
    "/bin/cat",
    "/bin/chmod",
    "/bin/chown",
    "/bin/cp",
    "/bin/dd",
    "/usr/bin/env",
    "/usr/bin/id",
    "/bin/ln",
    "/bin/ls",
    "/bin/mkdir",
    "/bin/mknod",
    "/bin/mv",
    "/bin/rm",
    "/bin/rmdir",
    "/bin/sleep",
    "/usr/bin/stat",
    "/bin/touch",
    "/bin/true",
    "/usr/bin/truncate",
    "/bin/uname",
    "/usr/bin/unshare",
    "/usr/bin/setsid",
    "/usr/bin/wc",
    "/usr/bin/head",
    "/usr/bin/find",
    "/usr/bin/mkfifo",
];

/// Whether these tests can run; says why not.
pub fn is_privileged() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!(
            "skipped: needs root for loop devices and mounts (the end-to-end tests do the same in a VM)"
        );
    }
    root
}

/// Runs a host tool, which must be there and succeed.
pub fn tool(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .env("PATH", "/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin")
        .output();
    let output = output.unwrap_or_else(|e| panic!("{program} is needed for this test: {e}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Disks, by serial.
pub struct World {
    directory: TempDir,
    loops: Vec<String>,
}

impl World {
    /// With an empty scratch disk of this many MiB.
    pub fn new(scratch_mib: u64) -> Self {
        let mut world = Self { directory: tempfile::tempdir().unwrap(), loops: Vec::new() };
        fs::create_dir(world.path("disks")).unwrap();
        let image = world.path("scratch.ext4");
        fs::File::create(&image).unwrap().set_len(scratch_mib << 20).unwrap();
        world.attach("scratch", &image);
        world
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Makes a read-only disk of a tree.
    pub fn add_tree(&mut self, serial: &str, tree: &Path) {
        let image = self.path(&format!("{serial}.erofs"));
        tool("mkfs.erofs", &["--quiet", image.to_str().unwrap(), tree.to_str().unwrap()]);
        self.attach(serial, &image);
    }

    fn attach(&mut self, serial: &str, image: &Path) {
        let device = tool("losetup", &["--find", "--show", image.to_str().unwrap()]).trim().to_owned();
        symlink(&device, self.path("disks").join(serial)).unwrap();
        self.loops.push(device);
    }

    /// Starts the agent on a fresh scratch disk and gives it the job.
    pub fn start(&self, job: &Job) -> Running {
        self.start_with(job, &[])
    }

    /// The same, with more messages in one write with the job.
    pub fn start_with(&self, job: &Job, more: &[FromHost]) -> Running {
        let scratch = self.path("disks/scratch");
        tool("mkfs.ext4", &["-q", "-F", "-m", "0", "-O", "^has_journal", scratch.to_str().unwrap()]);
        let (ours, theirs) = UnixStream::pair().unwrap();
        let agent = env!("CARGO_BIN_EXE_kiln-agent");
        let (disks, directory) = (self.path("disks"), self.path("kiln"));
        // As few open files as the kernel gives its first process.
        let child = Command::new("prlimit")
            .args([
                "--nofile=1024:4096",
                "unshare",
                "--mount",
                "--pid",
                "--ipc",
                "--uts",
                "--fork",
                "--mount-proc",
                "--kill-child",
                agent,
                "--without-vm",
            ])
            .args([disks, directory])
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
            .spawn()
            .expect("prlimit and unshare (util-linux) are needed for this test");
        let mut running = Running { child, stream: ours, decoder: Decoder::new() };
        assert!(matches!(running.receive(), Some(FromGuest::Hello { version: kiln_protocol::VERSION, .. })));
        let mut frames = Vec::new();
        encode(&FromHost::Job(job.clone()), &mut frames).unwrap();
        more.iter().for_each(|message| encode(message, &mut frames).unwrap());
        running.stream.write_all(&frames).unwrap();
        running
    }

    /// Does the job to its end.
    pub fn run(&self, job: &Job) -> Transcript {
        self.start(job).finish()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for device in &self.loops {
            _ = Command::new("losetup").args(["-d", device]).status();
        }
    }
}

/// An agent at work.
pub struct Running {
    child: Child,
    stream: UnixStream,
    decoder: Decoder,
}

impl Running {
    pub fn send(&mut self, message: &FromHost) {
        let mut frame = Vec::new();
        encode(message, &mut frame).unwrap();
        self.stream.write_all(&frame).unwrap();
    }

    /// The next message; `None` at the end of the stream.
    pub fn receive(&mut self) -> Option<FromGuest> {
        let mut buffer = vec![0; 1 << 16];
        loop {
            if let Some(message) = self.decoder.next().unwrap() {
                return Some(message);
            }
            match self.stream.read(&mut buffer).unwrap() {
                0 => return None,
                got => self.decoder.push(&buffer[..got]),
            }
        }
    }

    /// Listens to the end.
    pub fn finish(mut self) -> Transcript {
        let mut transcript = Transcript::default();
        while let Some(message) = self.receive() {
            transcript.add(message);
        }
        drop(self.stream);
        assert!(self.child.wait().unwrap().success());
        transcript
    }
}

/// What the agent said.
#[derive(Debug, Default)]
pub struct Transcript {
    pub reports: Vec<StepReport>,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub layer: Vec<(LayerEntry, Vec<u8>)>,
    pub ended: bool,
    pub last: Option<FromGuest>,
}

impl Transcript {
    fn add(&mut self, message: FromGuest) {
        match message {
            FromGuest::StepStarted { step } => assert_eq!(step as usize, self.reports.len()),
            FromGuest::StepEnded(report) => self.reports.push(report),
            FromGuest::Output { stream: Stream::Stdout, bytes } => self.stdout.extend(bytes),
            FromGuest::Output { stream: Stream::Stderr, bytes } => self.stderr.extend(bytes),
            FromGuest::Layer(record) => self.add_record(record),
            last => assert!(self.last.replace(last).is_none()),
        }
    }

    fn add_record(&mut self, record: LayerRecord) {
        assert!(!self.ended);
        match record {
            LayerRecord::Entry(entry) => self.layer.push((entry, Vec::new())),
            LayerRecord::Data(bytes) => self.layer.last_mut().unwrap().1.extend(bytes),
            LayerRecord::Zeroes(count) => {
                let data = &mut self.layer.last_mut().unwrap().1;
                data.resize(data.len() + usize::try_from(count).unwrap(), 0);
            }
            LayerRecord::End { entries } => {
                assert_eq!(entries, self.layer.len() as u64);
                self.ended = true;
            }
        }
    }

    pub fn text(&self) -> (String, String) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (text(&self.stdout), text(&self.stderr))
    }

    pub fn entry(&self, path: &str) -> Option<&LayerEntry> {
        self.layer.iter().map(|(entry, _)| entry).find(|entry| entry.path == path.as_bytes())
    }

    pub fn paths(&self) -> Vec<String> {
        self.layer.iter().map(|(entry, _)| String::from_utf8_lossy(&entry.path).into_owned()).collect()
    }
}

/// A job over the base disk.
pub fn job(steps: Vec<Step>) -> Job {
    Job {
        hostname: "kiln".into(),
        clock: CLOCK,
        base: Some("base".into()),
        tools: None,
        contents: None,
        scratch: "scratch".into(),
        target: None,
        steps,
        send_layer: true,
    }
}

/// A script as a step.
pub fn script(stage: Stage, text: &str) -> Step {
    step(stage, Program::Script(text.as_bytes().to_vec()))
}

/// A command as a step in the root.
pub fn command(arguments: &[&str]) -> Step {
    step(Stage::Root, Program::Command(arguments.iter().map(|&a| a.into()).collect()))
}

fn step(stage: Stage, program: Program) -> Step {
    Step {
        name: "test step".into(),
        stage,
        program,
        user: None,
        environment: vec!["PATH=/usr/bin:/bin".into()],
        working_directory: None,
        stdin: false,
    }
}

/// Makes a userland of the host's own programs.
pub fn make_userland(tree: &Path) {
    fs::create_dir_all(tree.join("usr/bin")).unwrap();
    symlink("usr/bin", tree.join("bin")).unwrap();
    for program in PROGRAMS {
        let name = Path::new(program).file_name().unwrap();
        fs::copy(program, tree.join("usr/bin").join(name))
            .unwrap_or_else(|e| panic!("{program} is needed for this test: {e}"));
        for library in libraries(program) {
            let target = tree.join(library.strip_prefix('/').unwrap());
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            fs::copy(&library, target).unwrap();
        }
    }
}

fn libraries(program: &str) -> Vec<String> {
    let listed = tool("ldd", &[program]);
    listed
        .split_whitespace()
        .filter(|word| word.starts_with('/') && !word.ends_with(':'))
        .map(Into::into)
        .collect()
}

/// Compiles a C program without libraries to go with it.
pub fn make_program(path: &Path, source: &str) {
    let file = path.with_extension("c");
    fs::write(&file, source).unwrap();
    tool("cc", &["-static", "-o", path.to_str().unwrap(), file.to_str().unwrap()]);
    fs::remove_file(file).unwrap();
}
