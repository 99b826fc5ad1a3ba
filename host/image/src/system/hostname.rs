//! The system's name: `/etc/hostname`, and `/etc/hosts` as Debian's installer writes it.

use crate::Error;
use crate::error::Kind;

/// Longest name of a Linux system in bytes ([uname(2)](https://man7.org/linux/man-pages/man2/uname.2.html)).
const MAX_NAME: usize = 64;

/// Longest label in bytes ([RFC 1123](https://www.rfc-editor.org/rfc/rfc1123#section-2.1)).
const MAX_LABEL: usize = 63;

/// The address by which a system without a fixed one knows itself.
const OWN_ADDRESS: &[u8] = b"127.0.1.1";
const LOOPBACK: &[u8] = b"127.0.0.1";

/// Of a system that has no `/etc/hosts`.
const DEFAULT_HOSTS: &[u8] = b"127.0.0.1\tlocalhost\n
# The following lines are desirable for IPv6 capable hosts
::1     localhost ip6-localhost ip6-loopback
ff02::1 ip6-allnodes
ff02::2 ip6-allrouters
";

/// A name that a system can have, with its domain or without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hostname(String);

impl Hostname {
    /// Takes labels of letters, digits and hyphens with dots between.
    ///
    /// # Errors
    /// When it is empty, longer than 64 bytes, or a label is empty, longer than 63, or begins or ends with a hyphen.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let wrong = |why| Err(Kind::Syntax { what: "a hostname", text: text.to_owned(), why }.into());
        if text.is_empty() || text.len() > MAX_NAME {
            return wrong("it must have 1 to 64 letters");
        }
        if text.split('.').any(|label| label.is_empty() || label.len() > MAX_LABEL) {
            return wrong("between dots must be 1 to 63 letters");
        }
        if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.')) {
            return wrong("it must be of letters, digits, `-` and `.`");
        }
        if text.split('.').any(|label| label.starts_with('-') || label.ends_with('-')) {
            return wrong("no part of it may begin or end with `-`");
        }
        Ok(Self(text.to_owned()))
    }

    /// The text of `/etc/hostname`.
    pub fn hostname_file(&self) -> Vec<u8> {
        format!("{}\n", self.0).into_bytes()
    }

    /// The text of `/etc/hosts`, given the one that is there, or none: its line of 127.0.1.1 is this name's.
    pub fn hosts(&self, hosts: &[u8]) -> Vec<u8> {
        let hosts = if hosts.is_empty() { DEFAULT_HOSTS } else { hosts };
        let lines: Vec<&[u8]> = hosts.split_inclusive(|byte| *byte == b'\n').collect();
        let place = place(&lines);
        let mut text = Vec::with_capacity(hosts.len() + 2 * MAX_NAME);
        for (index, line) in lines.iter().enumerate() {
            if index == place {
                text.extend(self.line());
            }
            if address(line) != OWN_ADDRESS {
                text.extend_from_slice(line);
                end_line(&mut text);
            }
        }
        if place == lines.len() {
            text.extend(self.line());
        }
        text
    }

    fn line(&self) -> Vec<u8> {
        let short = self.0.split('.').next().unwrap_or_default();
        let alias = if short == self.0 { String::new() } else { format!("\t{short}") };
        format!("127.0.1.1\t{}{alias}\n", self.0).into_bytes()
    }
}

/// Before which line the name goes: that of the same address, else the one after the loopback's, else the first.
fn place(lines: &[&[u8]]) -> usize {
    let own = lines.iter().position(|line| address(line) == OWN_ADDRESS);
    own.unwrap_or_else(|| {
        lines.iter().rposition(|line| address(line) == LOOPBACK).map_or(0, |index| index + 1)
    })
}

fn address(line: &[u8]) -> &[u8] {
    line.split(u8::is_ascii_whitespace).find(|word| !word.is_empty()).unwrap_or_default()
}

fn end_line(text: &mut Vec<u8>) {
    if text.last().is_some_and(|byte| *byte != b'\n') {
        text.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_rfc_1123() {
        for name in ["a", "web-1", "3com", "a.example.org", "A1", &"x".repeat(63)] {
            assert_eq!(Hostname::parse(name).unwrap().hostname_file(), format!("{name}\n").into_bytes());
        }
        for (name, why) in [
            ("", "it must have 1 to 64 letters"),
            (&*"a.".repeat(33), "it must have 1 to 64 letters"),
            (&*"x".repeat(64), "between dots must be 1 to 63 letters"),
            ("a..b", "between dots must be 1 to 63 letters"),
            ("a.", "between dots must be 1 to 63 letters"),
            ("a_b", "it must be of letters, digits, `-` and `.`"),
            ("a\nb", "it must be of letters, digits, `-` and `.`"),
            ("-a", "no part of it may begin or end with `-`"),
            ("a-.b", "no part of it may begin or end with `-`"),
        ] {
            let error = Hostname::parse(name).unwrap_err().to_string();
            assert_eq!(error, format!("{name:?} is not a hostname: {why}"));
        }
    }

    #[test]
    fn only_the_own_line_of_hosts_changes() {
        let default = String::from_utf8(DEFAULT_HOSTS.to_vec()).unwrap();
        let with = |line: &str| default.replacen("localhost\n", &format!("localhost\n{line}"), 1);
        for (name, before, after) in [
            ("web", "", with("127.0.1.1\tweb\n").as_str()),
            ("a.example.org", "", with("127.0.1.1\ta.example.org\ta\n").as_str()),
            ("web", "127.0.0.1 localhost", "127.0.0.1 localhost\n127.0.1.1\tweb\n"),
            ("web", "# mine\n::1 x\n", "127.0.1.1\tweb\n# mine\n::1 x\n"),
            ("web", "127.0.0.1 l\n127.0.1.1 old\n\n127.0.1.1 older", "127.0.0.1 l\n127.0.1.1\tweb\n\n"),
            ("web", "127.0.1.10 other\n", "127.0.1.1\tweb\n127.0.1.10 other\n"),
        ] {
            let hosts = Hostname::parse(name).unwrap().hosts(before.as_bytes());
            assert_eq!(String::from_utf8(hosts).unwrap(), after, "{before:?}");
        }
    }
}
