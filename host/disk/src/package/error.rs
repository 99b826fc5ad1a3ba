//! Why a package cannot be made.

use kiln_image::digest::Digest;
use std::io;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Problem {
    #[error("{what} {text:?} has {character:?}, which cannot be in it")]
    Character { what: &'static str, text: String, character: char },
    #[error("{what} {text:?} has {length} bytes: it must have 1 to {max}")]
    Length { what: &'static str, text: String, length: usize, max: usize },
    #[error("{0:?} is no adapter of a disk: it is one of lsilogic, buslogic, lsisas1068, pvscsi, ide, ahci")]
    Adapter(String),
    #[error("{0:?} is no network card: it is one of e1000, e1000e, vmxnet3, pcnet32")]
    NetworkCard(String),
    #[error("{0:?} is no firmware: it is bios or efi")]
    Firmware(String),
    #[error("a machine with {0} processors: it must have 1 to 1024")]
    Processors(u32),
    #[error("a machine with {0} bytes of memory: it must have whole MiB, 1 to 64 TiB of them")]
    Memory(u64),
    #[error("virtual hardware version {0}: VMware's are 4 to 99")]
    HardwareVersion(u32),
    #[error("an empty disk")]
    EmptyDisk,
    #[error("a disk of {0} bytes, more than chunks can be numbered for")]
    Chunks(u64),
    #[error("two members of the archive are called {0:?}")]
    SameMember(String),
    #[error("cannot read {name} at byte {offset}")]
    Read { name: String, offset: u64, source: io::Error },
    #[error("{name} changed while it was packed: its digest was {expected}, and is {got}")]
    Changed { name: String, expected: Digest, got: Digest },
    #[error("cannot write {0}")]
    Write(String, #[source] io::Error),
    #[error("cannot keep {0} aside while its length is found out")]
    Spill(String, #[source] io::Error),
    #[error("cannot write {0}")]
    Tar(String, #[source] kiln_image::Error),
}
