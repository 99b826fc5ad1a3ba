//! A VMM process that does what its argument says, as one might that its guest has taken over.

use kiln_vmm::channel::{
    Counters, CpuModel, Ending, Finding, Lacking, MESSAGE_BYTES_MAX, Order, Part, Report, Specification,
    Verdict,
};
use rustix::net::{
    RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, recv, send, sendmsg,
};
use rustix::process::{Signal, getpid, kill_process};
use std::fs::{File, OpenOptions};
use std::io::{IoSlice, Write, stdin};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::{Command, exit};
use std::time::Duration;

/// As in `kvm.rs`.
const PORT: u32 = 1024;

/// More than anybody waits.
const FOREVER: Duration = Duration::from_secs(3600);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let role = arguments.first().map_or("", String::as_str);
    match role.strip_prefix("probe ") {
        Some(role) => probe(role, arguments.get(1)),
        None => run(role),
    }
}

fn probe(role: &str, diary: Option<&String>) {
    if let Some(path) = diary {
        OpenOptions::new().append(true).create(true).open(path).unwrap().write_all(b"x").unwrap();
    }
    assert!(matches!(order(), Order::Probe { .. }));
    match role {
        "usable" => say(&Report::Probed(finding(Verdict::Usable))),
        "slow" => say(&Report::Probed(finding(Verdict::Slow { factor: 70 }))),
        "lesser" => say(&Report::Probed(Finding { verdict: Verdict::Usable, lacking: lacking() })),
        "unusable" => say(&Report::Probed(finding(Verdict::Unusable("int3 \u{1b}[31mfails".into())))),
        "usable and stays" => {
            say(&Report::Probed(finding(Verdict::Usable)));
            std::thread::sleep(FOREVER);
        }
        "answers otherwise" => say(&ended(Ending::Reset)),
        "dies" => complain("no memory slot", 3),
        "hangs" => std::thread::sleep(FOREVER),
        _ => panic!("no such role: {role}"),
    }
}

fn finding(verdict: Verdict) -> Finding {
    Finding { verdict, lacking: Vec::new() }
}

fn lacking() -> Vec<Lacking> {
    vec![Lacking { model: CpuModel::X86_64V3, features: vec!["avx2".into(), "bmi\u{1b}1".into()] }]
}

fn run(role: &str) {
    match role {
        "dies" => complain("nothing works", 7),
        "is jailed" => complain("system call openat (257) is not allowed", 159),
        "is killed by its filter" => end_by(Signal::SYS),
        "crashes" => end_by(Signal::SEGV),
        "leaves" => exit(0),
        "hangs" => std::thread::sleep(FOREVER),
        "hangs up" => {
            rustix::net::shutdown(stdin(), Shutdown::Both).unwrap();
            std::thread::sleep(FOREVER);
        }
        "leaves a child" => {
            let mut child = Command::new("/bin/sleep").arg("3600").spawn().unwrap();
            child.wait().unwrap();
        }
        _ => {
            let order = order();
            say_wrongly(role);
            say_rightly(role, &order);
        }
    }
}

/// What is no sensible sequence of reports.
fn say_wrongly(role: &str) {
    match role {
        "garbage" => say_bytes(&[0xff; 40]),
        "a report and more" => {
            let mut packet = postcard::to_allocvec(&ended(Ending::Reset)).unwrap();
            packet.push(0);
            say_bytes(&packet);
        }
        "too much" => {
            rustix::net::sockopt::set_socket_send_buffer_size(stdin(), 4 * MESSAGE_BYTES_MAX).unwrap();
            say_bytes(&vec![0; MESSAGE_BYTES_MAX + 1]);
        }
        "an answer" => say(&Report::Probed(finding(Verdict::Usable))),
        "ends twice" => {
            say(&ended(Ending::Failed("the first word".into())));
            say(&ended(Ending::Reset));
            exit(0);
        }
        "stays" => {
            say(&ended(Ending::Reset));
            std::thread::sleep(FOREVER);
        }
        "talks on" => {
            say(&ended(Ending::Reset));
            while std::io::stdout().write_all(&[b'x'; 4096]).is_ok() {}
        }
        "floods" => loop {
            say(&Report::HostError { disk: 0, errno: 5 });
            eprintln!("and one more");
        },
        "escapes" => {
            say(&ended(Ending::Failed(format!("\u{1b}[31mred\u{7}{}", "long ".repeat(1000)))));
            exit(0);
        }
        _ => return,
    }
    std::thread::sleep(FOREVER);
}

fn say_rightly(role: &str, order: &Order) {
    let Order::Run(specification) = order else { panic!("not told to run anything") };
    match role {
        "unknown port" => {
            connect(PORT + 1, 0);
            connect(PORT, 0);
        }
        "many streams" => (0..1000).for_each(|_| connect(PORT, 0)),
        "counts" => {
            connect(PORT + 1, 1);
            connect(PORT, 10);
            connect(PORT, 100);
        }
        "no streams" => no_streams(),
        "host errors" => {
            say(&Report::HostError { disk: 0, errno: 28 });
            say(&Report::HostError { disk: 99, errno: 5 });
        }
        "panics" => println!("[    0.1] Kernel panic - not syncing: no init"),
        "restarts" => {}
        "looks around" => say(&ended(Ending::Failed(look_around(specification)))),
        _ => panic!("no such role: {role}"),
    }
    say(&ended(Ending::Reset));
}

/// Descriptors where none are due, none where they are due, and those that are no streams.
fn no_streams() {
    let stream = Report::Stream { port: PORT, counters: Counters::default() };
    let (one, _other) = UnixStream::pair().unwrap();
    hand_over(&Report::HostError { disk: 0, errno: 5 }, &[one.as_fd()]);
    say(&stream);
    hand_over(&stream, &[File::open("/dev/zero").unwrap().as_fd()]);
    hand_over(&stream, &[UnixDatagram::unbound().unwrap().as_fd()]);
    let name = format!("hostile-{}", getpid().as_raw_nonzero());
    hand_over(&stream, &[listener(&name).as_fd()]);
    hand_over(&stream, &[one.as_fd(); 64]);
}

fn listener(name: &str) -> UnixListener {
    use std::os::linux::net::SocketAddrExt;
    let address = std::os::unix::net::SocketAddr::from_abstract_name(name).unwrap();
    UnixListener::bind_addr(&address).unwrap()
}

/// What the process has, in a line each.
fn look_around(specification: &Specification) -> String {
    let listing = std::fs::read_dir("/proc/self/fd").unwrap();
    let open: Vec<i32> =
        listing.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect();
    let listing_itself = 1;
    let given = given(specification);
    let foreign = open.iter().filter(|number| **number > 2 && !given.contains(number)).count();
    let mut lines = vec![
        format!("descriptors of others: {}", foreign - listing_itself),
        format!("environment variables: {}", std::env::vars_os().count()),
        format!("name: {}", std::env::args().next().unwrap()),
        format!("command line: {}", specification.command_line),
        format!("initramfs: {}", text(specification.initramfs)),
    ];
    for disk in &specification.disks {
        let parts: Vec<_> = disk.parts.iter().map(part).collect();
        lines.push(format!("{} ro={}: {}", disk.serial, disk.read_only, parts.join(" + ")));
    }
    lines.join("\n")
}

fn given(specification: &Specification) -> Vec<i32> {
    let parts = specification.disks.iter().flat_map(|disk| &disk.parts);
    let of_disks = parts.filter_map(|part| match part {
        Part::File { descriptor, .. } => Some(*descriptor),
        Part::Zeroes(_) => None,
    });
    of_disks.chain([specification.kvm, specification.kernel, specification.initramfs]).collect()
}

fn part(part: &Part) -> String {
    match part {
        Part::Zeroes(length) => format!("{length} zeroes"),
        Part::File { descriptor, offset, length } => {
            let file = OpenOptions::new().read(true).write(false).open(name(*descriptor)).unwrap();
            let mut bytes = vec![0; usize::try_from(*length).unwrap()];
            file.read_exact_at(&mut bytes, *offset).unwrap();
            let flags = std::fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}")).unwrap();
            let writable = flags.lines().any(|line| line.starts_with("flags:") && line.ends_with('2'));
            format!("{:?} writable={writable}", String::from_utf8_lossy(&bytes))
        }
    }
}

fn text(descriptor: i32) -> String {
    std::fs::read_to_string(name(descriptor)).unwrap()
}

fn name(descriptor: i32) -> String {
    format!("/proc/self/fd/{descriptor}")
}

fn order() -> Order {
    let mut packet = vec![0; MESSAGE_BYTES_MAX];
    let (_, length) = recv(stdin(), &mut packet[..], RecvFlags::empty()).unwrap();
    postcard::from_bytes(&packet[..length]).unwrap()
}

fn ended(ending: Ending) -> Report {
    Report::Ended { ending, counters: Counters::default() }
}

fn say(report: &Report) {
    say_bytes(&postcard::to_allocvec(report).unwrap());
}

/// Or nobody listens any more.
fn say_bytes(packet: &[u8]) {
    let _ = send(stdin(), packet, SendFlags::NOSIGNAL);
}

/// The guest connects, says hello and hangs up.
fn connect(port: u32, exits: u64) {
    let (mut guest, host) = UnixStream::pair().unwrap();
    guest.write_all(b"hello").unwrap();
    let counters = Counters { exits, ..Counters::default() };
    hand_over(&Report::Stream { port, counters }, &[host.as_fd()]);
}

fn hand_over(report: &Report, descriptors: &[BorrowedFd<'_>]) {
    let packet = postcard::to_allocvec(report).unwrap();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(descriptors)));
    let _ = sendmsg(stdin(), &[IoSlice::new(&packet)], &mut ancillary, SendFlags::NOSIGNAL);
}

fn complain(why: &str, status: i32) {
    eprintln!("{why}");
    exit(status);
}

fn end_by(signal: Signal) {
    // The standard library's handler of SIGSEGV takes itself away when it is called by anything else.
    kill_process(getpid(), signal).unwrap();
    kill_process(getpid(), signal).unwrap();
    std::thread::sleep(FOREVER);
}
