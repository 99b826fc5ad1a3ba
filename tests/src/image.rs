//! Images in any of skopeo's places, read by tools that are not ours.

use crate::tool::{is_root, succeed, tool};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// An image as skopeo names it: `oci:dir:tag`, `docker://localhost:5000/app`.
pub struct Image {
    reference: String,
    options: Vec<String>,
}

impl Image {
    /// The image at this place.
    pub fn at(reference: impl Into<String>) -> Self {
        Self { reference: reference.into(), options: Vec::new() }
    }

    /// Options that skopeo needs to get there, for `inspect`; those of `copy` begin with `--src-` instead.
    #[must_use]
    pub fn with_options<'a>(mut self, options: impl IntoIterator<Item = &'a str>) -> Self {
        self.options.extend(options.into_iter().map(str::to_owned));
        self
    }

    /// `skopeo inspect`.
    pub fn inspect(&self) -> Value {
        self.skopeo_inspect(&[])
    }

    /// `skopeo inspect --config`: the image's configuration.
    pub fn config(&self) -> Value {
        self.skopeo_inspect(&["--config"])
    }

    /// `skopeo inspect --raw`: the manifest or index, byte for byte.
    pub fn raw(&self) -> Vec<u8> {
        succeed(tool("skopeo").args(["inspect", "--raw"]).args(&self.options).arg(&self.reference))
    }

    /// The manifest or index.
    pub fn manifest(&self) -> Value {
        serde_json::from_slice(&self.raw()).expect("a manifest is JSON")
    }

    /// Digests of the layers' uncompressed tars.
    pub fn diff_ids(&self) -> Vec<String> {
        let config = self.config();
        let ids = config["rootfs"]["diff_ids"].as_array().expect("a list of layers");
        ids.iter().map(|id| id.as_str().expect("a digest").to_owned()).collect()
    }

    fn skopeo_inspect(&self, options: &[&str]) -> Value {
        let printed =
            succeed(tool("skopeo").arg("inspect").args(options).args(&self.options).arg(&self.reference));
        serde_json::from_slice(&printed).expect("skopeo prints JSON")
    }

    /// `skopeo copy` to another place.
    pub fn copy_to(&self, destination: &str, options: &[&str]) -> Self {
        let of_source = self.options.iter().map(|option| option.replacen("--", "--src-", 1));
        let mut copy = tool("skopeo");
        copy.args(["--insecure-policy", "copy", "-q"]).args(of_source).args(options);
        succeed(copy.arg(&self.reference).arg(destination));
        Self::at(destination)
    }

    /// Unpacks the image below `dir`, which must not exist: with real owners by root, as well as it goes by others.
    /// Gives the root file system.
    pub fn unpack(&self, dir: &Path) -> PathBuf {
        std::fs::create_dir(dir).expect("a directory can be made");
        let layout = format!("{}:image", dir.join("oci").display());
        self.copy_to(&format!("oci:{layout}"), &[]);
        let bundle = dir.join("bundle");
        let rootless: &[&str] = if is_root() { &[] } else { &["--rootless"] };
        succeed(tool("umoci").arg("unpack").args(rootless).args(["--image", &layout]).arg(&bundle));
        bundle.join("rootfs")
    }
}

/// What `podman image inspect` says of each image that `podman load` finds in a file.
pub fn podman_load(file: &Path) -> Vec<Value> {
    // podman takes no long paths.
    let dir = tempfile::Builder::new().prefix("pod-").tempdir().expect("a directory can be made");
    let dir = dir.path();
    let podman = || {
        let mut podman = tool("podman");
        // It wants one of its own.
        podman.env("XDG_RUNTIME_DIR", dir);
        podman.arg("--root").arg(dir.join("root")).arg("--runroot").arg(dir.join("run"));
        podman.args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"]);
        podman
    };
    let printed =
        String::from_utf8(succeed(podman().args(["load", "-i"]).arg(file))).expect("names are text");
    let names =
        printed.lines().filter_map(|line| line.split_once(": ")).flat_map(|(_, names)| names.split(','));
    let inspect = |name: &str| {
        let printed = succeed(podman().args(["image", "inspect", name.trim()]));
        let found: Value = serde_json::from_slice(&printed).expect("podman prints JSON");
        found[0].clone()
    };
    names.map(inspect).collect()
}
