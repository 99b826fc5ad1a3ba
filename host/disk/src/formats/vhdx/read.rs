//! Reads a file.

use super::super::{
    DiskFormat,
    blocks::{Blocks, Layout, Place},
    bytes::*,
    input::Input,
};
use super::structures::*;
use super::{
    BLOCK_BYTES_MAX, BLOCK_BYTES_MIN, ENTRY_BYTES, FULLY_PRESENT, MIB, PLACE_SHIFT, STATE_MASK, bat_entries,
    chunk_ratio,
};
use crate::{Error, sparse::Source};

/// The disk in a VHDX file.
pub(in super::super) fn open(file: Box<dyn Source>) -> Result<Box<dyn Source>, Error> {
    let file = Input::new(DiskFormat::Vhdx, file);
    if file.read_array::<8>("the file type identifier", 0)? != MAGIC {
        return Err(file.corrupt("the file type identifier", 0, "it does not start with vhdxfile"));
    }
    check_header(&file)?;
    let regions = Regions::read(&file)?;
    let metadata = Metadata::read(&file, &regions.metadata)?;
    let disk = Disk { bat_offset: regions.bat.offset, metadata, file };
    disk.check(regions.bat.length)?;
    Ok(Box::new(Blocks::new(disk)))
}

/// Checks the header that counts.
fn check_header(file: &Input) -> Result<(), Error> {
    let mut current: Option<(u64, [u8; HEADER_BYTES])> = None;
    for offset in HEADER_OFFSETS {
        let bytes: [u8; HEADER_BYTES] = file.read_array("a header", offset)?;
        let valid = bytes.starts_with(HEADER_SIGNATURE) && checksum_is_right(&bytes);
        let sequence_number = get_u64(&bytes, header::SEQUENCE_NUMBER);
        if valid && current.as_ref().is_none_or(|(newest, _)| *newest < sequence_number) {
            current = Some((sequence_number, bytes));
        }
    }
    let Some((_, bytes)) = current else {
        return Err(file.corrupt("a header", HEADER_OFFSETS[0], "neither of the two is valid"));
    };
    let version = get_u16(&bytes, header::VERSION);
    if version != 1 {
        return Err(file.unsupported(format!("version {version}")));
    }
    if get::<16>(&bytes, header::LOG_GUID) != [0; 16] {
        return Err(
            file.unsupported("changes in its log that are not yet made (`qemu-img check -r all` makes them)")
        );
    }
    Ok(())
}

/// Where a region is.
struct Region {
    offset: u64,
    length: u64,
}

struct Regions {
    bat: Region,
    metadata: Region,
}

impl Regions {
    fn read(file: &Input) -> Result<Self, Error> {
        let what = "the region table";
        let mut bytes = vec![0; REGION_TABLE_BYTES];
        let mut read = |offset| {
            file.read(what, &mut bytes, offset)?;
            Ok::<_, Error>(bytes.starts_with(REGION_SIGNATURE) && checksum_is_right(&bytes))
        };
        if !read(REGION_TABLE_OFFSETS[0])? && !read(REGION_TABLE_OFFSETS[1])? {
            return Err(file.corrupt(what, REGION_TABLE_OFFSETS[0], "neither of its two copies is valid"));
        }
        let missing = |name| file.corrupt(what, REGION_TABLE_OFFSETS[0], format!("it has no {name}"));
        let [mut bat, mut metadata] = [None, None];
        for entry in table_entries(file, what, &bytes, get_u32(&bytes, 8) as usize, REGION_ENTRIES)? {
            let region = Region { offset: get_u64(entry, 16), length: get_u32(entry, 24).into() };
            match get::<16>(entry, 0) {
                REGION_BAT => bat = Some(region),
                REGION_METADATA => metadata = Some(region),
                _ if get_u32(entry, 28) & 1 == 0 => {}
                other => return Err(file.unsupported(format!("a region {}", hex(&other)))),
            }
        }
        let (bat, metadata) =
            (bat.ok_or_else(|| missing("BAT")), metadata.ok_or_else(|| missing("metadata")));
        Ok(Self { bat: bat?, metadata: metadata? })
    }
}

/// The first `count` entries of a table, which start at `first`.
fn table_entries<'a>(
    file: &Input,
    what: &'static str,
    bytes: &'a [u8],
    count: usize,
    first: usize,
) -> Result<impl Iterator<Item = &'a [u8]>, Error> {
    if count > TABLE_ENTRIES_MAX {
        return Err(file.corrupt(what, 0, format!("{count} entries, more than {TABLE_ENTRIES_MAX}")));
    }
    Ok(bytes[first..].chunks_exact(TABLE_ENTRY_BYTES).take(count))
}

fn hex(guid: &[u8; 16]) -> String {
    guid.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the metadata say.
#[derive(Default)]
struct Metadata {
    disk_bytes: u64,
    block_bytes: u64,
    logical_sector_bytes: u64,
}

impl Metadata {
    fn read(file: &Input, region: &Region) -> Result<Self, Error> {
        let what = "the metadata table";
        let mut table = vec![0; METADATA_TABLE_BYTES];
        file.read(what, &mut table, region.offset)?;
        if !table.starts_with(METADATA_SIGNATURE) {
            return Err(file.corrupt(what, region.offset, "it has no signature"));
        }
        let mut metadata = Self::default();
        for entry in table_entries(file, what, &table, get_u16(&table, 10).into(), METADATA_ENTRIES)? {
            metadata.take_item(file, region, entry)?;
        }
        metadata.check(file, region.offset)?;
        Ok(metadata)
    }

    fn take_item(&mut self, file: &Input, region: &Region, entry: &[u8]) -> Result<(), Error> {
        let what = "a metadata item";
        let offset = region.offset.saturating_add(get_u32(entry, 16).into());
        let read_u32 = || file.read_array(what, offset).map(u32::from_le_bytes);
        match get::<16>(entry, 0) {
            ITEM_FILE_PARAMETERS => {
                let parameters: [u8; 8] = file.read_array(what, offset)?;
                self.block_bytes = get_u32(&parameters, 0).into();
                if get_u32(&parameters, 4) & HAS_PARENT != 0 {
                    return Err(file.unsupported("another image below it (differencing)"));
                }
            }
            ITEM_VIRTUAL_DISK_SIZE => self.disk_bytes = u64::from_le_bytes(file.read_array(what, offset)?),
            ITEM_LOGICAL_SECTOR_SIZE => self.logical_sector_bytes = read_u32()?.into(),
            ITEM_VIRTUAL_DISK_ID | ITEM_PHYSICAL_SECTOR_SIZE | ITEM_PARENT_LOCATOR => {}
            _ if get_u32(entry, 24) & IS_REQUIRED == 0 => {}
            other => return Err(file.unsupported(format!("a metadata item {}", hex(&other)))),
        }
        Ok(())
    }

    fn check(&self, file: &Input, offset: u64) -> Result<(), Error> {
        let wrong = |why| Err(file.corrupt("the metadata", offset, why));
        if !self.block_bytes.is_power_of_two()
            || !(BLOCK_BYTES_MIN..=BLOCK_BYTES_MAX).contains(&self.block_bytes)
        {
            return wrong(format!(
                "blocks of {} bytes, not a power of two from 1 to 256 MiB",
                self.block_bytes
            ));
        }
        if ![512, 4096].contains(&self.logical_sector_bytes) {
            return wrong(format!("sectors of {} bytes, not 512 or 4096", self.logical_sector_bytes));
        }
        if !self.disk_bytes.is_multiple_of(self.logical_sector_bytes) {
            return wrong(format!("a disk of {} bytes, not whole sectors", self.disk_bytes));
        }
        Ok(())
    }
}

struct Disk {
    file: Input,
    bat_offset: u64,
    metadata: Metadata,
}

impl Disk {
    fn chunk_ratio(&self) -> u64 {
        chunk_ratio(self.metadata.block_bytes, self.metadata.logical_sector_bytes)
    }

    fn check(&self, bat_bytes: u64) -> Result<(), Error> {
        let Metadata { disk_bytes, block_bytes, .. } = self.metadata;
        let entries = bat_entries(disk_bytes, block_bytes, self.chunk_ratio());
        let end = self.bat_offset.checked_add(bat_bytes).filter(|end| *end <= self.file.length());
        if end.is_none() || bat_bytes / ENTRY_BYTES < entries {
            let why = format!("{bat_bytes} bytes, which are not within the file or no {entries} entries");
            return Err(self.file.corrupt("the BAT", self.bat_offset, why));
        }
        Ok(())
    }
}

impl Layout for Disk {
    fn file(&self) -> &Input {
        &self.file
    }

    fn disk_bytes(&self) -> u64 {
        self.metadata.disk_bytes
    }

    fn block_bytes(&self) -> u64 {
        self.metadata.block_bytes
    }

    fn place(&self, block: u64) -> Result<(Place, u64), Error> {
        let chunk_ratio = self.chunk_ratio();
        let at = self.bat_offset + (block + block / chunk_ratio) * ENTRY_BYTES;
        // Up to the next entry of a sector bitmap.
        let (entry, run) = self.file.entry_run("the BAT", at, chunk_ratio - block % chunk_ratio)?;
        let entry = u64::from_le_bytes(entry);
        let place = match entry & STATE_MASK {
            0..=3 => Place::Zero,
            FULLY_PRESENT => Place::At((entry >> PLACE_SHIFT) * MIB),
            state => return Err(self.file.corrupt("the BAT", at, format!("a block in state {state}"))),
        };
        Ok((place, run))
    }
}
