//! root's password: from where it is kept to what `/etc/shadow` has of it. It is in no message and no log.

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
}

/// The password as `/etc/shadow` has it.
pub(crate) fn hashed(password: &RootPassword, salt: &Salt) -> Result<HashedPassword, Error> {
    let of_plain = |plain: &[u8]| HashedPassword::sha_512(plain, &salt.0, DEFAULT_ROUNDS);
    let hashed = match password {
        RootPassword::Hash(hash) => HashedPassword::from_crypt(hash),
        RootPassword::Env(name) => {
            let missing =
                || Kind::Request(format!("the variable {name}, which has root's password, is not set"));
            of_plain(env::var_os(name).ok_or_else(missing)?.as_encoded_bytes())
        }
        RootPassword::File(path) => {
            let line = first_line(path);
            of_plain(&line.map_err(|source| Kind::Read { path: path.clone(), source })?)
        }
    };
    let what = "cannot use root's password".to_owned();
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
