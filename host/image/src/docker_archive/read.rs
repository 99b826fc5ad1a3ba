//! One pass over an archive, then its verification.

use super::choose::Which;
use super::members::{DOCUMENT_LIMIT, Members};
use super::{Archive, LayerRef, LayerSink, MANIFEST, REPOSITORIES, legacy, manifest};
use crate::compress::{Decompressor, Format};
use crate::copy::copy;
use crate::digest::{Digest, HashingWriter};
use crate::entry;
use crate::error::{Error, Kind};
use crate::reference::Choice;
use crate::tar::{self, ArchiveEntry};
use std::io::{self, BufReader, Read, Write};

/// Bytes read at once.
const BUFFER: usize = 128 << 10;
/// Bytes of a member that tell what it is: one tar header.
const HEAD: usize = 512;
/// Where a tar header since POSIX.1-1988 has its magic.
const TAR_MAGIC: (usize, &[u8]) = (257, b"ustar");
/// Only an OCI archive has it; `docker save` since 25 writes both formats at once.
const OCI_LAYOUT: &str = "oci-layout";

/// Reads an archive, compressed or not, to its end, and verifies the image chosen.
///
/// Needs memory for the documents only: layers go to `sink` as they come. The image's ID is compared
/// with `image_id` when one is given.
///
/// # Errors
/// - [truncated](Error::is_truncated): it ends early;
/// - [corrupt](Error::is_corrupt): it is no `docker-archive`, or not a whole one;
/// - [digest mismatch](Error::is_digest_mismatch): configuration, layer or image have another digest
///   than the archive, the configuration or the caller says;
/// - [choice](Error::is_choice): it holds no image, another, or several and none was chosen;
/// - [unsupported](Error::is_unsupported): compressed in an unusual way, or another known format;
/// - [io](Error::is_io): `stream` or `sink` failed.
pub fn read<R: Read, S: LayerSink>(
    stream: R,
    choice: &Choice,
    image_id: Option<&Digest>,
    sink: &mut S,
) -> Result<Archive, Error> {
    let members = scan(stream, sink)?;
    let archive = assemble(&members, Which::One(choice))?.pop().expect("the one that was chosen");
    if let Some(expected) = image_id {
        manifest::verify(|| "the image".to_owned(), *expected, archive.image_id)?;
    }
    Ok(archive)
}

/// Reads an archive as [`read`] does, and verifies all its images.
///
/// # Errors
/// As [`read`]'s.
pub fn read_all<R: Read, S: LayerSink>(stream: R, sink: &mut S) -> Result<Vec<Archive>, Error> {
    assemble(&scan(stream, sink)?, Which::All)
}

fn assemble(members: &Members, which: Which) -> Result<Vec<Archive>, Error> {
    if let Some(document) = members.document(MANIFEST) {
        return manifest::assemble(document, members, which);
    }
    if let Some(archives) = legacy::assemble(members, which)? {
        return Ok(archives);
    }
    if members.document(OCI_LAYOUT).is_some() {
        let message = "this is an OCI archive without the `manifest.json` of a docker-archive";
        return Err(Kind::Unsupported(message.to_owned()).into());
    }
    let why = "neither `manifest.json` nor `repositories` and `*/layer.tar` are in it";
    Err(Kind::corrupt("docker-archive", why).into())
}

/// Takes up all members.
fn scan<R: Read, S: LayerSink>(stream: R, sink: &mut S) -> Result<Members, Error> {
    let input = BufReader::with_capacity(BUFFER, Decompressor::new(stream)?);
    let mut reader = tar::Reader::new(input);
    let mut members = Members::default();
    while let Some(ArchiveEntry { entry, location }) = reader.next_entry()? {
        // Documents cannot name what is not UTF-8.
        let Ok(name) = String::from_utf8(entry.path) else { continue };
        match entry.kind {
            entry::Kind::File { size } if location.sparse.is_none() => {
                file(&mut reader, name, size, &mut members, sink)?;
            }
            entry::Kind::Symlink { target } => {
                members.insert_symlink(name, &String::from_utf8_lossy(&target))?;
            }
            entry::Kind::HardLink { target } => {
                members.insert_hard_link(name, String::from_utf8_lossy(&target).into_owned())?;
            }
            _ => {}
        }
    }
    if !reader.has_end_marker() {
        return Err(Kind::Truncated { what: "docker-archive".to_owned(), offset: reader.position() }.into());
    }
    Ok(members)
}

/// What a member is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Document,
    Layer,
    Other,
}

fn file<S: LayerSink>(
    data: &mut impl Read,
    name: String,
    size: u64,
    members: &mut Members,
    sink: &mut S,
) -> Result<(), Error> {
    let mut head = Vec::with_capacity(HEAD);
    data.take(HEAD as u64).read_to_end(&mut head).map_err(reading)?;
    match role(&name, size, &head) {
        Role::Other => Ok(()),
        Role::Document => {
            let document = document(head, data, &name, size)?;
            members.insert_document(name, document)
        }
        Role::Layer => {
            let layer = layer(head.chain(data), &name, sink)?;
            members.insert_layer(name, layer)
        }
    }
}

/// Guesses, as the manifest may come last. A wrong guess is found when the manifest names the member.
fn role(name: &str, size: u64, head: &[u8]) -> Role {
    let base = name.rsplit('/').next().unwrap_or_default();
    if base == "json" || base.ends_with(".json") || name == REPOSITORIES {
        return Role::Document;
    }
    if base.ends_with(".tar") || is_tar(head) || Format::detect(head) != Some(Format::None) {
        return Role::Layer;
    }
    if matches!(head.first(), Some(b'{' | b'[')) && size <= DOCUMENT_LIMIT {
        return Role::Document;
    }
    Role::Other
}

/// True also for an empty tar, which begins with its end marker.
fn is_tar(head: &[u8]) -> bool {
    let (offset, magic) = TAR_MAGIC;
    let empty = head.len() == HEAD && head.iter().all(|&byte| byte == 0);
    empty || head.get(offset..).is_some_and(|rest| rest.starts_with(magic))
}

fn document(head: Vec<u8>, data: &mut impl Read, name: &str, size: u64) -> Result<Vec<u8>, Error> {
    if size > DOCUMENT_LIMIT {
        let why = format!("it has {size} bytes, more than the {DOCUMENT_LIMIT} allowed");
        return Err(Kind::corrupt(format!("member {name:?}"), why).into());
    }
    let mut document = head;
    data.read_to_end(&mut document).map_err(reading)?;
    Ok(document)
}

/// Gives a layer's tar to the sink, and its digest and size to the caller.
fn layer<S: LayerSink>(data: impl Read, name: &str, sink: &mut S) -> Result<LayerRef, Error> {
    let storing = |source| Kind::Io { doing: format!("store layer {name:?}"), source };
    let mut tar = Decompressor::named(data, format!("layer {name:?}"))?;
    let mut writer = HashingWriter::new(sink.begin(name).map_err(storing)?);
    copy(&mut tar, doing, |bytes| writer.write_all(bytes).map_err(|error| storing(error).into()))?;
    let (writer, hashed) = writer.finish();
    let layer = LayerRef { diff_id: hashed.digest, size: hashed.size };
    sink.end(writer, layer).map_err(storing)?;
    Ok(layer)
}

fn reading(error: io::Error) -> Error {
    Error::from_io(error, doing)
}

fn doing() -> String {
    "read the archive".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_by_name_and_beginning() {
        let mut tar = vec![b'x'; HEAD];
        tar[257..262].copy_from_slice(b"ustar");
        for (name, size, head, expected) in [
            ("manifest.json", 2, &b"[]"[..], Role::Document),
            ("a/json", DOCUMENT_LIMIT + 1, b"?", Role::Document),
            ("repositories", 2, b"{}", Role::Document),
            ("oci-layout", 9, b"{", Role::Document),
            ("blobs/sha256/00", 9, b"{", Role::Document),
            ("blobs/sha256/00", DOCUMENT_LIMIT + 1, b"{", Role::Other),
            ("blobs/sha256/00", 9, &tar, Role::Layer),
            ("blobs/sha256/00", 9, b"\x1f\x8b\x08\0", Role::Layer),
            ("blobs/sha256/00", 9, b"\xfd7zXZ\0", Role::Layer),
            ("blobs/sha256/00", 1024, &[0; HEAD], Role::Layer),
            ("a.tar", 0, b"", Role::Layer),
            ("a/VERSION", 3, b"1.0", Role::Other),
            ("bin/sh", 9, b"\x7fELF", Role::Other),
        ] {
            assert_eq!(role(name, size, head), expected, "{name} {head:?}");
        }
    }
}
