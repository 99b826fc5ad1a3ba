//! `kiln convert`.

use crate::{arguments::ConvertArguments, build::source_date_epoch, copy, machine};
use anyhow::{Context, Result, bail};
use kiln_builder::{DiskBytes, FileSource, write_disk};
use kiln_disk::{
    formats::{DiskFormat, open, qcow2},
    sparse::Source,
};
use kiln_image::{compress, digest::Digest};
use std::{
    fmt,
    fs::File,
    io::{self, Seek, Write},
    ops::Range,
    os::unix::fs::FileTypeExt,
    path::Path,
};

/// Files over one another, at most.
const CHAIN_MAX: usize = 64;
/// Bytes looked at to tell what a file is.
const HEAD_SIZE: usize = 512;
/// What files start with that nobody means as the bytes of a disk.
const NO_DISKS: [(&[u8], &str); 9] = [
    (b"PK\x03\x04", "a zip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"\x1f\x8b", "compressed more than once"),
    (b"\x28\xb5\x2f\xfd", "compressed more than once"),
    (b"\xfd7zXZ\0", "compressed by xz"),
    (b"QED\0", "a QED disk"),
    (b"WithoutFreeSpace", "a Parallels disk"),
    (b"WithouFreSpacExt", "a Parallels disk"),
    (b"\x3a\xff\x26\xed", "an Android sparse image"),
];

/// Converts a disk.
pub fn run(arguments: &ConvertArguments) -> Result<()> {
    copy::refuse_terminal_for_disks(std::slice::from_ref(&arguments.output))?;
    let source = open_disk(Link { path: &arguments.input, format: arguments.from, over: None, depth: 0 })?;
    // The same disk gets the same identity; whose it is, is not known here.
    let name = arguments.input.file_name().unwrap_or_default();
    let digest = Digest::of(format!("kiln convert\n{}\n{}\n", source.len(), name.display()).as_bytes());
    let mut identity = [0; 16];
    let hex = digest.to_string();
    let digits = hex.rsplit(':').next().unwrap_or_default();
    for (byte, pair) in identity.iter_mut().zip(digits.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair)?, 16)?;
    }
    let epoch_s = source_date_epoch()?.unwrap_or_default().unix_seconds();
    write_disk(
        &DiskBytes { source: source.as_ref(), identity, epoch_s },
        &arguments.output,
        machine::threads(),
    )?;
    Ok(())
}

/// A file that is to be read, and why.
#[derive(Clone, Copy)]
struct Link<'a> {
    path: &'a Path,
    /// What it is, where that was said.
    format: Option<DiskFormat>,
    /// The file that named it as what lies below.
    over: Option<&'a Path>,
    depth: usize,
}

impl Link<'_> {
    fn unread(&self) -> String {
        let over = self.over.map(|over| format!(", over which {} lies", shown(over)));
        format!("cannot read {}{}", shown(self.path), over.unwrap_or_default())
    }
}

/// A path for people: names in foreign files may say things to terminals.
fn shown(path: &Path) -> String {
    let plain = path.display().to_string();
    if plain.contains(char::is_control) { format!("{path:?}") } else { plain }
}

fn open_disk(link: Link) -> Result<Box<dyn Source>> {
    let unread = || link.unread();
    if link.depth >= CHAIN_MAX {
        let last = shown(link.path);
        bail!("more than {CHAIN_MAX} files lie under one another, or in a circle; the last one is {last}");
    }
    let file = open_file(link).with_context(unread)?;
    let file = plain(file).with_context(unread)?;
    let source: Box<dyn Source> = match disk_of_appliance(&file).with_context(unread)? {
        Some(range) => Box::new(Part { source: FileSource::new(file).with_context(unread)?, range }),
        None => Box::new(FileSource::new(file).with_context(unread)?),
    };
    let detected = DiskFormat::detect_file(&*source).with_context(unread)?;
    if link.format.or(detected).is_none() {
        refuse_others(&*source, link.path).with_context(unread)?;
    }
    let disk = match link.format.or(detected).unwrap_or(DiskFormat::Raw) {
        DiskFormat::Qcow2 => open_qcow2(source, link)?,
        format => open(source, format).with_context(unread)?,
    };
    Ok(Box::new(Named { name: shown(link.path), disk }))
}

/// What is no file at all may never end, or never begin; who names a pipe to kiln wants it read, who names it in a file
/// does not.
fn open_file(link: Link) -> Result<File> {
    let found = std::fs::metadata(link.path);
    if link.path == Path::new("-") && found.is_err() {
        bail!("there is no such file; standard input is read as /dev/stdin");
    }
    let kind = found?.file_type();
    let refused = if kind.is_dir() {
        "a directory"
    } else if kind.is_char_device() {
        "a character device"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_fifo() && link.over.is_some() {
        "a pipe"
    } else {
        return Ok(File::open(link.path)?);
    };
    bail!("it is {refused}, and no disk: that is a file or a block device")
}

/// Refuses what is taken for a raw disk only because nothing better is known.
fn refuse_others(source: &dyn Source, path: &Path) -> Result<()> {
    const ANYWAY: &str = "`--from raw` takes its bytes as a disk all the same";
    let mut head = vec![0; source.len().min(HEAD_SIZE as u64) as usize];
    source.read_at(&mut head, 0)?;
    if let Some((_, what)) = NO_DISKS.iter().find(|(magic, _)| head.starts_with(magic)) {
        bail!("it is {what}, which kiln does not read; {ANYWAY}");
    }
    let ending = ending(path);
    let is_other = ending.parse::<DiskFormat>().is_ok_and(|format| format != DiskFormat::Raw);
    if is_other || ending == "ova" {
        bail!("it ends in .{ending}, but is none, or is cut off or damaged; {ANYWAY}");
    }
    Ok(())
}

/// What a file's name ends in, in lower case, without that of its compression.
fn ending(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let name = [".gz", ".zst"].iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(&name);
    name.rsplit_once('.').map(|(_, ending)| ending.to_owned()).unwrap_or_default()
}

/// With the files below it, which it names as seen from its own directory.
fn open_qcow2(source: Box<dyn Source>, link: Link) -> Result<Box<dyn Source>> {
    let (path, unread) = (shown(link.path), || link.unread());
    let image = qcow2::Image::open(source).with_context(unread)?;
    let Some(backing) = image.backing_file().cloned() else { return image.alone().with_context(unread) };
    let name = &backing.file_name;
    if link.format.is_none() && ending(link.path) != "qcow2" {
        // Whoever could write to a raw disk or pack an appliance could have any file read otherwise.
        bail!(
            "{path} lies over {name:?}, and is not called .qcow2; if it is known where it comes from, `--from qcow2` reads both"
        );
    }
    let Some(name) = file_of(name) else { bail!("{path} lies over {name:?}, which is no file") };
    let directory = link.path.parent().unwrap_or(Path::new(""));
    let below = directory.join(name);
    // Without a format said, QEMU guesses; a guest that writes a header to a raw disk could then choose.
    let format = backing.format.as_deref().with_context(|| {
        format!(
            "{path} does not say what format {name:?} has, over which it lies; `qemu-img rebase -u -F FORMAT -b {name:?}` does"
        )
    })?;
    let format: DiskFormat =
        format.parse().with_context(|| format!("cannot read {}, over which {path} lies", shown(&below)))?;
    tell_if_elsewhere(link.path, directory, &below);
    let over = Some(link.path);
    let disk = open_disk(Link { path: &below, format: Some(format), over, depth: link.depth + 1 })?;
    Ok(image.over(disk))
}

/// The path in a backing file's name, as QEMU understands it: what stands before a colon is a protocol unless it has a
/// slash.
fn file_of(name: &str) -> Option<&str> {
    let name = name.strip_prefix("file:").unwrap_or(name);
    let is_protocol = name.split_once(':').is_some_and(|(before, _)| !before.contains('/'));
    (!is_protocol).then_some(name)
}

/// Who converts a stranger's disk should know which other files of theirs become part of it.
fn tell_if_elsewhere(path: &Path, directory: &Path, below: &Path) {
    let directory = if directory == Path::new("") { Path::new(".") } else { directory };
    let (Ok(directory), Ok(file)) = (directory.canonicalize(), below.canonicalize()) else { return };
    if !file.starts_with(directory) {
        eprintln!(
            "kiln: note: {} lies over {}, outside its directory; that is read too",
            shown(path),
            shown(below)
        );
    }
}

/// The file as it is; or, when that is compressed or a pipe, what comes out of it.
fn plain(mut file: File) -> Result<File> {
    let is_pipe = file.metadata()?.file_type().is_fifo();
    let mut input = compress::Decompressor::new(&file)?;
    if input.format() == compress::Format::None && !is_pipe {
        drop(input);
        file.rewind()?;
        return Ok(file);
    }
    let directory = std::env::temp_dir();
    let unwritten = || format!("cannot write what comes out of it to {} (see TMPDIR)", directory.display());
    let mut plain = tempfile::tempfile_in(&directory).with_context(unwritten)?;
    copy_sparsely(&mut input, &mut plain, &unwritten)?;
    // Who reads on does so from the start.
    plain.rewind()?;
    Ok(plain)
}

fn copy_sparsely(from: &mut dyn io::Read, to: &mut File, unwritten: &dyn Fn() -> String) -> Result<()> {
    let mut buffer = vec![0; 1 << 16];
    let mut length = 0;
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return to.set_len(length).with_context(unwritten);
        }
        if buffer[..count].iter().all(|byte| *byte == 0) {
            to.seek(io::SeekFrom::Current(count as i64)).with_context(unwritten)?;
        } else {
            to.write_all(&buffer[..count]).with_context(unwritten)?;
        }
        length += count as u64;
    }
}

/// Where in an OVA its disk lies.
fn disk_of_appliance(file: &File) -> Result<Option<Range<u64>>> {
    use std::os::unix::fs::FileExt;
    let mut head = [0; HEAD_SIZE];
    let count = file.read_at(&mut head, 0)?;
    if count < HEAD_SIZE || &head[257..262] != b"ustar" {
        return Ok(None);
    }
    let reader = kiln_image::tar::Reader::seekable(io::BufReader::new(file.try_clone()?));
    let mut reader = reader.context("it looks like an OVA")?;
    let mut disks = Vec::new();
    for entry in reader.entries() {
        let found = entry.context("it looks like an OVA")?;
        if found.entry.path.ends_with(b".vmdk") {
            let start = found.location.data_offset;
            disks.push(start..start.saturating_add(found.location.stored_size));
        }
    }
    match &disks[..] {
        [] => bail!("it is a tar without a .vmdk, and no OVA then"),
        [disk] if disk.end > file.metadata()?.len() => bail!("it is an OVA that ends within its disk"),
        [disk] => Ok(Some(disk.clone())),
        _ => bail!("it is an OVA with {} disks; unpacked by tar, each can be read by itself", disks.len()),
    }
}

/// A disk whose errors say which file they come from.
struct Named {
    name: String,
    disk: Box<dyn Source>,
}

/// An error in a file.
#[derive(Debug)]
struct InFile {
    name: String,
    source: io::Error,
}

impl fmt::Display for InFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "in {}", self.name)
    }
}

impl std::error::Error for InFile {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

impl Named {
    fn named(&self, source: io::Error) -> io::Error {
        if source.get_ref().is_some_and(|inner| inner.is::<InFile>()) {
            // The file below has said so.
            return source;
        }
        io::Error::new(source.kind(), InFile { name: self.name.clone(), source })
    }
}

impl Source for Named {
    fn len(&self) -> u64 {
        self.disk.len()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.disk.read_at(buffer, offset).map_err(|error| self.named(error))
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        self.disk.next_data(offset).map_err(|error| self.named(error))
    }
}

/// A part of a file.
struct Part {
    source: FileSource,
    range: Range<u64>,
}

impl Source for Part {
    fn len(&self) -> u64 {
        self.range.end - self.range.start
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64).filter(|end| *end <= self.len());
        end.ok_or(io::ErrorKind::UnexpectedEof)?;
        self.source.read_at(buffer, self.range.start + offset)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        if offset >= self.len() {
            return Ok(None);
        }
        let found = self.source.next_data(self.range.start + offset)?;
        let found = found.filter(|found| found.start < self.range.end);
        Ok(found
            .map(|found| found.start - self.range.start..found.end.min(self.range.end) - self.range.start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_disk::formats::{Options, vhd, vmdk};
    use std::path::PathBuf;

    const DISK_BYTES: usize = 1 << 20;

    struct Room(tempfile::TempDir);

    impl Room {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
            std::fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
            std::fs::write(self.path(name), bytes).unwrap();
            self.path(name)
        }

        /// A qcow2 file without data over `below`.
        fn overlay(&self, name: &str, below: &str) -> PathBuf {
            let disk = vec![0; DISK_BYTES];
            let backing =
                qcow2::Backing { file_name: below.to_owned(), format: DiskFormat::Raw, disk: &&disk[..] };
            let options = qcow2::Options { backing: Some(backing), ..qcow2::Options::default() };
            self.write(name, &made(&disk, &Options::Qcow2(options)))
        }
    }

    fn made(disk: &[u8], options: &Options<'_>) -> Vec<u8> {
        let mut file = Vec::new();
        kiln_disk::formats::write(&disk, options, &mut file).unwrap();
        file
    }

    fn disk() -> Vec<u8> {
        (0..DISK_BYTES).map(|at| (at / 1000 % 251) as u8).collect()
    }

    fn stream_optimized() -> Vec<u8> {
        let subformat = vmdk::Subformat::StreamOptimized;
        made(&disk(), &Options::Vmdk(vmdk::Options { subformat, ..vmdk::Options::new([1; 16]) }))
    }

    /// A tar of files, each in an old header with the magic that counts.
    fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (name, contents) in members {
            let mut header = [0; HEAD_SIZE];
            header[..name.len()].copy_from_slice(name.as_bytes());
            header[100..108].copy_from_slice(b"0000644\0");
            header[124..136].copy_from_slice(format!("{:011o}\0", contents.len()).as_bytes());
            header[148..156].fill(b' ');
            header[156] = b'0';
            header[257..265].copy_from_slice(b"ustar\x0000");
            let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
            header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            bytes.extend(header);
            bytes.extend(*contents);
            bytes.resize(bytes.len().next_multiple_of(HEAD_SIZE), 0);
        }
        bytes.resize(bytes.len() + 2 * HEAD_SIZE, 0);
        bytes
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let threads = std::num::NonZero::<usize>::MIN;
        let compression = compress::Compression::GZIP;
        let mut compressor = compress::ParallelCompressor::new(compression, threads, Vec::new());
        compressor.write_all(bytes).unwrap();
        compressor.finish().unwrap().0
    }

    fn opened(path: &Path, format: Option<DiskFormat>) -> Result<Vec<u8>> {
        let disk = open_disk(Link { path, format, over: None, depth: 0 })?;
        let mut bytes = vec![0; disk.len() as usize];
        disk.read_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    fn refusal(path: &Path) -> String {
        format!("{:#}", opened(path, None).expect_err("it is refused"))
    }

    #[test]
    fn compressed_appliances_are_read_from_their_start() {
        let room = Room::new();
        let appliance = tar(&[("a.ovf", b"<Envelope/>"), ("a.vmdk", &stream_optimized())]);
        assert!(opened(&room.write("a.ova", &appliance), None).unwrap() == disk());
        assert!(opened(&room.write("a.ova.gz", &gzip(&appliance)), None).unwrap() == disk());
    }

    #[test]
    fn appliances_with_several_disks_or_half_of_one_are_refused() {
        let room = Room::new();
        let vmdk = stream_optimized();
        let two = room.write("two.ova", &tar(&[("a.vmdk", &vmdk), ("b.vmdk", &vmdk)]));
        assert!(refusal(&two).contains("an OVA with 2 disks"), "{}", refusal(&two));
        let whole = tar(&[("a.vmdk", &vmdk)]);
        let half = room.write("half.ova", &whole[..whole.len() / 2]);
        assert!(refusal(&half).contains("half.ova"), "{}", refusal(&half));
    }

    #[test]
    fn what_is_called_a_disk_and_is_none_is_no_raw_disk() {
        let room = Room::new();
        for name in ["a.qcow2", "a.VMDK", "a.vpc", "a.vhdx.gz", "a.ova"] {
            let path = room.write(name, b"<html>not found</html>");
            assert!(refusal(&path).contains("`--from raw`"), "{}", refusal(&path));
            assert_eq!(opened(&path, Some(DiskFormat::Raw)).unwrap(), b"<html>not found</html>");
        }
        // Whose footer is lost.
        let options = vhd::Options { layout: vhd::Layout::Fixed, ..vhd::Options::new([1; 16]) };
        let whole = made(&disk(), &Options::Vhd(options));
        let cut = room.write("cut.vhd", &whole[..DISK_BYTES]);
        assert!(refusal(&cut).contains("it ends in .vhd"), "{}", refusal(&cut));
        assert!(opened(&room.write("a.raw", b"anything"), None).is_ok());
    }

    #[test]
    fn archives_and_disks_of_others_are_no_raw_disks() {
        let room = Room::new();
        for (bytes, what) in [
            (&b"PK\x03\x04rest"[..], "a zip archive"),
            (b"QED\0rest", "a QED disk"),
            (&gzip(&gzip(b"disk")), "compressed more than once"),
        ] {
            let path = room.write("disk", bytes);
            assert!(refusal(&path).contains(what), "{}", refusal(&path));
        }
    }

    #[test]
    fn headers_that_a_guest_can_write_choose_no_files() {
        let room = Room::new();
        room.write("secret", &disk());
        let guest = room.overlay("guest.raw", "secret");
        assert!(refusal(&guest).contains("`--from qcow2`"), "{}", refusal(&guest));
        assert!(opened(&guest, Some(DiskFormat::Qcow2)).unwrap() == disk());
        let packed = std::fs::read(&guest).unwrap();
        let appliance = room.write("a.ova", &tar(&[("a.vmdk", &packed)]));
        assert!(refusal(&appliance).contains("`--from qcow2`"), "{}", refusal(&appliance));
        assert!(opened(&room.overlay("known.qcow2", "secret"), None).unwrap() == disk());
    }

    #[test]
    fn what_lies_below_is_named_with_what_lies_above() {
        let room = Room::new();
        let upper = room.overlay("upper.qcow2", "missing.raw");
        let said = refusal(&upper);
        assert!(said.contains("missing.raw, over which ") && said.contains("upper.qcow2 lies"), "{said}");
        let said = refusal(&room.overlay("b.qcow2", "red\x1b[31m"));
        assert!(!said.contains('\x1b'), "{said}");
    }

    #[test]
    fn protocols_have_no_slash_before_their_colon() {
        for (name, expected) in [
            ("base.raw", Some("base.raw")),
            ("./a:b.raw", Some("./a:b.raw")),
            ("/vm/12:30.raw", Some("/vm/12:30.raw")),
            ("file:base.raw", Some("base.raw")),
            ("nbd://host/disk", None),
            ("json:{\"file\":\"/x\"}", None),
            ("a:b.raw", None),
        ] {
            assert_eq!(file_of(name), expected, "{name}");
        }
        let room = Room::new();
        room.write("a:b.raw", &disk());
        assert!(opened(&room.overlay("upper.qcow2", "./a:b.raw"), None).unwrap() == disk());
    }

    #[test]
    fn pipes_are_read_where_they_are_named_by_the_user_alone() {
        let room = Room::new();
        let pipe = room.path("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        let upper = room.overlay("upper.qcow2", "pipe");
        assert!(refusal(&upper).contains("it is a pipe"), "{}", refusal(&upper));
        let writer = pipe.clone();
        let writer = std::thread::spawn(move || std::fs::write(writer, disk()).unwrap());
        assert!(opened(&pipe, None).unwrap() == disk());
        writer.join().unwrap();
        for path in [Path::new("/dev/zero"), Path::new("/dev/null"), room.0.path()] {
            assert!(refusal(path).contains("a file or a block device"), "{}", refusal(path));
        }
        assert!(refusal(Path::new("-")).contains("/dev/stdin"));
    }

    #[test]
    fn damage_is_said_of_the_file_that_has_it() {
        let room = Room::new();
        let options = Options::Qcow2(qcow2::Options::default());
        let whole = made(&disk(), &options);
        let cut = room.write("cut.qcow2", &whole[..whole.len() / 2]);
        assert!(refusal(&cut).starts_with(&format!("in {}", cut.display())), "{}", refusal(&cut));
    }
}
