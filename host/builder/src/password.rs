//! Passwords of root and other users: from where it is kept to what `/etc/shadow` has of it. It is in no message and no log.

use crate::{Error, build_file::RootPassword, error::Kind};
use kiln_image::{
    digest::Digest,
    password::{DEFAULT_ROUNDS, HashedPassword, MAX_PASSWORD, MAX_SALT},
};
use std::{
    env,
    fs::File,
    io::{self, Read},
    path::Path,
};

/// What makes the hashes of one password differ from image to image, and not from build to build.
pub(crate) struct Salt(String);

impl Salt {
    /// The salt of an image with these layers.
    pub fn of<'a>(diff_ids: impl Iterator<Item = &'a Digest>) -> Self {
        let text: Vec<String> = diff_ids.map(ToString::to_string).collect();
        let mut hex = Digest::of(format!("root-password\n{}", text.join("\n")).as_bytes()).hex();
        hex.truncate(MAX_SALT);
        Self(hex)
    }

    /// Another one for each user, so that equal passwords do not show.
    pub fn of_user(&self, name: &str) -> Self {
        let mut hex = Digest::of(format!("user\n{}\n{name}", self.0).as_bytes()).hex();
        hex.truncate(MAX_SALT);
        Self(hex)
    }
}

/// The password as `/etc/shadow` has it; `whose` it is, is for messages.
pub(crate) fn hashed(password: &RootPassword, salt: &Salt, whose: &str) -> Result<HashedPassword, Error> {
    let of_plain = |plain: &[u8]| HashedPassword::sha_512(plain, &salt.0, DEFAULT_ROUNDS);
    let hashed = match password {
        RootPassword::Hash(hash) => HashedPassword::from_crypt(hash),
        RootPassword::Env(name) => {
            let missing =
                || Kind::Request(format!("the variable {name}, which has {whose}'s password, is not set"));
            of_plain(env::var_os(name).ok_or_else(missing)?.as_encoded_bytes())
        }
        RootPassword::File(path) => {
            let line = first_line(path);
            of_plain(&line.map_err(|source| Kind::Read { path: path.clone(), source })?)
        }
    };
    let what = format!("cannot use {whose}'s password");
    Ok(hashed.map_err(|source| Kind::Image { what, source })?)
}

/// Up to one byte more than a password may have, so that more is noticed.
fn first_line(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_PASSWORD as u64 + 2).read_to_end(&mut bytes)?;
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    bytes.truncate(end);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_passwords_do_not_show() {
        let salt = Salt::of(std::iter::empty());
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "secret\n").unwrap();
        let password = RootPassword::File(file.path().to_owned());
        let of = |name: &str| format!("{:?}", salt.of_user(name).0);
        assert_eq!(of("ann"), of("ann"));
        assert_ne!(of("ann"), of("bob"));
        assert!(hashed(&password, &salt.of_user("ann"), "ann").is_ok());
        let missing = RootPassword::Env("KILN_TEST_NO_SUCH_VARIABLE".to_owned());
        let error = hashed(&missing, &salt, "ann").unwrap_err().to_string();
        assert!(error.contains("has ann's password, is not set"), "{error}");
    }
}
