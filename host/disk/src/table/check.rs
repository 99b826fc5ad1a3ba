//! What a disk's table has no room for.

use super::error::{Bytes, Problem};
use super::plan::{Grid, MAX_BYTES, Place, which};
use super::request::{Alignment, DiskRequest, PartitionRequest, PartitionSize, SECTOR_BYTES, TableKind};
use super::{gpt, mbr};
use crate::Error;

/// The largest alignment, in bytes.
const MAX_ALIGNMENT: u64 = 1 << 30;
/// Where the 32-bit numbers of sectors of an MBR end, in bytes: the last sector's number and the count must fit.
const MBR_REACH: u64 = (1 << 32) * SECTOR_BYTES - SECTOR_BYTES;

/// What is wrong whatever the places are.
pub(super) fn request(request: &DiskRequest) -> Result<(), Error> {
    disk(request)?;
    count(request)?;
    for (index, partition) in request.partitions.iter().enumerate() {
        size(request, index, partition)?;
        in_table(request, index, partition)?;
    }
    pairs(request)
}

fn disk(request: &DiskRequest) -> Result<(), Error> {
    if let Some(size) = request.size.filter(|size| size % SECTOR_BYTES != 0 || *size > MAX_BYTES) {
        return Err(Problem::DiskSize(Bytes(size)).into());
    }
    match request.alignment {
        Alignment::Bytes(unit) if unit == 0 || unit % SECTOR_BYTES != 0 || unit > MAX_ALIGNMENT => {
            Err(Problem::Alignment(Bytes(unit)).into())
        }
        Alignment::Cylinder if request.table == TableKind::Gpt => Err(Problem::CylindersOfGpt.into()),
        _ => Ok(()),
    }
}

fn count(request: &DiskRequest) -> Result<(), Error> {
    let count = request.partitions.len();
    match request.table {
        TableKind::Mbr if count > 3 + mbr::MAX_LOGICAL => Err(Problem::MbrCount(count).into()),
        TableKind::Gpt if count > gpt::ENTRIES => Err(Problem::GptCount(count).into()),
        TableKind::None if count != 1 => Err(Problem::NoTable(count).into()),
        _ => Ok(()),
    }
}

fn size(request: &DiskRequest, index: usize, partition: &PartitionRequest) -> Result<(), Error> {
    let start = partition.start.unwrap_or(0);
    match partition.size {
        PartitionSize::Bytes(0) => Err(Problem::Empty(which(request, index)).into()),
        PartitionSize::Bytes(size) if size > MAX_BYTES => Err(Problem::TooFar(which(request, index)).into()),
        _ if start > MAX_BYTES => Err(Problem::TooFar(which(request, index)).into()),
        _ if start > 0 && request.table == TableKind::None => {
            Err(Problem::NoTableStart(which(request, index), start).into())
        }
        _ => Ok(()),
    }
}

fn in_table(request: &DiskRequest, index: usize, partition: &PartitionRequest) -> Result<(), Error> {
    match request.table {
        TableKind::Mbr => in_mbr(request, index, partition),
        TableKind::Gpt => in_gpt(request, index, partition),
        TableKind::None => Ok(()),
    }
}

fn in_mbr(request: &DiskRequest, index: usize, partition: &PartitionRequest) -> Result<(), Error> {
    let which = which(request, index);
    if partition.attributes != 0 {
        return Err(Problem::NotInMbr(which, "attributes").into());
    }
    if partition.uuid.is_some() {
        return Err(Problem::NotInMbr(which, "a UUID").into());
    }
    if partition.kind.mbr().is_some() {
        return Ok(());
    }
    let hint = "GRUB needs no partition of its own there, others are named by a byte such as 0x83; or ask for table gpt";
    Err(Problem::NoSuchType { which, kind: partition.kind.shown(), table: "mbr", hint }.into())
}

fn in_gpt(request: &DiskRequest, index: usize, partition: &PartitionRequest) -> Result<(), Error> {
    let which = which(request, index);
    let name = partition.name.as_deref().unwrap_or_default();
    let units = name.encode_utf16().count();
    if units > gpt::NAME_UNITS {
        return Err(Problem::NameLength { which, units }.into());
    }
    if name.contains('\0') {
        return Err(Problem::NameZero(which).into());
    }
    if partition.kind.gpt().is_some() {
        return Ok(());
    }
    let hint = "name it by a word or by its GUID; or ask for table mbr";
    Err(Problem::NoSuchType { which, kind: partition.kind.shown(), table: "gpt", hint }.into())
}

/// What only one partition can have.
fn pairs(request: &DiskRequest) -> Result<(), Error> {
    let partitions = &request.partitions;
    let two = |test: &dyn Fn(&PartitionRequest) -> bool| {
        let mut found = (0..partitions.len()).filter(|index| test(&partitions[*index]));
        Some((which(request, found.next()?), which(request, found.next()?)))
    };
    if let Some((first, second)) = two(&|partition| partition.size == PartitionSize::Rest) {
        return Err(Problem::TwoRests(first, second).into());
    }
    if let Some((first, second)) =
        two(&|partition| partition.active).filter(|_| request.table == TableKind::Mbr)
    {
        return Err(Problem::TwoActive(first, second).into());
    }
    for uuid in partitions.iter().filter_map(|partition| partition.uuid) {
        if let Some((first, second)) = two(&|partition| partition.uuid == Some(uuid)) {
            return Err(Problem::SameUuid(first, second).into());
        }
    }
    Ok(())
}

/// What is wrong with the places.
pub(super) fn places(request: &DiskRequest, grid: &Grid, places: &[Place]) -> Result<(), Error> {
    for (index, place) in places.iter().enumerate() {
        start(request, grid, index, place)?;
        if request.table == TableKind::Mbr && place.end > MBR_REACH {
            return Err(Problem::MbrReach { which: which(request, index), end: Bytes(place.end) }.into());
        }
    }
    logical_order(request, places)?;
    overlaps(request, places)?;
    within_extended(request, places)
}

fn start(request: &DiskRequest, grid: &Grid, index: usize, place: &Place) -> Result<(), Error> {
    if place.taken().start < grid.first {
        return Err(over_table(request, grid, index, place.start));
    }
    let on_first_track = grid.by_cylinder && place.start == grid.first;
    let aligned = place.taken().start % grid.unit;
    if aligned == 0 || on_first_track {
        return Ok(());
    }
    let nearest = place.start + (grid.unit - aligned);
    let (which, unit) = (which(request, index), Bytes(grid.unit));
    Err(Problem::Misaligned { which, start: place.start, unit, nearest }.into())
}

/// The error of a partition that starts where the table is.
pub(super) fn over_table(request: &DiskRequest, grid: &Grid, index: usize, start: u64) -> Error {
    let first = grid.start_after(index, None);
    Problem::OverTable { which: which(request, index), start: Bytes(start), first }.into()
}

fn logical_order(request: &DiskRequest, places: &[Place]) -> Result<(), Error> {
    for index in 1..places.len() {
        let (before, place) = (&places[index - 1], &places[index]);
        if before.ebr.is_some() && place.start < before.start {
            let (first, second) = (which(request, index - 1), which(request, index));
            return Err(Problem::LogicalOrder { first, second }.into());
        }
    }
    Ok(())
}

fn overlaps(request: &DiskRequest, places: &[Place]) -> Result<(), Error> {
    let mut order: Vec<usize> = (0..places.len()).collect();
    order.sort_by_key(|index| places[*index].taken().start);
    for pair in order.windows(2) {
        let (before, after) = (places[pair[0]].taken(), places[pair[1]].taken());
        if before.end > after.start {
            return Err(Problem::Overlap {
                first: which(request, pair[0]),
                end: Bytes(before.end),
                second: which(request, pair[1]),
                start: Bytes(after.start),
                by: Bytes(before.end - after.start),
            }
            .into());
        }
    }
    Ok(())
}

fn within_extended(request: &DiskRequest, places: &[Place]) -> Result<(), Error> {
    let Some(extended) = super::plan::extended(places) else { return Ok(()) };
    let is_within = |place: &Place| place.ebr.is_none() && extended.contains(&place.start);
    match places.iter().position(is_within) {
        None => Ok(()),
        Some(index) => {
            let (start, end) = (Bytes(extended.start), Bytes(extended.end));
            Err(Problem::WithinExtended { primary: which(request, index), start, end }.into())
        }
    }
}
