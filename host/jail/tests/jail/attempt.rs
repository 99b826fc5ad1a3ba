//! What a prisoner tries.

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open, test_kill_process};
use std::fs::{File, metadata};
use std::io;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What surrounds the prison, for it to reach.
#[derive(Debug)]
pub struct Outside {
    /// A directory that everyone may write to.
    pub directory: PathBuf,
    /// Somebody listens here.
    pub tcp_port: u16,
    /// A process of the same user.
    pub victim: i32,
}

impl Outside {
    pub fn socket(directory: &Path) -> PathBuf {
        directory.join("socket")
    }

    /// As others may run at the same time, the abstract socket's name has the victim's number.
    pub fn abstract_socket(victim: i32) -> SocketAddr {
        SocketAddr::from_abstract_name(format!("kiln-jail-test-{victim}")).unwrap()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    OpenFile,
    ReadOwnMemory,
    WriteFile,
    LookAtFile,
    Execute,
    StartProcess,
    StartThread,
    ConnectTcp,
    ListenTcp,
    SendUdp,
    ConnectUnix,
    ConnectAbstract,
    Signal,
    TakeDescriptor,
}

use Attempt::*;

impl Attempt {
    const ALL: [Self; 14] = [
        OpenFile,
        ReadOwnMemory,
        WriteFile,
        LookAtFile,
        Execute,
        StartProcess,
        StartThread,
        ConnectTcp,
        ListenTcp,
        SendUdp,
        ConnectUnix,
        ConnectAbstract,
        Signal,
        TakeDescriptor,
    ];

    /// All that a free process can do here.
    pub fn all() -> impl Iterator<Item = Self> {
        let scope = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
        let others_are_open = matches!(scope.trim(), "" | "0");
        Self::ALL.into_iter().filter(move |attempt| *attempt != TakeDescriptor || others_are_open)
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|attempt| format!("{attempt:?}") == name)
    }

    /// Since which ABI Landlock stands against it, and how. What it does not know is for the filter.
    pub fn refused_by_landlock(self) -> Option<(u32, i32)> {
        match self {
            OpenFile | ReadOwnMemory | WriteFile | Execute => Some((1, libc::EACCES)),
            // The program cannot be executed.
            StartProcess => Some((1, libc::EACCES)),
            TakeDescriptor => Some((1, libc::EPERM)),
            ConnectTcp | ListenTcp => Some((4, libc::EACCES)),
            ConnectAbstract | Signal => Some((6, libc::EPERM)),
            ConnectUnix => Some((9, libc::EACCES)),
            LookAtFile | StartThread | SendUdp => None,
        }
    }

    /// The system calls that may give it away, depending on the C library.
    pub fn calls(self) -> &'static [&'static str] {
        match self {
            OpenFile | ReadOwnMemory | WriteFile => &["openat"],
            LookAtFile => &["statx"],
            // The standard library first takes back that it ignores SIGPIPE.
            Execute => &["execve", "rt_sigaction"],
            StartProcess => &[],
            // glibc first wants to be told when a thread is cancelled.
            StartThread => &["rt_sigaction"],
            ConnectTcp | ListenTcp | SendUdp | ConnectUnix | ConnectAbstract => &["socket"],
            Signal => &["kill"],
            TakeDescriptor => &["pidfd_open"],
        }
    }

    /// The C library blocks all signals before the call. Then the kernel ends the process without letting
    /// it say anything.
    pub fn blocks_signals(self) -> bool {
        matches!(self, StartProcess | StartThread)
    }

    pub fn make(self, outside: &Outside) -> io::Result<()> {
        let directory = &outside.directory;
        match self {
            OpenFile => File::open("/etc/passwd").map(drop),
            ReadOwnMemory => File::open("/proc/self/mem").map(drop),
            WriteFile => File::create(directory.join(format!("written-{}", std::process::id()))).map(drop),
            LookAtFile => metadata("/etc/passwd").map(drop),
            Execute => Err(Command::new("/bin/true").exec()),
            StartProcess => Command::new("/bin/true").status().map(drop),
            StartThread => std::thread::Builder::new().spawn(|| {}).map(drop),
            ConnectTcp => TcpStream::connect(("127.0.0.1", outside.tcp_port)).map(drop),
            ListenTcp => TcpListener::bind("127.0.0.1:0").map(drop),
            SendUdp => UdpSocket::bind("127.0.0.1:0")?.send_to(b"x", "127.0.0.1:9").map(drop),
            ConnectUnix => UnixStream::connect(Outside::socket(directory)).map(drop),
            ConnectAbstract => UnixStream::connect_addr(&Outside::abstract_socket(outside.victim)).map(drop),
            Signal => Ok(test_kill_process(victim(outside))?),
            TakeDescriptor => {
                let process = pidfd_open(victim(outside), PidfdFlags::empty())?;
                Ok(pidfd_getfd(process, 0, PidfdGetfdFlags::empty()).map(drop)?)
            }
        }
    }
}

fn victim(outside: &Outside) -> Pid {
    Pid::from_raw(outside.victim).unwrap()
}
