//! Where an image is or goes, in skopeo's spelling.
//!
//! ```text
//! scratch                                        nothing
//! docker-archive:PATH[:NAME[:TAG] | :@INDEX]     what `docker save` writes
//! oci:PATH[:TAG | :@INDEX]                       an OCI image layout, a directory
//! oci-archive:PATH[:TAG | :@INDEX]               the same as a tar
//! dir:PATH                                       manifest and blobs in a directory, as `skopeo copy` makes it
//! docker://[DOMAIN/]PATH[:TAG][@DIGEST]          a registry
//! rootfs:PATH                                    a directory or tar that is the image's root
//! PATH                                           any of the files and directories above, by what is in it
//! ```
//!
//! `@sha256:...` at the end is kiln's own for all but `docker://`: the digest that the image's manifest or configuration
//! must have. `-` as path of an archive is standard input or output.
//! <https://github.com/containers/image/blob/v5.30.0/docs/containers-transports.5.md>

use super::{Choice, ImageName, RegistryReference, is_tag, parse_index, split_choice, split_image_id};
use crate::digest::Digest;
use crate::error::{Error, Kind};
use std::fmt;
use std::str::FromStr;

/// A place of an image, and what its digest must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageReference {
    /// Where.
    pub location: Location,
    /// Digest of the manifest or of the configuration (the image ID). For a registry it is the location's.
    pub digest: Option<Digest>,
}

/// A place of an image. Paths are not empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// No image.
    Scratch,
    /// A docker-archive.
    DockerArchive {
        /// The file.
        path: String,
        /// Which of its images.
        choice: Choice,
    },
    /// An OCI image layout.
    Oci {
        /// The directory.
        path: String,
        /// Which of its images.
        choice: TagChoice,
    },
    /// An OCI image layout as a tar.
    OciArchive {
        /// The file.
        path: String,
        /// Which of its images.
        choice: TagChoice,
    },
    /// A directory of blobs.
    Dir {
        /// The directory.
        path: String,
    },
    /// A registry.
    Registry(RegistryReference),
    /// A root file system, as a directory or tar.
    Rootfs {
        /// The directory or file.
        path: String,
    },
    /// A file or directory that says itself what it is.
    Path {
        /// The file or directory.
        path: String,
    },
}

/// Which of a layout's images is meant. A tag is the annotation `org.opencontainers.image.ref.name` of the index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum TagChoice {
    /// The only one.
    #[default]
    Only,
    /// The one with this tag; any text that follows the grammar of the annotation, also a whole name.
    Tag(String),
    /// The one at this place in the index, from 0.
    Index(usize),
}

impl Location {
    /// The path on this host; `None` for a registry and for nothing.
    pub fn path(&self) -> Option<&str> {
        match self {
            Self::Scratch | Self::Registry(_) => None,
            Self::DockerArchive { path, .. }
            | Self::Oci { path, .. }
            | Self::OciArchive { path, .. }
            | Self::Dir { path }
            | Self::Rootfs { path }
            | Self::Path { path } => Some(path),
        }
    }

    /// The same with another path, such as one relative to another directory.
    #[must_use]
    pub fn with_path(mut self, new: String) -> Self {
        match &mut self {
            Self::Scratch | Self::Registry(_) => {}
            Self::DockerArchive { path, .. }
            | Self::Oci { path, .. }
            | Self::OciArchive { path, .. }
            | Self::Dir { path }
            | Self::Rootfs { path }
            | Self::Path { path } => *path = new,
        }
        self
    }
}

/// skopeo's places that kiln does not know.
const OTHER_TRANSPORTS: [&str; 4] = ["containers-storage", "docker-daemon", "ostree", "sif"];

impl FromStr for ImageReference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if let Some(rest) = text.strip_prefix("docker://") {
            let reference: RegistryReference = rest.parse()?;
            let digest = reference.digest().copied();
            return Ok(Self { location: Location::Registry(reference), digest });
        }
        let (place, digest) = split_image_id(text);
        let location = location(place).and_then(|location| check(location, text))?;
        Ok(Self { location, digest })
    }
}

fn location(text: &str) -> Result<Location, Error> {
    let path = |path: &str| path.to_owned();
    Ok(match text.split_once(':') {
        None if text == "scratch" => Location::Scratch,
        Some(("docker-archive", rest)) => {
            let (path, choice) = split_choice(rest)?;
            Location::DockerArchive { path: path.to_owned(), choice }
        }
        Some(("oci", rest)) => {
            let (path, choice) = split_tag_choice(rest)?;
            Location::Oci { path, choice }
        }
        Some(("oci-archive", rest)) => {
            let (path, choice) = split_tag_choice(rest)?;
            Location::OciArchive { path, choice }
        }
        Some(("dir", rest)) => Location::Dir { path: path(rest) },
        Some(("rootfs", rest)) => Location::Rootfs { path: path(rest) },
        Some(("docker", _)) => return Err(syntax(text, "a registry is written `docker://NAME`")),
        Some((transport, _)) if OTHER_TRANSPORTS.contains(&transport) => {
            return Err(syntax(
                text,
                "kiln knows docker-archive:, oci:, oci-archive:, dir:, docker:// and rootfs:",
            ));
        }
        _ => Location::Path { path: path(text) },
    })
}

fn check(location: Location, text: &str) -> Result<Location, Error> {
    match location.path() {
        Some("") => Err(syntax(text, "the path is missing")),
        _ => Ok(location),
    }
}

fn split_tag_choice(text: &str) -> Result<(String, TagChoice), Error> {
    let Some((path, choice)) = text.split_once(':') else {
        return Ok((text.to_owned(), TagChoice::Only));
    };
    let choice = match choice.strip_prefix('@') {
        Some(index) => TagChoice::Index(parse_index(index)?),
        None if is_tag(choice) || choice.parse::<ImageName>().is_ok() => TagChoice::Tag(choice.to_owned()),
        None => return Err(syntax(text, "what follows the path is neither a tag nor `@INDEX`")),
    };
    Ok((path.to_owned(), choice))
}

fn syntax(text: &str, why: &'static str) -> Error {
    Kind::Syntax { what: "the place of an image", text: text.to_owned(), why }.into()
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scratch => f.write_str("scratch"),
            Self::DockerArchive { path, choice } => {
                write!(f, "docker-archive:{path}")?;
                match choice {
                    Choice::Only => Ok(()),
                    Choice::Name(name) => write!(f, ":{name}"),
                    Choice::Index(index) => write!(f, ":@{index}"),
                }
            }
            Self::Oci { path, choice } => write!(f, "oci:{path}{choice}"),
            Self::OciArchive { path, choice } => write!(f, "oci-archive:{path}{choice}"),
            Self::Dir { path } => write!(f, "dir:{path}"),
            Self::Registry(reference) => write!(f, "docker://{reference}"),
            Self::Rootfs { path } => write!(f, "rootfs:{path}"),
            Self::Path { path } => f.write_str(path),
        }
    }
}

impl fmt::Display for TagChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Only => Ok(()),
            Self::Tag(tag) => write!(f, ":{tag}"),
            Self::Index(index) => write!(f, ":@{index}"),
        }
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.location.fmt(f)?;
        match &self.digest {
            Some(digest) if !matches!(self.location, Location::Registry(_)) => write!(f, "@{digest}"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "sha256:03797fe0d3ee711a82feb579cee47c3ca22eb536b523286fd1bd87b501d979e4";

    #[test]
    fn places() {
        let path = |path: &str| path.to_owned();
        for (text, expected) in [
            ("scratch", Location::Scratch),
            ("base.tar", Location::Path { path: path("base.tar") }),
            ("/a:b/c", Location::Path { path: path("/a:b/c") }),
            ("dir:d", Location::Dir { path: path("d") }),
            ("rootfs:d", Location::Rootfs { path: path("d") }),
            ("oci:d", Location::Oci { path: path("d"), choice: TagChoice::Only }),
            ("oci:d:1.0", Location::Oci { path: path("d"), choice: TagChoice::Tag("1.0".into()) }),
            (
                "oci-archive:a.tar:@2",
                Location::OciArchive { path: path("a.tar"), choice: TagChoice::Index(2) },
            ),
            (
                "oci-archive:-:localhost:5000/a:1",
                Location::OciArchive { path: path("-"), choice: TagChoice::Tag("localhost:5000/a:1".into()) },
            ),
            (
                "docker-archive:b.tar:@3",
                Location::DockerArchive { path: path("b.tar"), choice: Choice::Index(3) },
            ),
            ("docker://debian", Location::Registry("debian".parse().unwrap())),
        ] {
            let expected = ImageReference { location: expected, digest: None };
            assert_eq!(text.parse::<ImageReference>().unwrap(), expected, "{text}");
            let pinned = format!("{text}@{ID}").parse::<ImageReference>().unwrap();
            assert_eq!(pinned.digest, Some(ID.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn no_places() {
        for (text, why) in [
            ("", "the path is missing"),
            ("oci:", "the path is missing"),
            ("docker:debian", "a registry is written `docker://NAME`"),
            (
                "docker-daemon:x",
                "kiln knows docker-archive:, oci:, oci-archive:, dir:, docker:// and rootfs:",
            ),
        ] {
            let error = text.parse::<ImageReference>().unwrap_err().to_string();
            assert_eq!(error, format!("{text:?} is not the place of an image: {why}"));
        }
        assert!("oci:d:a b".parse::<ImageReference>().is_err());
    }

    proptest! {
        #[test]
        fn shown_and_parsed_is_the_same(text in "((oci|docker-archive|oci-archive|dir|rootfs):|docker://)?[a-zA-Z0-9:@./_-]{0,40}") {
            if let Ok(place) = text.parse::<ImageReference>() {
                prop_assert_eq!(place.to_string().parse::<ImageReference>().unwrap(), place);
            }
        }
    }
}
