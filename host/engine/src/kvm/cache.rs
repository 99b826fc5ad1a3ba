//! What a probe found, kept for as long as it cannot find anything else: until the next boot, with the
//! same kernel, the same device and the same kiln.

use kiln_vmm::channel::Finding;
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
    finding: Finding,
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
pub(super) fn recall(directory: &Path, circumstances: &Circumstances) -> Option<Finding> {
    let mut bytes = Vec::new();
    File::open(directory.join(FILE)).ok()?.take(BYTES_MAX).read_to_end(&mut bytes).ok()?;
    let (entry, rest) = postcard::take_from_bytes::<Entry>(&bytes).ok()?;
    (rest.is_empty() && entry.circumstances == *circumstances).then_some(entry.finding)
}

/// Keeps `finding` in `directory`, in one step. That it cannot be kept only costs time.
pub(super) fn keep(directory: &Path, circumstances: Circumstances, finding: &Finding) {
    let entry = Entry { circumstances, finding: finding.clone() };
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

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_vmm::channel::{CpuModel, Lacking, Verdict};

    fn usable() -> Finding {
        let lacking = Lacking { model: CpuModel::X86_64V3, features: vec!["avx2".into()] };
        Finding { verdict: Verdict::Usable, lacking: vec![lacking] }
    }

    fn circumstances() -> Circumstances {
        Circumstances {
            kiln_version: "1.2.3".into(),
            program: (100, 200, 300),
            boot_id: "0c5f".into(),
            kernel: ["6.12".into(), "#1 SMP".into()],
            device_number: 10 << 8 | 232,
        }
    }

    fn otherwise(change: impl FnOnce(&mut Circumstances)) -> Circumstances {
        let mut changed = circumstances();
        change(&mut changed);
        changed
    }

    #[test]
    fn what_was_kept_is_recalled_under_the_same_circumstances_only() {
        let directory = tempfile::tempdir().unwrap();
        let recall = |circumstances: &Circumstances| recall(directory.path(), circumstances);
        assert_eq!(recall(&circumstances()), None);
        for finding in [
            usable(),
            Finding { verdict: Verdict::Slow { factor: 70 }, ..usable() },
            Finding { verdict: Verdict::Unusable("int3".into()), ..usable() },
            Finding { lacking: Vec::new(), ..usable() },
        ] {
            keep(directory.path(), circumstances(), &finding);
            assert_eq!(recall(&circumstances()), Some(finding));
        }
        for other in [
            otherwise(|c| c.kiln_version = "1.2.4".into()),
            otherwise(|c| c.program.0 = 101),
            otherwise(|c| c.program.1 = 201),
            otherwise(|c| c.program.2 = 301),
            otherwise(|c| c.boot_id = "0c60".into()),
            otherwise(|c| c.kernel[0] = "6.13".into()),
            otherwise(|c| c.kernel[1] = "#2 SMP".into()),
            otherwise(|c| c.device_number = 0),
        ] {
            assert_eq!(recall(&other), None, "{other:?}");
        }
    }

    #[test]
    fn those_of_now_are_the_same_a_moment_later() {
        let device = File::open("/dev/null").unwrap();
        let now = || Circumstances::now(Path::new("/proc/self/exe"), &device).unwrap();
        assert_eq!(now(), now());
        assert!(!now().boot_id.is_empty());
        assert_eq!(Circumstances::now(Path::new("/nonexistent"), &device), None);
    }

    #[test]
    fn a_place_where_nothing_can_be_kept_costs_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let nowhere = directory.path().join("nowhere");
        keep(&nowhere, circumstances(), &usable());
        assert!(!nowhere.exists());
        // As another user's file might be.
        fs::create_dir(directory.path().join(FILE)).unwrap();
        keep(directory.path(), circumstances(), &usable());
        assert_eq!(recall(directory.path(), &circumstances()), None);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
