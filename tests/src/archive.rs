//! Images, read by skopeo, umoci and GNU tar.

use crate::tool::{is_root, succeed, tool};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A docker-archive, compressed as a whole, in its layers, or not at all.
pub struct Archive(PathBuf);

/// First bytes of a gzip member (RFC 1952, 2.3.1).
const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];

/// First bytes of a zstd frame (RFC 8878, 3.1.1).
const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// The program that decompresses what begins like this.
fn decompressor(magic: &[u8]) -> &'static str {
    match magic {
        magic if magic.starts_with(GZIP_MAGIC) => "gzip -dc",
        magic if magic.starts_with(ZSTD_MAGIC) => "zstd -dc",
        _ => "cat",
    }
}

impl Archive {
    /// The archive at `path`.
    pub fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// The program that decompresses the archive.
    pub fn compression(&self) -> &'static str {
        decompressor(&succeed(tool("head").args(["-c", "4"]).arg(&self.0)))
    }

    /// The one image's entry in `manifest.json`.
    pub fn manifest(&self) -> Value {
        let manifest: Value = serde_json::from_slice(&self.member("manifest.json")).expect("it is JSON");
        manifest[0].clone()
    }

    /// Members that are layers, the base's first.
    pub fn layers(&self) -> Vec<String> {
        let manifest = self.manifest();
        let layers = manifest["Layers"].as_array().expect("a list of layers");
        layers.iter().map(|layer| layer.as_str().expect("a name").to_owned()).collect()
    }

    /// A member's bytes.
    pub fn member(&self, name: &str) -> Vec<u8> {
        self.pipe_member(name, "cat")
    }

    /// Lists the last layer with GNU tar.
    pub fn list_last_layer(&self) -> Vec<Listed> {
        let member = self.layers().pop().expect("at least one layer");
        let decompress = decompressor(&self.pipe_member(&member, "(head -c 4; cat >/dev/null)"));
        let list = "tar --numeric-owner --full-time --quoting-style=escape -tvf -";
        let printed = self.pipe_member(&member, &format!("{decompress} | TZ=UTC {list}"));
        let text = String::from_utf8(printed).expect("unprintable bytes are escaped");
        text.lines().map(Listed::parse).collect()
    }

    /// What a shell command makes of a member, which may be too large to hold.
    fn pipe_member(&self, name: &str, command: &str) -> Vec<u8> {
        let script = format!(r#"{} <"$1" | tar -xOf - -- "$2" | {command}"#, self.compression());
        succeed(tool("bash").args(["-euo", "pipefail", "-c", &script, "bash"]).arg(&self.0).arg(name))
    }

    /// `skopeo inspect`.
    pub fn inspect(&self) -> Value {
        self.skopeo_inspect(&[])
    }

    /// `skopeo inspect --config`: the image's configuration.
    pub fn config(&self) -> Value {
        self.skopeo_inspect(&["--config"])
    }

    fn skopeo_inspect(&self, options: &[&str]) -> Value {
        let printed = succeed(tool("skopeo").arg("inspect").args(options).arg(self.reference()));
        serde_json::from_slice(&printed).expect("skopeo prints JSON")
    }

    /// Unpacks the image below `dir`, which must not exist: with real owners by root, as well as it goes by others.
    /// Gives the root file system.
    pub fn unpack(&self, dir: &Path) -> PathBuf {
        std::fs::create_dir(dir).expect("a directory can be made");
        let layout = format!("{}:image", dir.join("oci").display());
        let destination = format!("oci:{layout}");
        succeed(
            tool("skopeo").args(["--insecure-policy", "copy", "-q"]).arg(self.reference()).arg(destination),
        );
        let bundle = dir.join("bundle");
        let rootless: &[&str] = if is_root() { &[] } else { &["--rootless"] };
        succeed(tool("umoci").arg("unpack").args(rootless).args(["--image", &layout]).arg(&bundle));
        bundle.join("rootfs")
    }

    /// For skopeo. The one of Debian 12 (1.9.3) cannot read any archive that is compressed as a whole: it writes the first
    /// eight bytes of it to its temporary file, and no more. So gzip and zstd go first.
    fn reference(&self) -> String {
        let compression = self.compression();
        if compression == "cat" {
            return format!("docker-archive:{}", self.0.display());
        }
        let mut expanded = self.0.clone().into_os_string();
        expanded.push(".expanded");
        let script = format!(r#"{compression} <"$1" >"$2""#);
        succeed(tool("sh").args(["-ec", &script, "sh"]).arg(&self.0).arg(&expanded));
        format!("docker-archive:{}", Path::new(&expanded).display())
    }
}

/// A line of `tar -tv`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Such as `-rwsr-xr-x`; the first character is the type, `h` a hard link.
    pub mode: String,
    /// `UID/GID`.
    pub owner: String,
    /// Bytes, or `MAJOR,MINOR`.
    pub size: String,
    /// Such as `2026-01-01 00:00:00`, UTC.
    pub time: String,
    /// As in the archive, with unprintable bytes escaped as `\351`.
    pub path: String,
    /// Where a link points to.
    pub link: Option<String>,
}

impl Listed {
    fn parse(line: &str) -> Self {
        let mut rest = line;
        let mut field = || {
            let (field, after) = rest.trim_start().split_once(' ').expect("a line of six fields");
            rest = after;
            field.to_owned()
        };
        let (mode, owner, size) = (field(), field(), field());
        let time = format!("{} {}", field(), field());
        let separator = match mode.as_bytes()[0] {
            b'l' => " -> ",
            b'h' => " link to ",
            // Separates nothing.
            _ => "\n",
        };
        let (path, link) =
            rest.split_once(separator).map_or((rest, None), |(path, link)| (path, Some(link.to_owned())));
        Self { mode, owner, size, time, path: path.to_owned(), link }
    }
}
