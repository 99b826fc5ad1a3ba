//! What stands before the BAT: identifier, headers, region tables, metadata.

use super::super::{Identity, bytes::*};
use super::{MIB, checksum::crc32c};

/// Signature of the file type identifier.
pub(in super::super) const MAGIC: &[u8] = b"vhdxfile";
/// Who made it, in UTF-16.
const CREATOR: &str = "kiln";
/// Where the headers are, and their length in bytes.
pub(super) const HEADER_OFFSETS: [u64; 2] = [64 << 10, 128 << 10];
pub(super) const HEADER_BYTES: usize = 4096;
pub(super) const HEADER_SIGNATURE: &[u8] = b"head";
/// Where the copies of the region table are, and their length in bytes.
pub(super) const REGION_TABLE_OFFSETS: [u64; 2] = [192 << 10, 256 << 10];
pub(super) const REGION_TABLE_BYTES: usize = 64 << 10;
pub(super) const REGION_SIGNATURE: &[u8] = b"regi";
/// Where the table of metadata ends and its items start, from the region's start.
pub(super) const METADATA_TABLE_BYTES: usize = 64 << 10;
pub(super) const METADATA_SIGNATURE: &[u8] = b"metadata";
/// Entries of region and metadata tables, at most.
pub(super) const TABLE_ENTRIES_MAX: usize = 2047;
/// Bytes of an entry of either table.
pub(super) const TABLE_ENTRY_BYTES: usize = 32;
/// Offsets of the first entries of either table.
pub(super) const REGION_ENTRIES: usize = 16;
pub(super) const METADATA_ENTRIES: usize = 32;
/// Where the checksums of headers and region tables are.
pub(super) const CHECKSUM: usize = 4;

/// A file of ours: log, metadata, BAT.
pub(super) const LOG_OFFSET: u64 = MIB;
pub(super) const LOG_BYTES: u64 = MIB;
pub(super) const METADATA_OFFSET: u64 = LOG_OFFSET + LOG_BYTES;
pub(super) const METADATA_BYTES: u64 = MIB;
pub(super) const BAT_OFFSET: u64 = METADATA_OFFSET + METADATA_BYTES;

/// Offsets of a header's fields.
pub(super) mod header {
    pub(in super::super) const SEQUENCE_NUMBER: usize = 8;
    pub(in super::super) const FILE_WRITE_GUID: usize = 16;
    pub(in super::super) const DATA_WRITE_GUID: usize = 32;
    pub(in super::super) const LOG_GUID: usize = 48;
    pub(in super::super) const VERSION: usize = 66;
    pub(in super::super) const LOG_LENGTH: usize = 68;
    pub(in super::super) const LOG_OFFSET: usize = 72;
}

/// Regions and metadata items by their GUIDs, in the order of bytes on disk.
pub(super) const REGION_BAT: [u8; 16] = guid(0x2dc2_7766_f623_4200_9d64_115e_9bfd_4a08);
pub(super) const REGION_METADATA: [u8; 16] = guid(0x8b7c_a206_4790_4b9a_b8fe_575f_050f_886e);
pub(super) const ITEM_FILE_PARAMETERS: [u8; 16] = guid(0xcaa1_6737_fa36_4d43_b3b6_33f0_aa44_e76b);
pub(super) const ITEM_VIRTUAL_DISK_SIZE: [u8; 16] = guid(0x2fa5_4224_cd1b_4876_b211_5dbe_d83b_f4b8);
pub(super) const ITEM_VIRTUAL_DISK_ID: [u8; 16] = guid(0xbeca_12ab_b2e6_4523_93ef_c309_e000_c746);
pub(super) const ITEM_LOGICAL_SECTOR_SIZE: [u8; 16] = guid(0x8141_bf1d_a96f_4709_ba47_f233_a8fa_ab5f);
pub(super) const ITEM_PHYSICAL_SECTOR_SIZE: [u8; 16] = guid(0xcda3_48c7_445d_4471_9cc9_e988_5251_c556);
pub(super) const ITEM_PARENT_LOCATOR: [u8; 16] = guid(0xa8d3_5f2d_b30b_454d_abf7_d3d8_4834_ab0c);

/// Flags of a metadata item: of the disk and not of the file; not to be ignored.
const IS_VIRTUAL_DISK: u32 = 1 << 1;
pub(super) const IS_REQUIRED: u32 = 1 << 2;
/// Flag of the file parameters: the disk differs from another one.
pub(super) const HAS_PARENT: u32 = 1 << 1;

/// Sectors of 512 bytes, and of the disk behind them 4096, as Hyper-V has them.
const LOGICAL_SECTOR_BYTES: u32 = SECTOR_BYTES as u32;
const PHYSICAL_SECTOR_BYTES: u32 = 4096;

/// A GUID as it is written in texts: its first three fields are little-endian on disk.
const fn guid(text: u128) -> [u8; 16] {
    let b = text.to_be_bytes();
    [b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]]
}

/// The file type identifier.
pub(super) fn identifier() -> Vec<u8> {
    let creator = CREATOR.encode_utf16().flat_map(u16::to_le_bytes);
    MAGIC.iter().copied().chain(creator).collect()
}

/// A header; the one with the higher sequence number counts.
pub(super) fn new_header(identity: &Identity, sequence_number: u64) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES];
    put(&mut bytes, 0, HEADER_SIGNATURE);
    put_u64(&mut bytes, header::SEQUENCE_NUMBER, sequence_number);
    put(&mut bytes, header::FILE_WRITE_GUID, &derived(identity, 1));
    put(&mut bytes, header::DATA_WRITE_GUID, &derived(identity, 2));
    put_u16(&mut bytes, header::VERSION, 1);
    put_u32(&mut bytes, header::LOG_LENGTH, LOG_BYTES as u32);
    put_u64(&mut bytes, header::LOG_OFFSET, LOG_OFFSET);
    with_checksum(bytes)
}

/// Another GUID of the same file: they need to differ from those of other files only.
fn derived(identity: &Identity, number: u8) -> Identity {
    let mut guid = *identity;
    guid[15] ^= number;
    guid
}

/// The region table.
pub(super) fn region_table(bat_bytes: u64) -> Vec<u8> {
    let mut bytes = vec![0; REGION_TABLE_BYTES];
    put(&mut bytes, 0, REGION_SIGNATURE);
    put_u32(&mut bytes, 8, 2);
    let regions = [(REGION_METADATA, METADATA_OFFSET, METADATA_BYTES), (REGION_BAT, BAT_OFFSET, bat_bytes)];
    for (index, (guid, offset, length)) in regions.into_iter().enumerate() {
        let at = REGION_ENTRIES + index * TABLE_ENTRY_BYTES;
        put(&mut bytes, at, &guid);
        put_u64(&mut bytes, at + 16, offset);
        put_u32(&mut bytes, at + 24, length as u32);
        put_u32(&mut bytes, at + 28, 1);
    }
    with_checksum(bytes)
}

fn with_checksum(mut bytes: Vec<u8>) -> Vec<u8> {
    let checksum = crc32c(&bytes);
    put_u32(&mut bytes, CHECKSUM, checksum);
    bytes
}

/// The metadata region up to its last item.
pub(super) fn metadata(identity: &Identity, disk_bytes: u64, block_bytes: u64) -> Vec<u8> {
    let items: [([u8; 16], u32, &[u8]); 5] = [
        (ITEM_FILE_PARAMETERS, IS_REQUIRED, &block_bytes.to_le_bytes()),
        (ITEM_VIRTUAL_DISK_SIZE, IS_VIRTUAL_DISK | IS_REQUIRED, &disk_bytes.to_le_bytes()),
        (ITEM_VIRTUAL_DISK_ID, IS_VIRTUAL_DISK | IS_REQUIRED, identity),
        (ITEM_LOGICAL_SECTOR_SIZE, IS_VIRTUAL_DISK | IS_REQUIRED, &LOGICAL_SECTOR_BYTES.to_le_bytes()),
        (ITEM_PHYSICAL_SECTOR_SIZE, IS_VIRTUAL_DISK | IS_REQUIRED, &PHYSICAL_SECTOR_BYTES.to_le_bytes()),
    ];
    let mut bytes = vec![0; METADATA_TABLE_BYTES];
    put(&mut bytes, 0, METADATA_SIGNATURE);
    put_u16(&mut bytes, 10, items.len() as u16);
    for (index, (guid, flags, value)) in items.into_iter().enumerate() {
        let (at, offset) = (METADATA_ENTRIES + index * TABLE_ENTRY_BYTES, bytes.len() as u32);
        put(&mut bytes, at, &guid);
        put_u32(&mut bytes, at + 16, offset);
        put_u32(&mut bytes, at + 20, value.len() as u32);
        put_u32(&mut bytes, at + 24, flags);
        bytes.extend(value);
    }
    bytes
}

/// True when a structure's checksum, at [`CHECKSUM`], is right.
pub(super) fn checksum_is_right(bytes: &[u8]) -> bool {
    let mut without = bytes.to_vec();
    put_u32(&mut without, CHECKSUM, 0);
    // What is tried at random has hardly ever the right one.
    cfg!(fuzzing) || crc32c(&without) == get_u32(bytes, CHECKSUM)
}
