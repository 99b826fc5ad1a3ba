//! XVA: what XenServer imports, in its form of old.
//!
//! A tar with `ova.xml`, which says what machine it is, and the disk cut into chunks of exactly 10^9 bytes, the last one shorter:
//! `xvda/chunk-000000000.gz` and so on, each compressed by itself. "Legacy VM import format" in
//! <https://xapi-project.github.io/xen-api/vm-import-export>; XAPI still takes it.
//!
//! A tar's header has the length of what follows, and that of a chunk is known only when it is compressed. So each
//! is kept aside first, in what the caller gives for it: at most about 10^9 bytes at a time.

use super::copy::{Named, Sink};
use super::error::Problem;
use super::gzip::SparseGzip;
use super::machine::{self, Machine};
use super::tar::Tar;
use super::xml::Xml;
use crate::Error;
use crate::sparse::Source;
use kiln_image::compress::Compression;
use std::io::{Read, Seek, SeekFrom, Write};
use std::num::NonZeroUsize;
use std::ops::Range;

/// Bytes of the disk in each chunk but the last.
pub const CHUNK_BYTES: u64 = 1_000_000_000;
/// Chunks are numbered with nine digits.
const MAX_CHUNKS: u64 = 1_000_000_000;
/// What the disk is in the machine, and the directory of its chunks.
const DEVICE: &str = "xvda";
/// Bytes of a kernel's command line, as Linux has it.
const MAX_COMMAND_LINE: usize = 2048;
/// Bytes that are moved at a time.
const BUFFER_BYTES: usize = 1 << 16;

/// A machine and its disk.
pub struct Xva<'a> {
    /// The machine. Of its hardware, XenServer takes processors and memory.
    pub machine: &'a Machine,
    /// How it boots.
    pub boot: XvaBoot<'a>,
    /// Its disk, raw.
    pub disk: &'a dyn Source,
    /// How chunks are compressed: gzip of some level.
    pub level: u8,
    /// How many threads compress, which changes no byte.
    pub threads: NonZeroUsize,
    /// Seconds since the Unix epoch, of every member.
    pub mtime: i64,
}

/// How a machine of Xen boots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XvaBoot<'a> {
    /// As a PC, from the boot loader on its disk.
    Hvm,
    /// By pygrub, which reads the kernel from the disk; with this at the end of the kernel's command line.
    Paravirtual(&'a str),
}

impl Xva<'_> {
    /// Writes it as a stream. `spill` keeps a compressed chunk while its length is found out: an empty file, or memory; what it
    /// has afterwards is of no use.
    ///
    /// # Errors
    /// When the machine cannot be, the disk is empty or cannot be read, or `out` or `spill` cannot be written.
    pub fn write<S: Read + Write + Seek>(&self, spill: &mut S, out: &mut dyn Write) -> Result<(), Error> {
        self.check()?;
        let compression =
            Compression::gzip(self.level).map_err(|error| Problem::Tar(DEVICE.to_owned(), error))?;
        let mut tar = Tar::new(out, self.mtime);
        tar.bytes("ova.xml", self.descriptor().as_bytes())?;
        for (number, range) in chunks(self.disk.len()).enumerate() {
            let name = format!("{DEVICE}/chunk-{number:09}.gz");
            let chunk = Named { name: &name, source: self.disk };
            let length = self.compress(&chunk, range, compression, spill)?;
            tar.member(&name, length, |out| unspill(&name, spill, length, out))?;
        }
        tar.finish().map(drop)
    }

    fn check(&self) -> Result<(), Error> {
        self.machine.check()?;
        if let XvaBoot::Paravirtual(command_line) = self.boot {
            let what = "the kernel's command line";
            machine::text(what, command_line, 0..=MAX_COMMAND_LINE, |character| !character.is_control())?;
        }
        match self.disk.len() {
            0 => Err(Problem::EmptyDisk.into()),
            length if length.div_ceil(CHUNK_BYTES) > MAX_CHUNKS => Err(Problem::Chunks(length).into()),
            _ => Ok(()),
        }
    }

    fn compress<S: Write + Seek>(
        &self,
        chunk: &Named<'_>,
        range: Range<u64>,
        compression: Compression,
        spill: &mut S,
    ) -> Result<u64, Error> {
        let failed = |error| Problem::Spill(chunk.name.to_owned(), error);
        spill.seek(SeekFrom::Start(0)).map_err(failed)?;
        let mut gzip = SparseGzip::new(compression, self.threads, spill);
        chunk.copy_range(range, &mut gzip)?;
        let spill = gzip.finish().map_err(failed)?;
        Ok(spill.stream_position().map_err(failed)?)
    }

    fn descriptor(&self) -> String {
        let mut xml = Xml::new();
        xml.element("appliance", &[("version", "0.1")], |xml| {
            xml.element("vm", &[("name", "vm")], |xml| self.vm(xml));
            let size = self.disk.len().to_string();
            let (name, source) = (format!("vdi_{DEVICE}"), format!("file://{DEVICE}"));
            let vdi = [
                ("name", &*name),
                ("size", &size),
                ("source", &source),
                ("type", "dir-gzipped-chunks"),
                ("variety", "system"),
            ];
            xml.empty("vdi", &vdi);
        });
        xml.finish()
    }

    fn vm(&self, xml: &mut Xml) {
        xml.leaf("label", &[], &self.machine.name);
        xml.leaf("shortdesc", &[], &self.machine.description);
        let (memory, processors) = (self.machine.memory.to_string(), self.machine.processors.to_string());
        xml.empty("config", &[("mem_set", &memory), ("vcpus", &processors)]);
        let (is_hvm, command_line) = match self.boot {
            XvaBoot::Hvm => ("true", ""),
            XvaBoot::Paravirtual(command_line) => ("false", command_line),
        };
        xml.empty("hacks", &[("is_hvm", is_hvm), ("kernel_boot_cmdline", command_line)]);
        let vdi = format!("vdi_{DEVICE}");
        xml.empty("vbd", &[("device", DEVICE), ("function", "root"), ("mode", "w"), ("vdi", &vdi)]);
    }
}

fn chunks(length: u64) -> impl Iterator<Item = Range<u64>> {
    (0..length.div_ceil(CHUNK_BYTES)).map(move |number| {
        let start = number * CHUNK_BYTES;
        start..length.min(start + CHUNK_BYTES)
    })
}

/// Moves a compressed chunk to where it belongs.
fn unspill<S: Read + Seek>(name: &str, spill: &mut S, length: u64, out: &mut dyn Sink) -> Result<(), Error> {
    let failed = |error| Problem::Spill(name.to_owned(), error);
    spill.seek(SeekFrom::Start(0)).map_err(failed)?;
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut left = length;
    while left > 0 {
        let part = &mut buffer[..left.min(BUFFER_BYTES as u64) as usize];
        spill.read_exact(part).map_err(failed)?;
        out.data(part).map_err(|error| Problem::Write(name.to_owned(), error))?;
        left -= part.len() as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn xva<'a>(machine: &'a Machine, disk: &'a dyn Source) -> Xva<'a> {
        let (level, threads) = (6, NonZeroUsize::MIN);
        Xva { machine, boot: XvaBoot::Paravirtual("root=/dev/xvda1 ro"), disk, level, threads, mtime: 0 }
    }

    #[test]
    fn the_descriptor() {
        let machine = Machine { description: "made by kiln".to_owned(), ..Machine::new("Foo & Bar") };
        let disk: &[u8] = &[0; 1536];
        let expected = r#"<?xml version="1.0" encoding="UTF-8"?>
<appliance version="0.1">
  <vm name="vm">
    <label>Foo &amp; Bar</label>
    <shortdesc>made by kiln</shortdesc>
    <config mem_set="1073741824" vcpus="1"/>
    <hacks is_hvm="false" kernel_boot_cmdline="root=/dev/xvda1 ro"/>
    <vbd device="xvda" function="root" mode="w" vdi="vdi_xvda"/>
  </vm>
  <vdi name="vdi_xvda" size="1536" source="file://xvda" type="dir-gzipped-chunks" variety="system"/>
</appliance>
"#;
        assert_eq!(xva(&machine, &disk).descriptor(), expected);
        let hvm = Xva { boot: XvaBoot::Hvm, ..xva(&machine, &disk) }.descriptor();
        assert!(hvm.contains(r#"<hacks is_hvm="true" kernel_boot_cmdline=""/>"#), "{hvm}");
    }

    #[test]
    fn chunks_are_of_a_billion_bytes() {
        let all = |length| chunks(length).map(|range| (range.start, range.end)).collect::<Vec<_>>();
        assert_eq!(all(1), [(0, 1)]);
        assert_eq!(all(1_000_000_000), [(0, 1_000_000_000)]);
        assert_eq!(all(1_500_000_000), [(0, 1_000_000_000), (1_000_000_000, 1_500_000_000)]);
    }

    #[test]
    fn what_cannot_be_written() {
        let machine = Machine::new("machine");
        let (empty, disk): (&[u8], &[u8]) = (&[], &[1]);
        let error = |xva: &Xva<'_>| {
            let mut spill = Cursor::new(Vec::new());
            xva.write(&mut spill, &mut Vec::new()).unwrap_err().to_string()
        };
        assert_eq!(error(&xva(&machine, &empty)), "an empty disk");
        let boot = XvaBoot::Paravirtual("a\nb");
        let expected = "the kernel's command line \"a\\nb\" has '\\n', which cannot be in it";
        assert_eq!(error(&Xva { boot, ..xva(&machine, &disk) }), expected);
    }

    #[test]
    fn a_spill_may_hold_something() {
        let (machine, disk): (_, &[u8]) = (Machine::new("machine"), &[7; 5000]);
        let write = |mut spill: Cursor<Vec<u8>>| {
            let mut bytes = Vec::new();
            xva(&machine, &disk).write(&mut spill, &mut bytes).unwrap();
            bytes
        };
        assert_eq!(write(Cursor::new(Vec::new())), write(Cursor::new(vec![9; 100_000])));
    }
}
