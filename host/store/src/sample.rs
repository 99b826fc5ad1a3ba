//! Archives for tests, made with GNU tar.

use kiln_image::digest::Digest;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A directory with a store to be and an archive.
pub(crate) struct Sample {
    pub(crate) directory: tempfile::TempDir,
}

impl Sample {
    /// An archive of an image with these layers, each a list of paths and contents.
    pub(crate) fn new(layers: &[&[(&str, &str)]]) -> Self {
        let sample = Self { directory: tempfile::tempdir().unwrap() };
        let tars: Vec<Vec<u8>> = layers.iter().map(|files| sample.layer(files)).collect();
        sample.write_archive(&tars, &tars.iter().map(|tar| Digest::of(tar)).collect::<Vec<_>>());
        sample
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn archive(&self) -> PathBuf {
        self.path("archive.tar")
    }

    pub(crate) fn store(&self) -> crate::Store {
        crate::Store::open(&self.path("store")).unwrap()
    }

    fn layer(&self, files: &[(&str, &str)]) -> Vec<u8> {
        let root = self.path("layer");
        for (path, content) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        fs::create_dir_all(&root).unwrap();
        let bytes = tar(&root, &["."]);
        fs::remove_dir_all(root).unwrap();
        bytes
    }

    /// Writes the archive, whose configuration says these diff IDs.
    pub(crate) fn write_archive(&self, layers: &[Vec<u8>], diff_ids: &[Digest]) {
        let root = self.path("members");
        fs::create_dir_all(&root).unwrap();
        let config = format!(
            r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":{}}}}}"#,
            serde_json::to_string(diff_ids).unwrap()
        );
        let names: Vec<String> = (0..layers.len()).map(|number| format!("{number}.tar")).collect();
        for (name, bytes) in names.iter().zip(layers) {
            fs::write(root.join(name), bytes).unwrap();
        }
        fs::write(root.join("config.json"), config).unwrap();
        let manifest = serde_json::json!([{ "Config": "config.json", "RepoTags": ["a:b"], "Layers": names }]);
        fs::write(root.join("manifest.json"), manifest.to_string()).unwrap();
        let mut members: Vec<&str> = names.iter().map(String::as_str).collect();
        members.extend(["config.json", "manifest.json"]);
        fs::write(self.archive(), tar(&root, &members)).unwrap();
    }
}

fn tar(directory: &Path, members: &[&str]) -> Vec<u8> {
    let output = Command::new("tar")
        .args(["--create", "--sort=name", "--file=-", "--directory"])
        .arg(directory)
        .args(members)
        .output()
        .unwrap_or_else(|e| panic!("cannot run tar (is GNU tar installed?): {e}"));
    assert!(output.status.success(), "tar: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
