//! Runs kiln and looks at what becomes of it.

use crate::{
    confinement::Confinement,
    engine::Engine,
    leftovers::{Family, Files},
    repository::kiln_binary,
};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    ffi::{OsStr, OsString},
    fmt::Write as _,
    fs::File,
    io::{Read, Seek},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

/// Environment variable by which all processes of one kiln are known.
const MARK: &str = "KILN_TEST_MARK";

/// No run takes longer than this, even on a slow machine.
const PATIENCE: Duration = Duration::from_secs(900);

/// A command line of kiln.
pub struct Kiln {
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    directory: Option<PathBuf>,
    binary: PathBuf,
    confinement: Option<Confinement>,
    before: Vec<OsString>,
    stdin: Option<File>,
    watched: PathBuf,
}

impl Kiln {
    /// A kiln with this cache and this directory for temporary files; what it leaves behind in `watched` is noticed.
    pub fn new(cache: &Path, temporary: &Path, watched: &Path) -> Self {
        let kiln = Self {
            arguments: Vec::new(),
            environment: Vec::new(),
            directory: None,
            binary: kiln_binary(),
            confinement: None,
            before: Vec::new(),
            stdin: None,
            watched: watched.to_owned(),
        };
        kiln.env("KILN_CACHE", cache).env("TMPDIR", temporary)
    }

    /// Adds an argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Adds `--accel`.
    pub fn engine(self, engine: Engine) -> Self {
        self.args(["--accel", engine.name()])
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Starts in this directory.
    pub fn directory(mut self, directory: &Path) -> Self {
        self.directory = Some(directory.to_owned());
        self
    }

    /// Another copy of kiln.
    pub fn binary(mut self, binary: &Path) -> Self {
        self.binary = binary.to_owned();
        self
    }

    /// Runs kiln without rights.
    pub fn confined(mut self, confinement: Confinement) -> Self {
        self.confinement = Some(confinement);
        self
    }

    /// Runs kiln through another program: `taskset -c 0`, `sh -c 'umask 077; exec "$@"' sh`.
    pub fn through<A: AsRef<OsStr>>(mut self, words: impl IntoIterator<Item = A>) -> Self {
        self.before = words.into_iter().map(|word| word.as_ref().to_owned()).collect();
        self
    }

    /// Standard input; empty if not given.
    pub fn stdin(mut self, file: File) -> Self {
        self.stdin = Some(file);
        self
    }

    /// Runs it to its end.
    pub fn run(self) -> Outcome {
        self.spawn().wait()
    }

    /// Starts it.
    pub fn spawn(mut self) -> Running {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mark = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let stdin = self.stdin.take().map_or_else(Stdio::null, Stdio::from);
        let (stdout, stderr) = (temporary_file(), temporary_file());
        let mut command = self.command();
        command.env(MARK, &mark).stdin(stdin).stdout(clone(&stdout)).stderr(clone(&stderr));
        let files = Files::below(&self.watched);
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
        let line = format!("{command:?}");
        let family = Family { mark: format!("{MARK}={mark}"), session: child.id() };
        Running { child, line, family, stdout, stderr, started: Instant::now(), files }
    }

    fn command(&self) -> Command {
        // Its processes are known by their session, also those without this environment. By its path, as some tests
        // give kiln a `PATH` that leads nowhere.
        let mut words: Vec<OsString> = vec!["/usr/bin/setsid".into()];
        if let Some(confinement) = &self.confinement {
            words.extend(confinement.words().iter().cloned());
        }
        words.extend(self.before.iter().cloned());
        words.push(self.binary.clone().into());
        words.extend(self.arguments.iter().cloned());
        let mut command = Command::new(&words[0]);
        // What the caller of the tests has set is not part of them.
        command.args(&words[1..]).env_remove("SOURCE_DATE_EPOCH");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        command
    }
}

/// A running kiln.
pub struct Running {
    child: Child,
    line: String,
    family: Family,
    stdout: File,
    stderr: File,
    started: Instant,
    files: Files,
}

impl Running {
    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("it is still running");
    }

    /// Waits until it has written this to its standard error or output.
    ///
    /// # Panics
    /// When it ends before.
    pub fn wait_for_output(&mut self, text: &str) {
        while !self.written().contains(text) {
            let ended = self.child.try_wait().expect("a child can be waited for");
            assert!(ended.is_none(), "{} ended before it wrote {text:?}:\n{}", self.line, self.written());
            assert!(
                self.started.elapsed() < PATIENCE,
                "{} never wrote {text:?}:\n{}",
                self.line,
                self.written()
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Command lines of its processes, itself included.
    pub fn processes(&self) -> Vec<String> {
        self.family.processes()
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Outcome {
        let status = self.wait_patiently();
        let elapsed = self.started.elapsed();
        let (stdout, stderr) = (contents(&mut self.stdout), contents(&mut self.stderr));
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        Outcome { line: self.line, status, stdout, stderr, elapsed, family: self.family, files: self.files }
    }

    fn wait_patiently(&mut self) -> ExitStatus {
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                return status;
            }
            if self.started.elapsed() > PATIENCE {
                let _ = self.child.kill();
                panic!("{} hangs; so far it wrote:\n{}", self.line, self.written());
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn written(&self) -> String {
        let mut all = String::new();
        for file in [&self.stdout, &self.stderr] {
            all += &String::from_utf8_lossy(&contents_so_far(file));
        }
        all
    }
}

/// A kiln that has ended.
pub struct Outcome {
    line: String,
    status: ExitStatus,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
    /// How long it ran.
    pub elapsed: Duration,
    family: Family,
    files: Files,
}

impl Outcome {
    /// # Panics
    /// When it failed.
    pub fn succeeds(self) -> Self {
        self.exits_with(0)
    }

    /// # Panics
    /// When it succeeded, or was killed by a signal.
    pub fn fails(self) -> Self {
        assert!(self.status.code().is_some_and(|code| code != 0), "wanted a failure{}", self.describe());
        self
    }

    /// # Panics
    /// When it ended otherwise.
    pub fn exits_with(self, code: i32) -> Self {
        assert!(self.status.code() == Some(code), "wanted exit code {code}{}", self.describe());
        self
    }

    /// # Panics
    /// When it was not killed by this signal.
    pub fn killed_by(self, signal: i32) -> Self {
        assert!(self.status.signal() == Some(signal), "wanted death by signal {signal}{}", self.describe());
        self
    }

    /// # Panics
    /// When standard error lacks the text.
    pub fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "wanted {text:?} on standard error{}", self.describe());
        self
    }

    /// # Panics
    /// When standard output is not the text.
    pub fn prints(self, text: &str) -> Self {
        assert!(self.stdout == text.as_bytes(), "wanted {text:?} on standard output{}", self.describe());
        self
    }

    /// No process, no temporary file, no output, nothing new in the cache.
    ///
    /// # Panics
    /// When there is something.
    pub fn leaves_nothing(self) -> Self {
        self.leaves_no_process();
        let left = self.files.new_ones();
        assert!(left.is_empty(), "left behind: {left:#?}{}", self.describe());
        self
    }

    /// # Panics
    /// When one is left after a moment.
    pub fn leaves_no_process(&self) {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let left = self.family.processes();
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "processes left behind: {left:#?}{}", self.describe());
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn describe(&self) -> String {
        let mut text = String::new();
        let stdout = String::from_utf8_lossy(&self.stdout);
        let _ = write!(text, "\ncommand: {}\n{} after {:.1?}", self.line, self.status, self.elapsed);
        let _ = write!(text, "\nstandard output: {}", stdout.chars().take(2000).collect::<String>());
        let _ = write!(text, "\nstandard error:\n{}", self.stderr);
        text
    }
}

fn temporary_file() -> File {
    tempfile::tempfile().expect("a temporary file can be made")
}

fn clone(file: &File) -> File {
    file.try_clone().expect("a file can be duplicated")
}

fn contents(file: &mut File) -> Vec<u8> {
    file.rewind().expect("a file can be rewound");
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).expect("a file can be read");
    bytes
}

/// Without moving the position, which the child shares.
fn contents_so_far(file: &File) -> Vec<u8> {
    use std::os::unix::fs::FileExt;
    let length = file.metadata().expect("it is open").len();
    let mut bytes = vec![0; usize::try_from(length).expect("messages are short")];
    file.read_exact_at(&mut bytes, 0).expect("a file can be read");
    bytes
}
