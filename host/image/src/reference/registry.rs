//! Images in registries.

use super::ImageName;
use crate::digest::Digest;
use crate::error::Error;
use std::fmt;
use std::str::FromStr;

/// `[DOMAIN/]PATH[:TAG][@sha256:DIGEST]`, as it follows `docker://`.
///
/// With tag and digest, the digest counts and the tag is for people, as with docker and skopeo.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegistryReference {
    name: ImageName,
    /// Whether the tag counts for anything.
    tagged: bool,
    digest: Option<Digest>,
}

impl RegistryReference {
    /// The registry: `docker.io`, `localhost:5000`.
    pub fn domain(&self) -> &str {
        &self.name.domain
    }

    /// The repository in the registry: `library/debian`.
    pub fn path(&self) -> &str {
        &self.name.path
    }

    /// The tag: the one that was written, else `latest` where there is no digest either.
    pub fn tag(&self) -> Option<&str> {
        self.tagged.then_some(&self.name.tag)
    }

    /// The digest of the manifest.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The name with its tag, as an archive of the image would have it.
    pub fn name(&self) -> &ImageName {
        &self.name
    }

    /// What is asked of the registry: the digest, or else the tag.
    pub fn manifest_reference(&self) -> String {
        self.digest.map_or_else(|| self.name.tag.clone(), |digest| digest.to_string())
    }

    /// The same repository by digest.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }
}

impl FromStr for RegistryReference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest.parse()?)),
            None => (text, None),
        };
        let tagged = name.rsplit('/').next().is_some_and(|last| last.contains(':'));
        // Without a digest, no tag means `latest`.
        Ok(Self { name: name.parse()?, tagged: tagged || digest.is_none(), digest })
    }
}

impl From<ImageName> for RegistryReference {
    fn from(name: ImageName) -> Self {
        Self { name, tagged: true, digest: None }
    }
}

/// In full, with domain: `docker.io/library/debian:latest`.
impl fmt::Display for RegistryReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name.domain, self.name.path)?;
        if let Some(tag) = self.tag() {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "sha256:03797fe0d3ee711a82feb579cee47c3ca22eb536b523286fd1bd87b501d979e4";

    #[test]
    fn written_shortly_and_in_full() {
        for (text, domain, path, tag, full) in [
            ("debian", "docker.io", "library/debian", Some("latest"), "docker.io/library/debian:latest"),
            ("localhost:5000/a/b:1", "localhost:5000", "a/b", Some("1"), "localhost:5000/a/b:1"),
        ] {
            let parsed: RegistryReference = text.parse().unwrap();
            assert_eq!((parsed.domain(), parsed.path(), parsed.tag()), (domain, path, tag));
            assert_eq!(
                (parsed.to_string().as_str(), parsed.manifest_reference()),
                (full, tag.unwrap().to_owned())
            );
        }
        let pinned: RegistryReference = format!("debian@{ID}").parse().unwrap();
        assert_eq!((pinned.tag(), pinned.manifest_reference()), (None, ID.to_owned()));
        assert_eq!(pinned.to_string(), format!("docker.io/library/debian@{ID}"));
        let both: RegistryReference = format!("localhost/debian:12@{ID}").parse().unwrap();
        assert_eq!((both.tag(), both.manifest_reference()), (Some("12"), ID.to_owned()));
    }
}
