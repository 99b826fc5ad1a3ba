//! The first program of a machine under test: built by the test with plain `rustc`, linked
//! statically, without any crate. What it does is named by `KILN_TEST` on the kernel's command line.

use std::ffi::{CString, c_char, c_int, c_ulong, c_void};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::FileExt;

unsafe extern "C" {
    fn mount(source: *const c_char, target: *const c_char, kind: *const c_char, flags: c_ulong, data: *const c_void) -> c_int;
    fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int;
    fn connect(fd: c_int, address: *const SockaddrVm, length: u32) -> c_int;
    fn shutdown(fd: c_int, how: c_int) -> c_int;
    fn ioctl(fd: c_int, request: c_ulong, argument: *const [u64; 2]) -> c_int;
    fn reboot(command: c_int) -> c_int;
}

/// vsock(7)
#[repr(C)]
struct SockaddrVm {
    family: u16,
    reserved: u16,
    port: u32,
    cid: u32,
    flags: [u8; 4],
}

const AF_VSOCK: c_int = 40;
const SOCK_STREAM: c_int = 1;
const SHUT_WR: c_int = 1;
const BLKDISCARD: c_ulong = 0x1277;
const RB_AUTOBOOT: c_int = 0x0123_4567;

const PORT: u32 = 1024;

fn main() {
    for (kind, target) in [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")] {
        mount_on(kind, target);
    }
    let test = std::env::var("KILN_TEST").unwrap_or_default();
    if let Err(error) = run(&test) {
        println!("guest: {test}: {error}");
    }
    restart();
}

fn run(test: &str) -> io::Result<()> {
    match test {
        "off" => Ok(()),
        "panic" => std::process::exit(1),
        "hang" => loop {
            std::thread::sleep(std::time::Duration::from_secs(1));
        },
        "silent" => {
            let _stream = dial(PORT)?;
            loop {
                std::thread::sleep(std::time::Duration::from_secs(1));
            }
        }
        "disks" => disks(),
        "bulk" => bulk(),
        "flood" => flood(),
        "last-words" => dial(PORT)?.write_all(&[3; 900_000]),
        "refused" => refused(),
        "half-close" => half_close(),
        "many" => many(),
        "gone" => gone(),
        "noise" => noise(),
        "clock" => clock(),
        other => Err(io::Error::other(format!("no such test: {other}"))),
    }
}

/// Reports the times of what the kernel made at boot, in seconds since the epoch.
fn clock() -> io::Result<()> {
    let mut host = dial(PORT)?;
    let seconds = |time: std::time::SystemTime| time.duration_since(std::time::UNIX_EPOCH).map_or(u64::MAX, |age| age.as_secs());
    for path in ["/sys", "/dev/null"] {
        writeln!(host, "{}", seconds(fs::metadata(path)?.modified()?))?;
    }
    writeln!(host, "{}", seconds(std::time::SystemTime::now()))
}

/// Reports what it finds on every disk, then writes to the scratch disk.
fn disks() -> io::Result<()> {
    let mut host = dial(PORT)?;
    let mut names: Vec<_> = fs::read_dir("/sys/block")?.filter_map(|e| e.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    for name in names.iter().filter(|name| name.starts_with("vd")) {
        let attribute = |path: &str| fs::read_to_string(format!("/sys/block/{name}/{path}")).map(|v| v.trim().to_owned());
        let mut disk = File::open(format!("/dev/{name}"))?;
        let mut content = Vec::new();
        disk.read_to_end(&mut content)?;
        writeln!(
            host,
            "{} ro={} sectors={} discard={} cache={} sum={:016x}",
            attribute("serial")?,
            attribute("ro")?,
            attribute("size")?,
            attribute("queue/discard_max_bytes")?,
            attribute("queue/write_cache")?,
            checksum(&content)
        )?;
        if attribute("serial")? == "scratch" {
            write_scratch(name)?;
        } else {
            let refused = write_block(name).is_err();
            writeln!(host, "write refused: {refused}")?;
        }
    }
    Ok(())
}

fn write_block(name: &str) -> io::Result<()> {
    let disk = OpenOptions::new().write(true).open(format!("/dev/{name}"))?;
    disk.write_all_at(&[1; 512], 0)?;
    disk.sync_all()
}

/// A pattern at 64 KiB, a hole at 1 MiB.
fn write_scratch(name: &str) -> io::Result<()> {
    let disk = OpenOptions::new().read(true).write(true).open(format!("/dev/{name}"))?;
    let pattern: Vec<u8> = (0..300_000_u32).map(|i| (i % 251) as u8).collect();
    disk.write_all_at(&pattern, 64 * 1024)?;
    disk.sync_all()?;
    let range = [1024 * 1024, 1024 * 1024];
    // SAFETY: the argument is two u64, as the request wants.
    check(unsafe { ioctl(disk.as_raw_fd(), BLKDISCARD, &raw const range) })
}

/// Takes bytes to the end, answers with their checksum, sends as many of its own.
fn bulk() -> io::Result<()> {
    let mut host = dial(PORT)?;
    let mut length = [0; 8];
    host.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    let mut received = Sum::default();
    copy_exactly(&mut host, length, |bytes| received.add(bytes))?;
    host.write_all(&received.0.to_le_bytes())?;
    let mut block = vec![0; 256 * 1024];
    let mut left = length;
    let mut sent = Sum::default();
    for byte in &mut block {
        *byte = (left % 253) as u8;
        left = left.wrapping_mul(31).wrapping_add(7);
    }
    let mut left = length;
    while left > 0 {
        let count = block.len().min(left as usize);
        host.write_all(&block[..count])?;
        sent.add(&block[..count]);
        left -= count as u64;
    }
    host.write_all(&sent.0.to_le_bytes())
}

/// As many bytes as it can, all the same, so that nothing but the way is measured.
fn flood() -> io::Result<()> {
    let mut host = dial(PORT)?;
    let mut length = [0; 8];
    host.read_exact(&mut length)?;
    let mut left = u64::from_le_bytes(length);
    let block = vec![1; 256 * 1024];
    while left > 0 {
        let count = block.len().min(left as usize);
        host.write_all(&block[..count])?;
        left -= count as u64;
    }
    Ok(())
}

/// Nobody listens on the next port; what is said of it goes to the host.
fn refused() -> io::Result<()> {
    let error = dial(PORT + 1).expect_err("nobody listens");
    writeln!(dial(PORT)?, "{:?}", error.kind())
}

/// Says all it has to say, closes that half, and listens to the end.
fn half_close() -> io::Result<()> {
    let mut host = dial(PORT)?;
    host.write_all(b"all said")?;
    // SAFETY: takes numbers only.
    check(unsafe { shutdown(host.as_raw_fd(), SHUT_WR) })?;
    let mut heard = Vec::new();
    host.read_to_end(&mut heard)?;
    println!("guest: heard {} bytes", heard.len());
    dial(PORT)?.write_all(&heard.len().to_le_bytes())
}

/// Several connections at once, answered in any order.
fn many() -> io::Result<()> {
    let mut streams = (0..8_u8).map(|_| dial(PORT)).collect::<io::Result<Vec<_>>>()?;
    for (number, stream) in streams.iter_mut().enumerate() {
        writeln!(stream, "stream {number}")?;
    }
    for stream in &mut streams {
        stream.read_to_end(&mut Vec::new())?;
    }
    Ok(())
}

/// Writes to a host that has gone, until it notices.
fn gone() -> io::Result<()> {
    let mut host = dial(PORT)?;
    let block = [0; 64 * 1024];
    let error = loop {
        if let Err(error) = host.write_all(&block) {
            break error;
        }
    };
    writeln!(dial(PORT)?, "{:?}", error.kind())
}

/// More console than anyone keeps.
fn noise() -> io::Result<()> {
    for line in 0..2000 {
        println!("line {line} \u{1b}[31mred");
    }
    dial(PORT).map(drop)
}

fn dial(port: u32) -> io::Result<File> {
    // SAFETY: takes numbers only.
    let fd = unsafe { socket(AF_VSOCK, SOCK_STREAM, 0) };
    check(fd)?;
    // SAFETY: nobody else has the descriptor.
    let stream = unsafe { File::from_raw_fd(fd) };
    let address = SockaddrVm { family: AF_VSOCK as u16, reserved: 0, port, cid: 2, flags: [0; 4] };
    // SAFETY: the address is as long as it says.
    check(unsafe { connect(fd, &raw const address, size_of::<SockaddrVm>() as u32) })?;
    Ok(stream)
}

fn copy_exactly(from: &mut File, length: u64, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let mut block = vec![0; 256 * 1024];
    let mut left = length;
    while left > 0 {
        let wanted = block.len().min(left as usize);
        let count = from.read(&mut block[..wanted])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        take(&block[..count]);
        left -= count as u64;
    }
    Ok(())
}

/// Sensitive to order, but not to how the bytes are cut; words would be, so it goes by bytes.
#[derive(Default)]
struct Sum(u64);

impl Sum {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0.rotate_left(5) ^ u64::from(*byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }
}

fn checksum(bytes: &[u8]) -> u64 {
    let mut sum = Sum::default();
    sum.add(bytes);
    sum.0
}

fn mount_on(kind: &str, target: &str) {
    let (kind, target) = (CString::new(kind).unwrap(), CString::new(target).unwrap());
    // SAFETY: strings end with zero; no data.
    unsafe { mount(kind.as_ptr(), target.as_ptr(), kind.as_ptr(), 0, std::ptr::null()) };
}

fn restart() -> ! {
    let _ = io::stdout().flush();
    // SAFETY: takes a number only.
    unsafe { reboot(RB_AUTOBOOT) };
    unreachable!("the machine is off")
}

fn check(result: c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
