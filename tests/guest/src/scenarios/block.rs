//! Disks.

use super::{Machine, Outcome};
use crate::virtio::{Memory, transport};
use alloc::format;
use alloc::string::String;
use virtio_drivers::device::blk::VirtIOBlk;

/// `VIRTIO_BLK_F_RO`
pub const READ_ONLY: u64 = 1 << 5;

const SECTOR_BYTES: usize = 512;

/// What the host has put into every sector of every disk.
fn content(sector: usize) -> [u8; SECTOR_BYTES] {
    core::array::from_fn(|index| (sector * 7 + index) as u8)
}

fn failed(error: virtio_drivers::Error) -> String {
    format!("{error}")
}

/// Sectors are read one by one, and many at once.
pub fn read(machine: &Machine) -> Outcome {
    let mut disk = VirtIOBlk::<Memory, _>::new(transport(machine.disk()?)).map_err(failed)?;
    let mut bytes = [0; 16 * SECTOR_BYTES];
    disk.read_blocks(3, &mut bytes).map_err(failed)?;
    for (index, sector) in bytes.as_chunks().0.iter().enumerate() {
        if *sector != content(3 + index) {
            return Err(format!("sector {} is {:?}...", 3 + index, &sector[..4]));
        }
    }
    Ok(())
}
