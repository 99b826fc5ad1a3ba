//! Where images go, as it is written on the command line and in build files.
//!
//! Two spellings: docker's and buildkit's `type=TYPE,dest=PATH,KEY=VALUE...`, and skopeo's `oci:DIR:TAG`, which may be
//! followed by the same `,KEY=VALUE...`.

use kiln_image::{
    compress::Compression,
    manifest::Dialect,
    reference::{Choice, ImageName, ImageReference, Location, RegistryReference, TagChoice},
};
use kiln_transport::OutputSpec;
use std::str::FromStr;

/// Parses an output.
///
/// # Errors
/// A message for people.
pub fn parse_output(text: &str) -> Result<OutputSpec, String> {
    let mut parts = text.split(',');
    let first = parts.clone().next().unwrap_or_default();
    let place = is_place(first).then(|| parts.next()).flatten();
    let mut keys = Keys::default();
    for part in parts {
        let (key, value) =
            part.split_once('=').ok_or_else(|| format!("`{part}` in `{text}` is not KEY=VALUE"))?;
        keys.set(key, value).map_err(|why| if why.is_empty() { twice(key, text) } else { why })?;
    }
    let location = match place {
        Some(place) => keys.location_of_place(place)?,
        None => keys.location()?,
    };
    keys.finish(location)
}

fn twice(key: &str, text: &str) -> String {
    format!("`{key}` is given twice in `{text}`")
}

/// How skopeo's places begin.
const PLACES: [&str; 6] = ["docker-archive:", "docker://", "oci:", "oci-archive:", "dir:", "rootfs:"];

pub(crate) fn is_place(text: &str) -> bool {
    PLACES.iter().any(|place| text.starts_with(place))
}

/// What was said.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    pub kind: Option<String>,
    pub dest: Option<String>,
    pub name: Option<String>,
    pub compression: Option<String>,
    pub level: Option<String>,
    pub force_compression: Option<String>,
    pub push: Option<String>,
    pub dialect: Option<String>,
    pub oci_media_types: Option<String>,
    pub tar: Option<String>,
}

const KEYS: &str = "type, dest, name, compression, compression-level, force-compression, push, dialect, oci-mediatypes and tar";
const TYPES: &str = "docker-archive, oci, oci-archive, docker, dir, registry, tar, rootfs and local";

impl Keys {
    /// An empty error when it is there already.
    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let field = match key {
            "type" => &mut self.kind,
            "dest" => &mut self.dest,
            "name" => &mut self.name,
            "compression" => &mut self.compression,
            "compression-level" => &mut self.level,
            "force-compression" => &mut self.force_compression,
            "push" => &mut self.push,
            "dialect" => &mut self.dialect,
            "oci-mediatypes" => &mut self.oci_media_types,
            "tar" => &mut self.tar,
            _ => return Err(format!("unknown key `{key}`; there are {KEYS}")),
        };
        if field.replace(value.to_owned()).is_some() { Err(String::new()) } else { Ok(()) }
    }

    fn location_of_place(&self, place: &str) -> Result<Location, String> {
        if self.kind.is_some() || self.dest.is_some() {
            return Err(format!("`{place}` says type and dest already"));
        }
        let reference: ImageReference = parsed(place)?;
        match (reference.digest, reference.location) {
            (Some(_), _) => Err(format!("`{place}`: a digest follows from what is written")),
            (None, location) => Ok(location),
        }
    }

    /// The place of a type.
    pub fn location(&self) -> Result<Location, String> {
        let kind = self.kind.as_deref().ok_or("type=docker-archive is missing, or another type")?;
        let tag = || match &self.name {
            Some(name) => parsed::<ImageName>(name).map(|name| TagChoice::Tag(name.to_string())),
            None => Ok(TagChoice::Only),
        };
        Ok(match kind {
            "docker-archive" => self.docker_archive()?,
            // buildkit's words: a file for `docker load`.
            "docker" if self.is_archive()? => self.docker_archive()?,
            "docker" | "dir" => Location::Dir { path: self.path()? },
            "oci" if self.is_archive()? => Location::OciArchive { path: self.path()?, choice: tag()? },
            "oci" => Location::Oci { path: self.path()?, choice: tag()? },
            "oci-archive" => Location::OciArchive { path: self.path()?, choice: tag()? },
            "registry" | "image" => Location::Registry(self.registry()?),
            "tar" | "rootfs" => Location::Rootfs { path: self.path()? },
            "local" => Location::Rootfs { path: format!("{}/", self.path()?.trim_end_matches('/')) },
            kind => return Err(format!("unknown type `{kind}`; there are {TYPES}")),
        })
    }

    fn docker_archive(&self) -> Result<Location, String> {
        let choice = match &self.name {
            Some(name) => Choice::Name(parsed(name)?),
            None => Choice::Only,
        };
        Ok(Location::DockerArchive { path: self.path()?, choice })
    }

    /// buildkit writes a tar unless told `tar=false`; kiln goes by the name.
    fn is_archive(&self) -> Result<bool, String> {
        if let Some(tar) = flag("tar", self.tar.as_deref())? {
            return Ok(tar);
        }
        let dest = self.dest.as_deref().unwrap_or_default();
        Ok(dest == "-" || dest.contains(".tar") || dest.ends_with(".tgz") || dest.ends_with(".tzst"))
    }

    fn registry(&self) -> Result<RegistryReference, String> {
        if flag("push", self.push.as_deref())? == Some(false) {
            return Err(
                "an output that is not pushed is none; there is no image store to load it into".to_owned()
            );
        }
        let name = self.name.as_deref().or(self.dest.as_deref());
        parsed(name.ok_or("name=NAME of the image in the registry is missing")?)
    }

    fn path(&self) -> Result<String, String> {
        let dest = self.dest.as_deref().filter(|dest| !dest.is_empty());
        Ok(dest.ok_or("dest=PATH, or dest=-, is missing")?.to_owned())
    }

    /// The whole of it.
    pub fn finish(&self, location: Location) -> Result<OutputSpec, String> {
        let compression = self.compression(&location)?;
        let force_compression = flag("force-compression", self.force_compression.as_deref())?;
        if matches!(location, Location::Dir { .. } | Location::Oci { .. }) && location.path() == Some("-") {
            return Err("a directory cannot go to standard output".to_owned());
        }
        Ok(OutputSpec {
            dest: ImageReference { location, digest: None },
            compression,
            force_compression: force_compression.unwrap_or(false),
            dialect: self.dialect()?,
        })
    }

    fn compression(&self, location: &Location) -> Result<Option<Compression>, String> {
        let text = match (&self.compression, &self.level) {
            (None, None) => return of_ending(location),
            (None, Some(_)) => return Err("compression-level needs a compression".to_owned()),
            (Some(name), None) => name.clone(),
            (Some(name), Some(level)) => format!("{name}:{level}"),
        };
        // buildkit's word.
        let text = if text == "uncompressed" { "none" } else { &text };
        parsed(text).map(Some)
    }

    fn dialect(&self) -> Result<Option<Dialect>, String> {
        let of_media_types = flag("oci-mediatypes", self.oci_media_types.as_deref())?
            .map(|oci| if oci { Dialect::Oci } else { Dialect::Docker });
        match self.dialect.as_deref() {
            None => Ok(of_media_types),
            Some("oci") => Ok(Some(Dialect::Oci)),
            Some("docker") => Ok(Some(Dialect::Docker)),
            Some(other) => Err(format!("unknown dialect `{other}`; there are oci and docker")),
        }
    }
}

/// Endings of compressions that kiln does not write. A file should be what its name says.
const OTHER_ENDINGS: [&str; 8] = [".xz", ".txz", ".bz2", ".tbz2", ".lz4", ".lzma", ".br", ".Z"];

/// Of a file that is compressed as a whole, by its name; of layers nothing is said so.
fn of_ending(location: &Location) -> Result<Option<Compression>, String> {
    let path = match location {
        Location::DockerArchive { path, .. }
        | Location::OciArchive { path, .. }
        | Location::Rootfs { path } => path,
        _ => return Ok(None),
    };
    if let Some(ending) = OTHER_ENDINGS.iter().find(|ending| path.ends_with(**ending)) {
        return Err(format!("kiln writes no {ending}; use .tar, .tar.gz or .tar.zst, or say compression="));
    }
    Ok(match location {
        Location::DockerArchive { path, .. } => {
            Some(Compression::from_file_name(path).unwrap_or(Compression::None))
        }
        _ => None,
    })
}

/// The compression that new layers of an output have; `None` where they are not kept apart.
pub(crate) fn compression_of_layers(spec: &OutputSpec) -> Option<Compression> {
    match &spec.dest.location {
        Location::DockerArchive { .. } => Some(spec.compression.unwrap_or(Compression::None)),
        Location::Rootfs { .. } | Location::Scratch | Location::Path { .. } => None,
        Location::Oci { .. } | Location::OciArchive { .. } | Location::Dir { .. } | Location::Registry(_) => {
            Some(spec.compression.unwrap_or(Compression::GZIP))
        }
    }
}

fn flag(key: &str, value: Option<&str>) -> Result<Option<bool>, String> {
    match value {
        None => Ok(None),
        Some("true" | "1" | "yes") => Ok(Some(true)),
        Some("false" | "0" | "no") => Ok(Some(false)),
        Some(other) => Err(format!("`{key}` is true or false, not `{other}`")),
    }
}

fn parsed<T: FromStr<Err = kiln_image::Error>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: kiln_image::Error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs() {
        let (none, gzip, zstd) = (Some(Compression::None), Some(Compression::GZIP), Some(Compression::ZSTD));
        for (text, dest, compression) in [
            ("type=docker-archive,dest=a.tar", "docker-archive:a.tar", none),
            ("type=docker-archive,dest=a.tar.gz", "docker-archive:a.tar.gz", gzip),
            ("dest=a.tgz,type=docker-archive", "docker-archive:a.tgz", gzip),
            ("type=docker-archive,dest=a.tar.zst", "docker-archive:a.tar.zst", zstd),
            ("type=docker-archive,dest=a.tar.gz,compression=none", "docker-archive:a.tar.gz", none),
            ("type=docker-archive,dest=-,compression=gzip", "docker-archive:-", gzip),
            ("type=docker-archive,dest=a,name=x:1", "docker-archive:a:x:1", none),
            ("type=docker,dest=a.tar", "docker-archive:a.tar", none),
            ("type=docker,dest=a", "dir:a", None),
            ("type=dir,dest=a", "dir:a", None),
            ("type=oci,dest=a,name=x", "oci:a:x:latest", None),
            ("type=oci,dest=a.tar", "oci-archive:a.tar", None),
            ("type=oci,dest=a.tar,tar=false", "oci:a.tar", None),
            ("type=oci-archive,dest=-,compression=zstd,compression-level=3", "oci-archive:-", zstd),
            ("type=registry,name=example.org/a:1", "docker://example.org/a:1", None),
            ("type=image,name=example.org/a,push=true", "docker://example.org/a:latest", None),
            ("type=tar,dest=a.tar", "rootfs:a.tar", None),
            ("type=local,dest=a", "rootfs:a/", None),
            ("oci:a:1", "oci:a:1", None),
            ("oci:a:1,compression=gzip", "oci:a:1", gzip),
            ("docker-archive:a.tar.gz:x:1", "docker-archive:a.tar.gz:x:1", gzip),
            ("docker://example.org/a:1", "docker://example.org/a:1", None),
        ] {
            let spec = parse_output(text).unwrap();
            assert_eq!((spec.dest.to_string().as_str(), spec.compression), (dest, compression), "{text}");
        }
    }

    #[test]
    fn dialects_and_force() {
        for (text, dialect, force) in [
            ("oci:a", None, false),
            ("docker://example.org/a,dialect=docker", Some(Dialect::Docker), false),
            ("docker://example.org/a,oci-mediatypes=true,force-compression=true", Some(Dialect::Oci), true),
        ] {
            let spec = parse_output(text).unwrap();
            assert_eq!((spec.dialect, spec.force_compression), (dialect, force), "{text}");
        }
    }

    #[test]
    fn wrong_specs_are_explained() {
        let missing = "dest=PATH, or dest=-, is missing";
        for (text, error) in [
            ("a.tar", "`a.tar` in `a.tar` is not KEY=VALUE"),
            ("dest=a.tar", "type=docker-archive is missing, or another type"),
            ("type=docker-archive", missing),
            ("type=docker-archive,dest=", missing),
            (
                "type=docker-archive,dest=a.tar.xz",
                "kiln writes no .xz; use .tar, .tar.gz or .tar.zst, or say compression=",
            ),
            ("type=zip,dest=a", &format!("unknown type `zip`; there are {TYPES}")),
            (
                "type=docker-archive,dest=a,dest=b",
                "`dest` is given twice in `type=docker-archive,dest=a,dest=b`",
            ),
            ("type=docker-archive,dest=a,psh=yes", &format!("unknown key `psh`; there are {KEYS}")),
            ("type=registry", "name=NAME of the image in the registry is missing"),
            (
                "type=registry,name=a,push=false",
                "an output that is not pushed is none; there is no image store to load it into",
            ),
            ("oci:a,dest=b", "`oci:a` says type and dest already"),
            ("oci:-", "a directory cannot go to standard output"),
            ("oci:a,force-compression=maybe", "`force-compression` is true or false, not `maybe`"),
            ("oci:a,compression-level=3", "compression-level needs a compression"),
            ("oci:a,dialect=v1", "unknown dialect `v1`; there are oci and docker"),
        ] {
            assert_eq!(parse_output(text).unwrap_err(), error, "{text}");
        }
    }
}
