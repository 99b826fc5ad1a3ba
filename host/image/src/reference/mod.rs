//! Names of images, and how a user points at one: in a registry, an archive, a layout ([`ImageReference`]).
//!
//! A name follows the grammar of <https://pkg.go.dev/github.com/distribution/reference>:
//!
//! ```text
//! name             := [domain "/"] path-component ["/" path-component]* [":" tag]
//! domain           := domain-component ["." domain-component]* [":" port]
//! domain-component := letters, digits, and "-" between them
//! path-component   := [a-z0-9]+ [separator [a-z0-9]+]*
//! separator        := "." | "_" | "__" | "-"+
//! tag              := [A-Za-z0-9_] [A-Za-z0-9_.-]{0,127}
//! ```

mod location;
mod registry;

pub use location::{ImageReference, Location, TagChoice};
pub use registry::RegistryReference;

use crate::digest::Digest;
use crate::error::{Error, Kind};
use std::fmt;
use std::str::FromStr;

/// What docker puts before a name without a domain. (It has never been a host's real name.)
const DEFAULT_DOMAIN: &str = "docker.io";
/// An older spelling of [`DEFAULT_DOMAIN`].
const LEGACY_DEFAULT_DOMAIN: &str = "index.docker.io";
/// What docker puts before a name of one component in the default domain.
const OFFICIAL: &str = "library";
const DEFAULT_TAG: &str = "latest";
/// Bytes of a name without its tag.
const NAME_LIMIT: usize = 255;
/// Bytes of a tag.
const TAG_LIMIT: usize = 128;

/// The name of an image with its tag, shown as docker shows it: `debian:latest`.
///
/// `debian`, `library/debian:latest` and `docker.io/library/debian` are one name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageName {
    domain: String,
    path: String,
    tag: String,
}

impl ImageName {
    /// The name as docker shows it, without the tag.
    pub fn repository(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return format!("{}/{}", self.domain, self.path);
        }
        match self.path.strip_prefix("library/") {
            Some(short) if !short.contains('/') => short.to_owned(),
            _ => self.path.clone(),
        }
    }

    /// The tag.
    pub fn tag(&self) -> &str {
        &self.tag
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.repository(), self.tag)
    }
}

impl FromStr for ImageName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (name, tag) = split_tag(text);
        let (domain, path) = split_domain(name);
        let image = Self { domain, path, tag: tag.unwrap_or(DEFAULT_TAG).to_owned() };
        match image.fault(name) {
            None => Ok(image),
            Some(why) => {
                Err(Kind::Syntax { what: "the name of an image", text: text.to_owned(), why }.into())
            }
        }
    }
}

impl ImageName {
    /// What is wrong, if anything; `name` is what the user wrote before the tag.
    fn fault(&self, name: &str) -> Option<&'static str> {
        if name.is_empty() {
            return Some("it is empty");
        }
        if name.contains('@') {
            return Some("a digest cannot be given to an image");
        }
        if Digest::from_hex(name).is_some() {
            return Some("64 hexadecimal digits would be taken for an image ID");
        }
        if self.domain.len() + "/".len() + self.path.len() > NAME_LIMIT {
            return Some("it is longer than 255 characters");
        }
        if !is_domain(&self.domain) {
            return Some("what is before the first `/` is neither a host nor a part of a name");
        }
        if !self.path.split('/').all(is_path_component) {
            return Some(
                "it may have lower-case letters, digits, and between them `.`, `_`, `__`, `-` or `/`",
            );
        }
        if !is_tag(&self.tag) {
            return Some(
                "a tag has 1 to 128 letters, digits, `_`, `.` and `-`, and begins with none of the last two",
            );
        }
        None
    }
}

/// A `:` after the last `/` begins the tag; one before it the port of the domain.
fn split_tag(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (text, None),
    }
}

/// What is before the first `/` is a domain when it looks like a host and not like a name.
fn split_domain(name: &str) -> (String, String) {
    let (domain, path) = match name.split_once('/') {
        Some((host, path)) if looks_like_host(host) => (host, path.to_owned()),
        Some(_) => (DEFAULT_DOMAIN, name.to_owned()),
        None => (DEFAULT_DOMAIN, format!("{OFFICIAL}/{name}")),
    };
    let domain = if domain == LEGACY_DEFAULT_DOMAIN { DEFAULT_DOMAIN } else { domain };
    let official = domain == DEFAULT_DOMAIN && !path.contains('/');
    (domain.to_owned(), if official { format!("{OFFICIAL}/{path}") } else { path })
}

fn looks_like_host(text: &str) -> bool {
    text == "localhost" || text.contains(['.', ':']) || text.contains(|c: char| c.is_ascii_uppercase())
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = domain.split_once(':').map_or((domain, None), |(host, port)| (host, Some(port)));
    host.split('.').all(is_domain_component) && port.is_none_or(is_port)
}

fn is_domain_component(text: &str) -> bool {
    let inner = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    inner && !text.is_empty() && !text.starts_with('-') && !text.ends_with('-')
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_path_component(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let separators: Vec<_> =
        text.split(|c: char| c.is_ascii() && is_word(c as u8)).filter(|s| !s.is_empty()).collect();
    let is_separator = |s: &&str| matches!(*s, "." | "_" | "__") || s.bytes().all(|byte| byte == b'-');
    let bytes = text.as_bytes();
    bytes.first().is_some_and(|&b| is_word(b))
        && bytes.last().is_some_and(|&b| is_word(b))
        && separators.iter().all(is_separator)
}

fn is_tag(tag: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.len() <= TAG_LIMIT
        && tag.bytes().next().is_some_and(is_word)
        && tag.bytes().all(|byte| is_word(byte) || byte == b'.' || byte == b'-')
}

/// Which of an archive's images is meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Choice {
    /// The only one.
    #[default]
    Only,
    /// The one with this name.
    Name(ImageName),
    /// The one at this place in the list, from 0.
    Index(usize),
}

/// Anything after `@` that is not a digest is part of the path, or an index.
fn split_image_id(text: &str) -> (&str, Option<Digest>) {
    match text.rsplit_once('@') {
        Some((place, digest)) => match digest.parse() {
            Ok(digest) => (place, Some(digest)),
            Err(_) => (text, None),
        },
        None => (text, None),
    }
}

/// As skopeo does, takes the first `:` for the end of the path.
fn split_choice(text: &str) -> Result<(&str, Choice), Error> {
    let Some((path, choice)) = text.split_once(':') else {
        return Ok((text, Choice::Only));
    };
    let choice = match choice.strip_prefix('@') {
        Some(index) => Choice::Index(parse_index(index)?),
        None => Choice::Name(choice.parse()?),
    };
    Ok((path, choice))
}

fn parse_index(text: &str) -> Result<usize, Error> {
    let why = "it must be a number from 0";
    text.parse()
        .map_err(|_| Kind::Syntax { what: "the index of an image", text: text.to_owned(), why }.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "sha256:03797fe0d3ee711a82feb579cee47c3ca22eb536b523286fd1bd87b501d979e4";

    #[test]
    fn names_as_docker_shows_them() {
        for (text, shown) in [
            ("debian", "debian:latest"),
            ("debian:bookworm", "debian:bookworm"),
            ("library/debian", "debian:latest"),
            ("docker.io/debian", "debian:latest"),
            ("docker.io/library/debian:1", "debian:1"),
            ("index.docker.io/library/debian:1", "debian:1"),
            ("me/app:1.0-rc_1", "me/app:1.0-rc_1"),
            ("library/a/b", "library/a/b:latest"),
            ("localhost/app", "localhost/app:latest"),
            ("localhost:5000/app:2", "localhost:5000/app:2"),
            ("example.org/a/b.c/d__e/f---g:_", "example.org/a/b.c/d__e/f---g:_"),
            ("HOST/app", "HOST/app:latest"),
            ("app:5000", "app:5000"),
        ] {
            let name = text.parse::<ImageName>().unwrap();
            assert_eq!(name.to_string(), shown, "{text}");
            assert_eq!(name, shown.parse().unwrap(), "{text}");
        }
    }

    #[test]
    fn what_is_no_name() {
        let characters =
            "it may have lower-case letters, digits, and between them `.`, `_`, `__`, `-` or `/`";
        let host = "what is before the first `/` is neither a host nor a part of a name";
        let tag =
            "a tag has 1 to 128 letters, digits, `_`, `.` and `-`, and begins with none of the last two";
        let (long_name, long_tag) = ("a".repeat(239), format!("a:{}", "b".repeat(129)));
        for (text, why) in [
            ("", "it is empty"),
            (":tag", "it is empty"),
            ("Debian", characters),
            ("a//b", characters),
            ("a/", characters),
            ("/a", characters),
            ("a b", characters),
            ("a___b", characters),
            ("a..b", characters),
            ("-a", characters),
            ("a.", characters),
            ("ä", characters),
            ("-x.org/a", host),
            ("x.org:80a/a", host),
            ("a:", tag),
            ("a:.b", tag),
            ("a:b:c", characters),
            (&long_tag, tag),
            (&long_name, "it is longer than 255 characters"),
            (&ID[7..], "64 hexadecimal digits would be taken for an image ID"),
            (&format!("a@{ID}"), "a digest cannot be given to an image"),
        ] {
            let error = text.parse::<ImageName>().unwrap_err();
            assert_eq!(error.to_string(), format!("{text:?} is not the name of an image: {why}"));
        }
    }

    proptest! {
        #[test]
        fn shown_and_parsed_is_the_same(text in "[a-zA-Z0-9:@./_-]{0,40}") {
            if let Ok(name) = text.parse::<ImageName>() {
                prop_assert_eq!(name.to_string().parse::<ImageName>().unwrap(), name);
            }
        }

        #[test]
        fn any_text_is_parsed_or_refused(text: String) {
            let _ = text.parse::<ImageName>();
        }
    }
}
