//! root's password: from where it is kept to what `/etc/shadow` has of it. It is in no message and no log.

use crate::files::Files;
use anyhow::{Context, Result, bail};
use kiln_image::{
    digest::Digest,
    entry::Metadata,
    password::{DEFAULT_ROUNDS, HashedPassword, MAX_PASSWORD, MAX_SALT, set_in_passwd, set_in_shadow},
    tree::{Content, Node, NodeId},
};
use std::{
    env,
    fs::File,
    io::{self, Read},
};

/// Largest `passwd` or `shadow` that is changed, in bytes.
const MAX_SIZE: u64 = 16 << 20;

/// The first line of a file, of standard input (`-`) or of a variable (`env:NAME`).
pub fn read(source: &str) -> Result<Vec<u8>> {
    let mut bytes = match source.strip_prefix("env:") {
        Some(name) => {
            let value = env::var_os(name);
            value.with_context(|| format!("the variable {name} is not set"))?.into_encoded_bytes()
        }
        None if source == "-" => beginning(io::stdin().lock()).context("cannot read standard input")?,
        None => File::open(source).and_then(beginning).with_context(|| format!("cannot read {source}"))?,
    };
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    bytes.truncate(end);
    Ok(bytes)
}

/// Up to one byte more than a password may have, so that more is noticed.
fn beginning(from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(MAX_PASSWORD as u64 + 2).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Sets it in `/etc/shadow`, which is made where it is missing, and says so in `/etc/passwd`. The salt follows from the
/// layers, so that one password differs from image to image and not from time to time.
pub fn set(files: &mut Files, password: &[u8], layers: impl Iterator<Item = Digest>) -> Result<()> {
    let what = "cannot set root's password";
    let text: Vec<String> = layers.map(|digest| digest.to_string()).collect();
    let mut salt = Digest::of(format!("root-password\n{}", text.join("\n")).as_bytes()).hex();
    salt.truncate(MAX_SALT);
    let hashed = HashedPassword::sha_512(password, &salt, DEFAULT_ROUNDS).context(what)?;
    let Some(etc) = files.tree.lookup(b"etc").filter(|id| files.tree.is_directory(*id)) else {
        bail!("{what}: the image has no directory /etc");
    };
    let shadow = text_of(files, etc, b"shadow")?.unwrap_or_default();
    replace(files, etc, b"shadow", set_in_shadow(&shadow, &hashed));
    if let Some(passwd) = text_of(files, etc, b"passwd")? {
        replace(files, etc, b"passwd", set_in_passwd(&passwd));
    }
    Ok(())
}

fn text_of(files: &Files, etc: NodeId, name: &[u8]) -> Result<Option<Vec<u8>>> {
    let Some(id) = files.tree.child(etc, name) else { return Ok(None) };
    let shown = String::from_utf8_lossy(name);
    let (size, extents) = match &files.tree.node(id).content {
        Content::File { size, extents } if *size <= MAX_SIZE => (*size, extents),
        _ => bail!("cannot set root's password: /etc/{shown} is no file, or too large"),
    };
    let mut bytes = vec![0; usize::try_from(size)?];
    let read = files.pieces(extents, &mut |offset, piece| {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        bytes[start..start + piece.len()].copy_from_slice(piece);
        Ok(())
    });
    read.with_context(|| format!("cannot read /etc/{shown}"))?;
    Ok(Some(bytes))
}

/// A new node: other names of the file keep the old one.
fn replace(files: &mut Files, etc: NodeId, name: &[u8], bytes: Vec<u8>) {
    let metadata = match files.tree.child(etc, name) {
        Some(id) => files.tree.node(id).metadata.clone(),
        None => Metadata { mode: 0o600, ..Metadata::default() },
    };
    let content = files.add(bytes);
    let id = files.tree.insert(Node { metadata, content });
    if let Some(children) = files.tree.children_mut(etc) {
        children.insert(name.to_vec(), id);
    }
}
