//! From a plan to a partition table.

use super::{
    identity::{Identity, Uuid, parse_uuid},
    plan::{DiskPlan, FileSystem, PartitionPlan, Table},
};
use kiln_disk::table::{
    self, Alignment, DiskRequest, Geometry, Guid, PartitionRequest, PartitionSize, PartitionType, TableKind,
    attribute,
};
use std::ops::Range;

/// Where everything is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Of the disk, in bytes.
    pub length: u64,
    /// In the order of the plan, in bytes.
    pub partitions: Vec<Range<u64>>,
    /// The table: offsets and bytes.
    pub writes: Vec<(u64, Vec<u8>)>,
}

/// Lays partitions of these sizes (`None`: the rest) out.
pub(crate) fn plan(
    plan: &DiskPlan,
    sizes: &[Option<u64>],
    uuids: &[Uuid],
    identity: Identity,
) -> Result<Layout, String> {
    let message = |error: kiln_disk::Error| error.to_string();
    let mut request = DiskRequest::new(match plan.table {
        Table::Mbr => TableKind::Mbr,
        Table::Gpt => TableKind::Gpt,
        Table::None => TableKind::None,
    });
    match disk_identifier(plan, identity) {
        Identifier::Mbr(signature) => request.disk_signature = signature,
        Identifier::Gpt(uuid) => request.disk_guid = guid(&uuid),
    }
    request.size = plan.size;
    if let Some(alignment) = plan.alignment {
        request.alignment = Alignment::Bytes(alignment);
    }
    if let Some((heads, sectors)) = plan.geometry {
        request.geometry = Geometry::new(heads.into(), sectors.into()).map_err(message)?;
        if plan.alignment.is_none() {
            request.alignment = Alignment::Cylinder;
        }
    }
    for ((partition, size), uuid) in plan.partitions.iter().zip(sizes).zip(uuids) {
        request.partitions.push(partition_request(plan, partition, *size, uuid)?);
    }
    let layout = table::plan(&request).map_err(message)?;
    let ranges = layout.partitions.iter().map(|placed| placed.start..placed.start + placed.length);
    let writes = layout.writes().into_iter().map(|write| (write.offset, write.bytes));
    Ok(Layout { length: layout.size, partitions: ranges.collect(), writes: writes.collect() })
}

fn partition_request(
    plan: &DiskPlan,
    partition: &PartitionPlan,
    size: Option<u64>,
    uuid: &Uuid,
) -> Result<PartitionRequest, String> {
    let size = size.map_or(PartitionSize::Rest, PartitionSize::Bytes);
    let mut request = PartitionRequest::new(kind(partition)?, size);
    request.name.clone_from(&partition.name);
    request.active = partition.is_bootable || is_active_by_default(plan, partition);
    for attribute in &partition.attributes {
        request.attributes |= attribute::parse(attribute).map_err(|error| error.to_string())?;
    }
    request.uuid = (plan.table == Table::Gpt).then(|| guid(uuid));
    request.start = partition.start;
    Ok(request)
}

/// The partition that holds `/boot`, where the first sector's code looks for an active one.
fn is_active_by_default(plan: &DiskPlan, partition: &PartitionPlan) -> bool {
    let any = plan.partitions.iter().any(|partition| partition.is_bootable);
    let boot = plan.holder("boot").map(|index| &plan.partitions[index]);
    let starts_by_sector = plan.boot.contains(&super::plan::Loader::Extlinux) || plan.table == Table::Mbr;
    !any && starts_by_sector
        && !plan.boot.is_empty()
        && boot.is_some_and(|boot| std::ptr::eq(boot, partition))
}

fn kind(partition: &PartitionPlan) -> Result<PartitionType, String> {
    let by_file_system = match partition.file_system {
        Some(FileSystem::Swap) => "swap",
        Some(FileSystem::Vfat) => "fat32",
        _ => "linux",
    };
    let text = partition.kind.as_deref().unwrap_or(by_file_system);
    text.parse().map_err(|error: kiln_disk::Error| error.to_string())
}

/// The table's own identity.
pub(crate) enum Identifier {
    Mbr(u32),
    Gpt(Uuid),
}

/// Given, or derived. What was given was checked with the plan.
pub(crate) fn disk_identifier(plan: &DiskPlan, identity: Identity) -> Identifier {
    let derived = identity.uuid("table");
    let given = plan.identifier.as_deref();
    match plan.table {
        Table::Mbr => {
            let given = given.and_then(|text| u32::from_str_radix(text.trim_start_matches("0x"), 16).ok());
            Identifier::Mbr(given.unwrap_or_else(|| {
                u32::from_be_bytes([derived[0], derived[1], derived[2], derived[3]]).max(1)
            }))
        }
        Table::Gpt | Table::None => Identifier::Gpt(given.and_then(parse_uuid).unwrap_or(derived)),
    }
}

/// What `PARTUUID=` of a partition is.
pub(crate) fn partition_uuid(number: u32, uuid: &Uuid, disk: &Identifier) -> Option<String> {
    match (number, disk) {
        (0, _) => None,
        (_, Identifier::Mbr(signature)) => Some(format!("{signature:08x}-{number:02x}")),
        (_, Identifier::Gpt(_)) => Some(super::identity::format_uuid(uuid)),
    }
}

/// A partition's number. In an MBR the fourth and later of more than four are logical, and begin with 5.
pub(crate) fn number(plan: &DiskPlan, index: usize) -> u32 {
    let count = plan.partitions.len();
    let number = u32::try_from(index).expect("few partitions") + 1;
    if plan.table == Table::Mbr && count > 4 && index >= 3 { number + 1 } else { number }
}

fn guid(uuid: &Uuid) -> Guid {
    Guid::from_u128(u128::from_be_bytes(*uuid))
}
