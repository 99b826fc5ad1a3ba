//! Gives every partition its place.

use super::error::{Bytes, Problem, Which};
use super::request::{Alignment, DiskRequest, PartitionRequest, PartitionSize, SECTOR_BYTES, TableKind};
use super::{Geometry, Guid, PartitionType, check, gpt};
use crate::Error;
use kiln_image::digest::Hasher;
use std::ops::Range;

/// No disk, and no place on one, is beyond this: it keeps every sum of places within 64 bits.
pub(super) const MAX_BYTES: u64 = 1 << 50;

/// A disk whose partitions have their places.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Which table.
    pub table: TableKind,
    /// Bytes of the disk.
    pub size: u64,
    /// MBR's disk signature.
    pub disk_signature: u32,
    /// GPT's disk GUID.
    pub disk_guid: Guid,
    /// What cylinders, heads and sectors are counted with.
    pub geometry: Geometry,
    /// In the order in which they were asked for.
    pub partitions: Vec<Partition>,
    /// MBR: the extended partition (number 4) around the logical ones, in bytes.
    pub extended: Option<Range<u64>>,
}

/// A partition in its place.
#[derive(Clone, Debug)]
pub struct Partition {
    /// As Linux numbers it: from 1, logical ones from 5; 0 for the whole of a disk without table.
    pub number: u32,
    /// GPT's partition name.
    pub name: Option<String>,
    /// What it is for.
    pub kind: PartitionType,
    /// Its first byte.
    pub start: u64,
    /// How many bytes it has.
    pub length: u64,
    /// The one to boot from.
    pub active: bool,
    /// GPT's attribute bits as asked.
    pub attributes: u64,
    /// GPT's partition GUID.
    pub uuid: Option<Guid>,
    /// MBR: the first byte of a logical partition's EBR.
    pub(super) ebr: Option<u64>,
}

impl Layout {
    /// What Linux calls the partition in `PARTUUID=`; `None` without a table.
    pub fn partition_uuid(&self, partition: &Partition) -> Option<String> {
        match self.table {
            TableKind::Mbr => Some(format!("{:08x}-{:02x}", self.disk_signature, partition.number)),
            TableKind::Gpt => partition.uuid.map(|uuid| uuid.to_string()),
            TableKind::None => None,
        }
    }
}

/// Gives every partition its place.
///
/// # Errors
/// For what cannot be, each its own: too small a disk, partitions that overlap, do not fit their table, or are not aligned.
pub fn plan(request: &DiskRequest) -> Result<Layout, Error> {
    check::request(request)?;
    let grid = Grid::new(request);
    let places = places(request, &grid)?;
    check::places(request, &grid, &places)?;
    let extended = extended(&places);
    let size = size(request, &grid, &places)?;
    let partitions = request.partitions.iter().zip(&places).enumerate();
    Ok(Layout {
        table: request.table,
        size,
        disk_signature: request.disk_signature,
        disk_guid: request.disk_guid,
        geometry: request.geometry,
        partitions: partitions
            .map(|(index, (asked, place))| partition(request, index, asked, place))
            .collect(),
        extended,
    })
}

/// Where partitions may lie, in bytes.
pub(super) struct Grid {
    /// They start at multiples of this.
    pub unit: u64,
    /// The room for an EBR before each logical partition.
    pub lead: u64,
    /// The first byte that the table leaves free.
    pub first: u64,
    /// Bytes that the table takes at the end.
    pub backup: u64,
    /// By cylinders: partitions end with one.
    pub by_cylinder: bool,
    /// The place in the request of the first logical partition.
    pub first_logical: usize,
}

impl Grid {
    fn new(request: &DiskRequest) -> Self {
        let (unit, lead, by_cylinder) = match request.alignment {
            _ if request.table == TableKind::None => (SECTOR_BYTES, 0, false),
            Alignment::Bytes(unit) => (unit, unit, false),
            Alignment::Cylinder => (request.geometry.cylinder_bytes(), request.geometry.track_bytes(), true),
        };
        let (first, backup) = match request.table {
            TableKind::Mbr => (if by_cylinder { lead } else { SECTOR_BYTES }, 0),
            TableKind::Gpt => (gpt::FIRST_USABLE, gpt::BACKUP_BYTES),
            TableKind::None => (0, 0),
        };
        let with_logical = request.table == TableKind::Mbr && request.partitions.len() > 4;
        let first_logical = if with_logical { 3 } else { usize::MAX };
        Self { unit, lead, first, backup, by_cylinder, first_logical }
    }

    fn is_logical(&self, index: usize) -> bool {
        index >= self.first_logical
    }

    /// Where partition `index` starts that comes after byte `end`, or after the table.
    pub fn start_after(&self, index: usize, end: Option<u64>) -> u64 {
        match end {
            None if self.by_cylinder && !self.is_logical(index) => self.first,
            end => {
                let start = end.unwrap_or(self.first).next_multiple_of(self.unit);
                start + if self.is_logical(index) { self.lead } else { 0 }
            }
        }
    }

    fn end(&self, start: u64, size: u64) -> u64 {
        (start + size).next_multiple_of(if self.by_cylinder { self.unit } else { SECTOR_BYTES })
    }
}

/// Where a partition lies.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub start: u64,
    pub end: u64,
    pub ebr: Option<u64>,
}

impl Place {
    /// All that it takes of the disk, the EBR included.
    pub fn taken(&self) -> Range<u64> {
        self.ebr.unwrap_or(self.start)..self.end
    }
}

fn places(request: &DiskRequest, grid: &Grid) -> Result<Vec<Place>, Error> {
    let without_rest = places_with(request, grid, 0)?;
    let asks_for_rest = |partition: &PartitionRequest| partition.size == PartitionSize::Rest;
    match request.partitions.iter().position(asks_for_rest) {
        None => Ok(without_rest),
        Some(index) => places_with(request, grid, rest(request, grid, &without_rest, index)?),
    }
}

/// Each partition at the start that it asks for, or after the one before.
fn places_with(request: &DiskRequest, grid: &Grid, rest: u64) -> Result<Vec<Place>, Error> {
    let mut places: Vec<Place> = Vec::new();
    for (index, partition) in request.partitions.iter().enumerate() {
        let before = places.last().map(|place| place.end);
        let start = partition.start.unwrap_or_else(|| grid.start_after(index, before));
        let size = match partition.size {
            PartitionSize::Bytes(size) => size,
            PartitionSize::Rest => rest,
        };
        let end = grid.end(start, size);
        if end > MAX_BYTES {
            return Err(Problem::TooFar(which(request, index)).into());
        }
        let over_table = || check::over_table(request, grid, index, start);
        let ebr = grid.is_logical(index).then(|| start.checked_sub(grid.lead).ok_or_else(over_table));
        places.push(Place { start, end, ebr: ebr.transpose()? });
    }
    Ok(places)
}

/// What is left for partition `index` before those that follow it have to stay: it moves them by whole units.
fn rest(request: &DiskRequest, grid: &Grid, places: &[Place], index: usize) -> Result<u64, Error> {
    let following = request.partitions.iter().skip(index + 1).position(|partition| partition.start.is_some());
    let next_fixed = following.map(|distance| index + 1 + distance);
    let limit = match (next_fixed, request.size) {
        (Some(next), _) => places[next].taken().start,
        (None, Some(size)) => size.saturating_sub(grid.backup),
        (None, None) => return Err(Problem::RestOfNothing(which(request, index)).into()),
    };
    let last_moved = next_fixed.unwrap_or(places.len()) - 1;
    let left = limit.saturating_sub(places[last_moved].end);
    if left < grid.unit {
        let size = Bytes(request.size.unwrap_or(limit));
        let (left, unit) = (Bytes(left), Bytes(grid.unit));
        return Err(Problem::NoRest { which: which(request, index), size, left, unit }.into());
    }
    Ok(left - left % grid.unit)
}

fn size(request: &DiskRequest, grid: &Grid, places: &[Place]) -> Result<u64, Error> {
    let end = places.iter().map(|place| place.end).max().unwrap_or(0);
    let needed = end.max(grid.first) + grid.backup;
    match request.size {
        None => Ok(needed.next_multiple_of(grid.unit)),
        Some(size) if size >= needed => Ok(size),
        Some(size) => {
            let (missing, needed) = (Bytes(needed - size), Bytes(needed));
            Err(Problem::DiskTooSmall { size: Bytes(size), needed, missing }.into())
        }
    }
}

pub(super) fn extended(places: &[Place]) -> Option<Range<u64>> {
    let logical = || places.iter().filter(|place| place.ebr.is_some());
    Some(logical().next()?.taken().start..logical().next_back()?.end)
}

pub(super) fn which(request: &DiskRequest, index: usize) -> Which {
    Which { place: index + 1, name: request.partitions[index].name.clone() }
}

fn partition(request: &DiskRequest, index: usize, asked: &PartitionRequest, place: &Place) -> Partition {
    let number = match (request.table, place.ebr) {
        (TableKind::None, _) => 0,
        (_, None) => index as u32 + 1,
        // Number 4 is the extended partition.
        (_, Some(_)) => index as u32 + 2,
    };
    let uuid = || asked.uuid.unwrap_or_else(|| derived(request.disk_guid, number));
    Partition {
        number,
        name: asked.name.clone(),
        kind: asked.kind,
        start: place.start,
        length: place.end - place.start,
        active: asked.active,
        attributes: asked.attributes,
        uuid: (request.table == TableKind::Gpt).then(uuid),
        ebr: place.ebr,
    }
}

/// The GUID of a partition that was given none: the same for the same disk and number. Another way to make it would
/// change every disk.
fn derived(disk: Guid, number: u32) -> Guid {
    let mut hasher = Hasher::new();
    hasher.update(b"kiln partition\0");
    hasher.update(&disk.0);
    hasher.update(&number.to_le_bytes());
    let digest = u128::from_str_radix(&hasher.finish().digest.hex()[..32], 16);
    Guid::from_hash(digest.expect("a digest is hexadecimal").to_be_bytes())
}
