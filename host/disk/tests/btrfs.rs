//! Disks of the `mkfs.btrfs` that is installed: two runs over one directory become the same bytes, and `btrfs check`
//! finds nothing wrong with them, nor with the files' contents.
//!
//! `src/btrfs/tests.rs` has disks that were made before. These need the tools of btrfs-progs 6.14 or newer:
//! `cargo test -p kiln-disk --test btrfs -- --ignored`.

use kiln_disk::btrfs::{self, InodeTimes, Options};
use kiln_disk::sparse::{Source, Target};
use std::fs::{self, File, FileTimes};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

const UUID: &str = "11111111-2222-3333-4444-555555555555";
const MIB: u64 = 1 << 20;

const CASES: [(&str, u64, &[&str]); 15] = [
    ("plain", 300, &[]),
    ("small", 128, &["-m", "single"]),
    ("data-dup", 600, &["-d", "dup", "-m", "dup"]),
    ("nodes-4k", 300, &["-n", "4096"]),
    ("nodes-64k", 400, &["-n", "65536"]),
    ("mixed", 120, &["--mixed"]),
    ("mixed-4k", 120, &["--mixed", "-n", "4096", "-m", "single", "-d", "single"]),
    ("zstd", 300, &["--compress", "zstd"]),
    ("lzo", 300, &["--compress", "lzo"]),
    ("subvolumes", 300, &["--subvol", "large", "--subvol", "ro:many", "--subvol", "default:linked"]),
    ("xxhash", 300, &["--csum", "xxhash"]),
    ("sha256", 300, &["--csum", "sha256"]),
    ("block-groups", 300, &["-O", "block-group-tree"]),
    ("old", 300, &["-O", "^no-holes,^free-space-tree"]),
    ("quota", 300, &["-O", "quota", "-L", "a label"]),
];

#[test]
#[ignore = "needs mkfs.btrfs and btrfs of btrfs-progs"]
fn disks_of_mkfs_become_the_same_and_stay_whole() {
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("source");
    make_source(&source);
    for (name, mib, arguments) in CASES {
        let options =
            Options { time_s: 1_700_000_000, inode_times: InodeTimes::OfModification, ..Options::default() };
        let [one, other] = ["1", "2"].map(|run| {
            let path = directory.path().join(format!("{name}-{run}"));
            make(&path, mib * MIB, &source, arguments);
            let listed = listing(&path);
            let mut disk = Disk(File::options().read(true).write(true).open(&path).unwrap());
            btrfs::canonicalise(&mut disk, 0..mib * MIB, &options)
                .unwrap_or_else(|error| panic!("{name}: {error:?}"));
            assert_eq!(listing(&path), listed, "{name}: what names, sizes and times of modification are");
            // So that the clock of the next run shows another second.
            std::thread::sleep(Duration::from_millis(1100));
            path
        });
        check(name, &one);
        assert!(fs::read(&one).unwrap() == fs::read(&other).unwrap(), "{name}: two runs differ");
        fs::remove_file(one).unwrap();
        fs::remove_file(other).unwrap();
    }
}

fn make_source(source: &Path) {
    for directory in ["linked", "large", "many"] {
        fs::create_dir_all(source.join(directory)).unwrap();
    }
    let numbers: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    write(&source.join("large/file"), &numbers);
    write(&source.join("large/zeros"), &vec![0; 1 << 20]);
    for number in 0..3000 {
        write(
            &source.join(format!("many/file-{number}")),
            format!("{number}\n").repeat(number % 100).as_bytes(),
        );
    }
    write(&source.join("linked/one"), b"one file of two names");
    fs::hard_link(source.join("linked/one"), source.join("linked/two")).unwrap();
    std::os::unix::fs::symlink("one", source.join("linked/symlink")).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    if rustix::fs::setxattr(source.join("linked/one"), "user.colour", b"blue", flags).is_err() {
        eprintln!("the file system of temporary files has no user attributes: none are tested");
    }
}

fn write(path: &Path, contents: &[u8]) {
    fs::write(path, contents).unwrap();
    let modified = SystemTime::UNIX_EPOCH + Duration::new(1_600_000_000, 123);
    File::open(path).unwrap().set_times(FileTimes::new().set_modified(modified)).unwrap();
}

fn make(path: &PathBuf, size: u64, source: &Path, arguments: &[&str]) {
    File::create(path).unwrap().set_len(size).unwrap();
    let mut command = Command::new("mkfs.btrfs");
    command.args(["-q", "-f", "-U", UUID, "--rootdir"]).arg(source).args(arguments).arg(path);
    run(&mut command);
}

/// Names, sizes and times of modification as `btrfs` lists them, of all inodes.
fn listing(path: &Path) -> Vec<String> {
    let output = run(Command::new("btrfs").args(["inspect-internal", "dump-tree"]).arg(path));
    let wanted = ["mtime 16", "name: ", "size ", "data "];
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = text.lines().map(str::trim).filter(|line| wanted.iter().any(|wanted| line.contains(wanted)));
    lines.filter(|line| !line.starts_with("item ")).map(str::to_owned).collect()
}

fn check(name: &str, path: &Path) {
    for how in ["--readonly", "--check-data-csum"] {
        let output = run(Command::new("btrfs").args(["check", "--force", how]).arg(path));
        let said = String::from_utf8_lossy(&output.stderr).to_lowercase();
        // Whether the file is mounted cannot always be found out; it is not.
        let said = said.lines().filter(|line| !line.contains("mount status")).collect::<Vec<_>>().join("\n");
        for word in ["error", "warning", "mismatch", "corrupt"] {
            assert!(!said.contains(word), "{name}: btrfs check {how} says {said}");
        }
    }
}

fn run(command: &mut Command) -> Output {
    let program = command.get_program().to_string_lossy().into_owned();
    let output =
        command.output().unwrap_or_else(|error| panic!("{program} of btrfs-progs is needed: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// A file as a disk.
struct Disk(File);

impl Source for Disk {
    fn len(&self) -> u64 {
        self.0.metadata().unwrap().len()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        use rustix::fs::{SeekFrom, seek};
        match seek(&self.0, SeekFrom::Data(offset)) {
            Err(rustix::io::Errno::NXIO) => Ok(None),
            start => {
                let start = start?;
                Ok(Some(start..seek(&self.0, SeekFrom::Hole(start))?))
            }
        }
    }
}

impl Target for Disk {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn set_len(&mut self, _: u64) -> io::Result<()> {
        unreachable!("a disk keeps its length")
    }
}
