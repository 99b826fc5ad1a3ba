//! What a probe found, kept for as long as it cannot find anything else: until the next boot, with the
//! same kernel, the same device and the same kiln.

use kiln_vmm::channel::Verdict;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The file in the cache directory. Whatever is wrong with it, it is as if it were not there.
const FILE: &str = "kvm-probe";

/// No file of ours is as long as this.
const BYTES_MAX: u64 = 4096;

/// What the kernel counts boots by (`random(4)`).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What an answer depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Circumstances {
    kiln_version: String,
    /// Length and time of change of the program that probes: another build may find otherwise.
    program: (u64, i64, i64),
    boot_id: String,
    /// Release and version of the host's kernel.
    kernel: [String; 2],
    device_number: u64,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    circumstances: Circumstances,
    verdict: Verdict,
}

impl Circumstances {
    /// Those of now; `None` where they cannot be told.
    pub fn now(program: &Path, device: &File) -> Option<Self> {
        let program = fs::metadata(program).ok()?;
        let host = rustix::system::uname();
        Some(Self {
            kiln_version: env!("CARGO_PKG_VERSION").to_owned(),
            program: (program.len(), program.mtime(), program.mtime_nsec()),
            boot_id: fs::read_to_string(BOOT_ID).ok()?,
            kernel: [host.release(), host.version()].map(|text| text.to_string_lossy().into_owned()),
            device_number: device.metadata().ok()?.rdev(),
        })
    }
}

/// The answer in `directory` that was found under the same circumstances.
pub(super) fn recall(directory: &Path, circumstances: &Circumstances) -> Option<Verdict> {
    let mut bytes = Vec::new();
    File::open(directory.join(FILE)).ok()?.take(BYTES_MAX).read_to_end(&mut bytes).ok()?;
    let (entry, rest) = postcard::take_from_bytes::<Entry>(&bytes).ok()?;
    (rest.is_empty() && entry.circumstances == *circumstances).then_some(entry.verdict)
}

/// Keeps `verdict` in `directory`, in one step. That it cannot be kept only costs time.
pub(super) fn keep(directory: &Path, circumstances: Circumstances, verdict: &Verdict) {
    let entry = Entry { circumstances, verdict: verdict.clone() };
    let aside = directory.join(format!("{FILE}.{}", std::process::id()));
    let kept = postcard::to_allocvec(&entry)
        .map_err(io::Error::other)
        .and_then(|bytes| write_new(&aside, &bytes))
        .and_then(|()| fs::rename(&aside, directory.join(FILE)));
    if kept.is_err() {
        let _ = fs::remove_file(&aside);
    }
}

fn write_new(path: &PathBuf, bytes: &[u8]) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(bytes)
}
