//! The Debian base, made once for all tests and all test processes.

use crate::{
    engine::Engine,
    kiln::Kiln,
    repository::{kiln_binary, repository},
    tool::{succeed, tool},
};
use std::{
    env,
    fs::{self, File},
    hash::{DefaultHasher, Hash, Hasher},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

/// The root file system's tar that `scripts/debian-base` made; made now if not set.
const ROOTFS_VARIABLE: &str = "KILN_TEST_BASE";

/// A real Debian image.
pub struct Debian {
    dir: PathBuf,
    rootfs: PathBuf,
}

impl Debian {
    /// Makes the image, unless this kiln made it before.
    pub fn get() -> Self {
        let rootfs = match env::var_os(ROOTFS_VARIABLE) {
            Some(path) => PathBuf::from(path),
            None => debian_base(&[]).into(),
        };
        let shared = &shared_directory();
        let debian = Self { dir: shared.join(key(&rootfs)), rootfs };
        debian.make_image_once(shared);
        debian
    }

    /// The root file system's tar.
    pub fn rootfs(&self) -> &Path {
        &self.rootfs
    }

    /// The image, a docker-archive.
    pub fn image(&self) -> PathBuf {
        self.dir.join("debian.tar")
    }

    /// A cache that knows the image.
    pub fn cache(&self) -> PathBuf {
        self.dir.join("cache")
    }

    /// A directory with Debian packages that are not installed in it.
    pub fn packages(&self) -> PathBuf {
        self.rootfs.parent().expect("the tar lies in a directory").join("debs")
    }

    /// At its final place from the start: the cache knows a base by its path.
    fn make_image_once(&self, shared: &Path) {
        fs::create_dir_all(shared).expect("the target directory can be written");
        let lock = File::create(shared.join("lock")).expect("the lock can be made");
        lock.lock().expect("the lock can be taken");
        let complete = self.dir.join("complete");
        if !complete.exists() {
            self.make_image(shared);
            fs::write(complete, "").expect("a file can be written");
        }
        for engine in [Engine::Tcg, Engine::Kvm] {
            self.acquaint_once(engine);
        }
    }

    fn make_image(&self, shared: &Path) {
        remove_others(shared);
        let context = self.dir.join("context");
        fs::create_dir_all(&context).expect("the context can be made");
        fs::write(context.join("kiln.toml"), BUILD_FILE).expect("the build file can be written");
        std::os::unix::fs::symlink(&self.rootfs, context.join("rootfs.tar")).expect("a link can be made");
        let dest = format!("type=docker-archive,compression=gzip,dest={}", self.image().display());
        let epoch = debian_base(&["--epoch"]);
        let build = self.kiln().args(["build", "-o", &dest]).arg(context);
        build.env("SOURCE_DATE_EPOCH", epoch).run().succeeds();
        // A file that has just been written may change again unseen; kiln takes no note of such.
        thread::sleep(Duration::from_secs(3));
    }

    /// Since this machine was started: the cache knows the image as a file of this machine, and what KVM can do.
    fn acquaint_once(&self, engine: Engine) {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("Linux has one");
        let acquainted = self.dir.join(format!("{}-{}", engine.name(), boot.trim()));
        if acquainted.exists() || engine.reason_to_skip().is_some() {
            return;
        }
        let run = self.kiln().args(["run", "--base"]).arg(self.image()).engine(engine);
        run.args(["--", "true"]).run().succeeds();
        fs::write(acquainted, "").expect("a file can be written");
    }

    fn kiln(&self) -> Kiln {
        Kiln::new(&self.cache(), &self.dir, &self.dir)
    }
}

/// Images of other kilns and other packages.
fn remove_others(shared: &Path) {
    let entries = fs::read_dir(shared).expect("it can be read").filter_map(Result::ok);
    for entry in entries.filter(|entry| entry.path().is_dir()) {
        fs::remove_dir_all(entry.path()).expect("it is ours");
    }
}

const BUILD_FILE: &str = r#"
name = "debian"
tag = "bookworm"
contents = [{ src = "rootfs.tar", owner = "keep" }]
[config]
Cmd = ["/bin/bash"]
Env = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
"#;

/// What `scripts/debian-base` prints.
fn debian_base(arguments: &[&str]) -> String {
    let script = repository().join("scripts/debian-base");
    let printed = succeed(tool(script.to_str().expect("a plain path")).args(arguments));
    String::from_utf8(printed).expect("plain text").trim_end().to_owned()
}

/// Kept from one test run to the next.
fn shared_directory() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from);
    target.join("kiln-tests")
}

/// Changes with the input and with kiln.
fn key(rootfs: &Path) -> String {
    let mut hasher = DefaultHasher::new();
    rootfs.hash(&mut hasher);
    for path in [rootfs, &kiln_binary()] {
        let metadata = fs::metadata(path).expect("the file is there");
        (metadata.size(), metadata.mtime(), metadata.mtime_nsec()).hash(&mut hasher);
    }
    format!("debian-{:016x}", hasher.finish())
}
