//! What the system calls itself.

use crate::error::Error;
use crate::packages::Found;
use crate::reader::Reader;
use crate::text;

/// In the order in which they are looked for.
/// <https://www.freedesktop.org/software/systemd/man/latest/os-release.html>
const FILES: [&[u8]; 2] = [b"etc/os-release", b"usr/lib/os-release"];
/// Most bytes of such a file.
const LIMIT: u64 = 64 << 10;

/// A distribution of Linux.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distribution {
    /// `ID`: `debian`; lower-case letters, digits, `.`, `_` and `-`.
    pub id: String,
    /// `VERSION_ID`: `12`.
    pub version: Option<String>,
    /// `PRETTY_NAME`: `Debian GNU/Linux 12 (bookworm)`.
    pub pretty_name: Option<String>,
}

/// The distribution, if the system says one.
pub(crate) fn distribution(reader: &Reader, found: &mut Found) -> Result<Option<Distribution>, Error> {
    let mut distribution = None;
    for path in FILES {
        found.file(reader, path, LIMIT, |_, contents| {
            distribution = parse(contents);
            Ok(())
        })?;
        if distribution.is_some() {
            break;
        }
    }
    Ok(distribution)
}

fn parse(contents: &[u8]) -> Option<Distribution> {
    let value = |name: &str| {
        let lines = contents.split(|byte| *byte == b'\n');
        let mut values = lines.filter_map(|line| line.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
        // As in a shell, the last assignment counts.
        values.next_back().map(unquoted).and_then(|value| text::line(&value))
    };
    let id = value("ID").filter(|id| id.bytes().all(is_id_byte))?;
    Some(Distribution { id, version: value("VERSION_ID"), pretty_name: value("PRETTY_NAME") })
}

fn is_id_byte(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-')
}

/// A value without the shell's quotes, and the backslashes inside.
fn unquoted(value: &[u8]) -> Vec<u8> {
    let value = value.trim_ascii();
    match value {
        [b'\'', inner @ .., b'\''] => inner.to_vec(),
        [b'"', inner @ .., b'"'] => {
            let mut escaped = false;
            let keep = |byte: &u8| {
                escaped = *byte == b'\\' && !escaped;
                !escaped
            };
            inner.iter().copied().filter(keep).collect()
        }
        plain => plain.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_absence() {
        let debian =
            parse(b"PRETTY_NAME=\"Debian \\\"12\\\"\"\n#ID=x\nID=debian\nVERSION_ID='12'\n").unwrap();
        assert_eq!(debian.id, "debian");
        assert_eq!(debian.version.as_deref(), Some("12"));
        assert_eq!(debian.pretty_name.as_deref(), Some("Debian \"12\""));
        assert_eq!(parse(b"ID=arch\nID=\"\"\n"), None);
        assert_eq!(parse(b"VERSION_ID=1"), None);
        assert_eq!(parse(b"ID=De/bian"), None);
        assert_eq!(parse(b"ID=\"").map(|distribution| distribution.id), None);
    }
}
