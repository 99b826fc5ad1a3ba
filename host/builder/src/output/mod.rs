//! Where results go: written aside, then renamed into place.

mod archive;
mod pending;

pub(crate) use archive::{Image, compress_ahead, write};
use pending::PendingFile;

use kiln_image::compress::Compression;
use std::{fmt, path::PathBuf, str::FromStr};

/// `type=docker-archive,dest=FILE|-[,compression=gzip|zstd|none]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputSpec {
    /// File or standard output.
    pub dest: Destination,
    /// Of the archive as a whole; by the file's ending if not given.
    pub compression: Compression,
}

/// Where an output is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A file; replaced whole when the build succeeded, untouched otherwise.
    File(PathBuf),
    /// Standard output.
    Stdout,
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Stdout => f.write_str("-"),
        }
    }
}

impl FromStr for OutputSpec {
    /// A message for people.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (mut kind, mut dest, mut compression) = (None, None, None);
        for part in text.split(',') {
            let (key, value) =
                part.split_once('=').ok_or_else(|| format!("`{part}` in `{text}` is not KEY=VALUE"))?;
            let field = match key {
                "type" => &mut kind,
                "dest" => &mut dest,
                "compression" => &mut compression,
                _ => return Err(format!("unknown key `{key}`; there are type, dest and compression")),
            };
            if field.replace(value).is_some() {
                return Err(format!("`{key}` is given twice in `{text}`"));
            }
        }
        match kind {
            Some("docker-archive") => {}
            Some(kind) => return Err(format!("unknown type `{kind}`; there is docker-archive")),
            None => return Err("type=docker-archive is missing".to_owned()),
        }
        let dest = dest.filter(|dest| !dest.is_empty()).ok_or("dest=FILE, or dest=-, is missing")?;
        let compression = match compression {
            Some(name) => name.parse().map_err(|error: kiln_image::Error| error.to_string())?,
            None => compression_of(dest)?,
        };
        let dest = if dest == "-" { Destination::Stdout } else { Destination::File(dest.into()) };
        Ok(Self { dest, compression })
    }
}

/// Endings of compressions that kiln does not write. A file should be what its name says.
const OTHER_ENDINGS: [&str; 8] = [".xz", ".txz", ".bz2", ".tbz2", ".lz4", ".lzma", ".br", ".Z"];

fn compression_of(dest: &str) -> Result<Compression, String> {
    if let Some(ending) = OTHER_ENDINGS.iter().find(|ending| dest.ends_with(**ending)) {
        return Err(format!("kiln writes no {ending}; use .tar, .tar.gz or .tar.zst, or say compression="));
    }
    Ok(Compression::from_file_name(dest).unwrap_or(Compression::None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs() {
        for (text, dest, compression) in [
            ("type=docker-archive,dest=a.tar", "a.tar", Compression::None),
            ("type=docker-archive,dest=a.tar.gz", "a.tar.gz", Compression::GZIP),
            ("dest=a.tgz,type=docker-archive", "a.tgz", Compression::GZIP),
            ("type=docker-archive,dest=a.tar.zst", "a.tar.zst", Compression::ZSTD),
            ("type=docker-archive,dest=a.tar.gz,compression=none", "a.tar.gz", Compression::None),
            ("type=docker-archive,dest=-,compression=gzip", "-", Compression::GZIP),
        ] {
            let spec: OutputSpec = text.parse().unwrap();
            assert_eq!((spec.dest.to_string().as_str(), spec.compression), (dest, compression), "{text}");
        }
    }

    #[test]
    fn wrong_specs_are_explained() {
        for (text, error) in [
            ("a.tar", "`a.tar` in `a.tar` is not KEY=VALUE"),
            ("dest=a.tar", "type=docker-archive is missing"),
            ("type=docker-archive", "dest=FILE, or dest=-, is missing"),
            ("type=docker-archive,dest=", "dest=FILE, or dest=-, is missing"),
            (
                "type=docker-archive,dest=a.tar.xz",
                "kiln writes no .xz; use .tar, .tar.gz or .tar.zst, or say compression=",
            ),
            ("type=oci,dest=a", "unknown type `oci`; there is docker-archive"),
            (
                "type=docker-archive,dest=a,dest=b",
                "`dest` is given twice in `type=docker-archive,dest=a,dest=b`",
            ),
            (
                "type=docker-archive,dest=a,push=yes",
                "unknown key `push`; there are type, dest and compression",
            ),
        ] {
            assert_eq!(text.parse::<OutputSpec>().unwrap_err(), error);
        }
    }
}
