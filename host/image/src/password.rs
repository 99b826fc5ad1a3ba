//! Root's password: hashed as crypt(5) writes it, and put into the text of `/etc/shadow`.
//!
//! Salt and rounds come from the caller, so that one password and salt have one result. No type here
//! shows a password or its hash when it is formatted for a log.

use crate::Error;
use crate::error::Kind;
use std::fmt;

/// Longest password in bytes, as PAM's
/// [`PAM_MAX_RESP_SIZE`](https://man7.org/linux/man-pages/man3/pam_conv.3.html): the time for a hash
/// grows with it.
pub const MAX_PASSWORD: usize = 512;

/// Longest salt in bytes ([specification](https://www.akkadia.org/drepper/SHA-crypt.txt)).
pub const MAX_SALT: usize = 16;

/// What crypt(5) takes where nothing is said.
pub const DEFAULT_ROUNDS: u32 = 5000;

/// Longest hash of any method, in bytes: `CRYPT_OUTPUT_SIZE` of libxcrypt.
const MAX_HASH: usize = 384;

/// The alphabet of crypt(5), the digit of value zero first.
const DIGITS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A hashed password as it stands in `/etc/shadow`.
#[derive(Clone, PartialEq, Eq)]
pub struct HashedPassword(String);

impl fmt::Debug for HashedPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashedPassword(..)")
    }
}

impl HashedPassword {
    /// Hashes with SHA-512 (`$6$`).
    ///
    /// # Errors
    /// When the password is empty, too long or has a NUL byte, the salt is not one to sixteen of
    /// `./0-9A-Za-z`, or there are less than 1,000 or more than 999,999,999 rounds.
    pub fn sha_512(password: &[u8], salt: &str, rounds: u32) -> Result<Self, Error> {
        if password.is_empty() || password.len() > MAX_PASSWORD || password.contains(&0) {
            return Err(refused("the password is empty, too long or has a NUL byte"));
        }
        if salt.is_empty() || salt.len() > MAX_SALT || !salt.bytes().all(|byte| DIGITS.contains(&byte)) {
            return Err(refused("the salt is not 1 to 16 of ./0-9A-Za-z"));
        }
        let params = sha_crypt::Params::new(rounds);
        let params = params.map_err(|_| refused("the rounds are not between 1000 and 999999999"))?;
        let hash = encode(&sha_crypt::sha512_crypt(password, salt.as_bytes(), params));
        let rounds = if rounds == DEFAULT_ROUNDS { String::new() } else { format!("rounds={rounds}$") };
        Ok(Self(format!("$6${rounds}{salt}${hash}")))
    }

    /// A hash that was made elsewhere, by whatever method crypt(5) knows, or `!`, `*` and the like for
    /// none.
    ///
    /// # Errors
    /// When it is empty, which would let in anybody, too long, or has what would end the field.
    pub fn from_crypt(text: &str) -> Result<Self, Error> {
        let is_printable = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
        if text.is_empty() || text.len() > MAX_HASH || !is_printable {
            return Err(refused("the hash is empty, too long or has a character that crypt(5) does not"));
        }
        Ok(Self(text.to_owned()))
    }

    /// As it stands in `/etc/shadow`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Without the text: it may be the password.
fn refused(why: &str) -> Error {
    Kind::Choice(format!("cannot set root's password: {why}")).into()
}

/// Three bytes at a time to four digits, the lowest bits first, in an order that mixes the thirds.
fn encode(hash: &[u8; 64]) -> String {
    let mut text = String::with_capacity(86);
    let (mut first, mut second, mut third) = (0, 21, 42);
    for _ in 0..21 {
        push_digits(&mut text, [hash[first], hash[second], hash[third]], 4);
        (first, second, third) = (second + 1, third + 1, first + 1);
    }
    push_digits(&mut text, [0, 0, hash[63]], 2);
    text
}

fn push_digits(text: &mut String, [high, middle, low]: [u8; 3], count: u32) {
    let bits = u32::from_be_bytes([0, high, middle, low]);
    for digit in 0..count {
        let value = (bits >> (6 * digit)) & 0x3f;
        text.push(char::from(DIGITS[usize::try_from(value).expect("six bits")]));
    }
}

/// The text of `/etc/shadow` with root's password: its line's second field, and if there is no line,
/// one more at the start. Everything else stays as it is, byte for byte.
pub fn set_in_shadow(shadow: &[u8], password: &HashedPassword) -> Vec<u8> {
    let password = password.as_str().as_bytes();
    set_field(shadow, password).unwrap_or_else(|| [b"root:", password, b":::::::\n", shadow].concat())
}

/// The text of `/etc/passwd` in which root's password is in `/etc/shadow`; as it was, if root has no
/// line.
pub fn set_in_passwd(passwd: &[u8]) -> Vec<u8> {
    set_field(passwd, b"x").unwrap_or_else(|| passwd.to_vec())
}

/// Replaces the second field of root's lines: the first one counts, but a later one that stays as it
/// was would be a password too that somebody might take for in force.
fn set_field(text: &[u8], value: &[u8]) -> Option<Vec<u8>> {
    let mut found = false;
    let lines = text.split_inclusive(|byte| *byte == b'\n').map(|line| {
        let Some(rest) = line.strip_prefix(b"root:") else { return line.to_vec() };
        found = true;
        let end = rest.iter().position(|byte| matches!(byte, b':' | b'\n')).unwrap_or(rest.len());
        [b"root:", value, &rest[end..]].concat()
    });
    let text = lines.collect::<Vec<_>>().concat();
    found.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the specification, and one of `openssl passwd -6`.
    #[test]
    fn hashes_are_those_of_the_specification() {
        for (password, salt, rounds, hash) in [
            (
                "Hello world!",
                "saltstring",
                5000,
                "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
            ),
            (
                "Hello world!",
                "saltstringsaltst",
                10_000,
                "$6$rounds=10000$saltstringsaltst$OW1/O6BYHV6BcXZu8QVeXbDWra3Oeqh0sbHbbMCVNSnCM/UrjmM0Dp8vOuZeHBy/YTBmSK6H9qs/y3RnOaw5v.",
            ),
        ] {
            let hashed = HashedPassword::sha_512(password.as_bytes(), salt, rounds).unwrap();
            assert_eq!(hashed.as_str(), hash);
            assert_eq!(format!("{hashed:?}"), "HashedPassword(..)");
        }
    }

    #[test]
    fn what_cannot_be_hashed_is_refused_without_showing_it() {
        let long = "p".repeat(MAX_PASSWORD + 1);
        const PASSWORD: &str = "the password is empty, too long or has a NUL byte";
        const SALT: &str = "the salt is not 1 to 16 of ./0-9A-Za-z";
        const ROUNDS: &str = "the rounds are not between 1000 and 999999999";
        for (password, salt, rounds, why) in [
            ("", "s", 5000, PASSWORD),
            (&long, "s", 5000, PASSWORD),
            ("a\0b", "s", 5000, PASSWORD),
            ("p", "", 5000, SALT),
            ("p", "seventeen_letters", 5000, SALT),
            ("p", "a$b", 5000, SALT),
            ("p", "a:b", 5000, SALT),
            ("p", "s", 999, ROUNDS),
            ("p", "s", 1_000_000_000, ROUNDS),
        ] {
            let error = HashedPassword::sha_512(password.as_bytes(), salt, rounds).unwrap_err();
            assert_eq!(error.to_string(), format!("cannot set root's password: {why}"));
        }
        for hash in ["", "a:b", "a\nb", "a b", "\u{e9}", &"x".repeat(MAX_HASH + 1)] {
            assert!(HashedPassword::from_crypt(hash).is_err(), "{hash:?}");
        }
    }

    #[test]
    fn only_the_field_changes() {
        let password = HashedPassword::from_crypt("$6$s$h").unwrap();
        for (shadow, expected) in [
            ("", "root:$6$s$h:::::::\n"),
            ("root:!x:::::::\n", "root:$6$s$h:::::::\n"),
            (
                "a:b:1::\nroot:*:19000:0:99999:7:::\nz:!::\n",
                "a:b:1::\nroot:$6$s$h:19000:0:99999:7:::\nz:!::\n",
            ),
            ("root:*:1", "root:$6$s$h:1"),
            ("root:", "root:$6$s$h"),
            ("root:\nb:*:\n", "root:$6$s$h\nb:*:\n"),
            ("rootless:*:\n", "root:$6$s$h:::::::\nrootless:*:\n"),
            ("root:a:\nroot:b:\n", "root:$6$s$h:\nroot:$6$s$h:\n"),
            ("\r\n#x\nroot::\n\n", "\r\n#x\nroot:$6$s$h:\n\n"),
        ] {
            let edited = set_in_shadow(shadow.as_bytes(), &password);
            assert_eq!(String::from_utf8(edited).unwrap(), expected, "{shadow:?}");
        }
        let passwd = b"root::0:0::/root:/bin/sh\n";
        assert_eq!(set_in_passwd(passwd), b"root:x:0:0::/root:/bin/sh\n");
        assert_eq!(set_in_passwd(b"user:y:1:1:::\n"), b"user:y:1:1:::\n");
    }
}
