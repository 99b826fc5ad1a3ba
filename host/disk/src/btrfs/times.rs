//! Times of inodes: those that mkfs took from its clock, and those that came with the files.

use super::InodeTimes;
use crate::field::put_u64;

/// Bytes of a time: seconds, nanoseconds.
pub(super) const TIME_SIZE: usize = 12;

/// Bytes of an inode item, and the offsets in it of its times
/// (<https://btrfs.readthedocs.io/en/latest/dev/On-disk-format.html#inode-item-01>).
pub(super) const INODE_SIZE: usize = 160;
const ATIME: usize = 112;
const CTIME: usize = 124;
const MTIME: usize = 136;
const OTIME: usize = 148;
const ALL: [usize; 4] = [ATIME, CTIME, MTIME, OTIME];

const NONE: [u8; TIME_SIZE] = [0; TIME_SIZE];

fn time(inode: &[u8], at: usize) -> [u8; TIME_SIZE] {
    inode[at..at + TIME_SIZE].try_into().expect("a slice of this size")
}

/// Puts a time of whole seconds where there is one.
pub(super) fn stamp(field: &mut [u8], time_s: u64) {
    if field.iter().any(|byte| *byte != 0) {
        field.fill(0);
        put_u64(field, 0, time_s);
    }
}

/// Stamps an inode that mkfs made. `inode` has [`INODE_SIZE`] bytes at least, here and below.
pub(super) fn stamp_inode(inode: &mut [u8], time_s: u64) {
    for at in ALL {
        stamp(&mut inode[at..at + TIME_SIZE], time_s);
    }
}

/// Rewrites the times of an inode of a subvolume, whose root is one that mkfs made where it was given no
/// directory to copy: then all its times are one, that of origin too, which no directory brings with it.
pub(super) fn rewrite(inode: &mut [u8], is_root: bool, policy: InodeTimes, time_s: u64) {
    let modified = time(inode, MTIME);
    let is_made = is_root && modified != NONE && ALL.iter().all(|at| time(inode, *at) == modified);
    if is_made {
        stamp_inode(inode, time_s);
    } else if policy == InodeTimes::OfModification {
        for at in [ATIME, CTIME] {
            inode[at..at + TIME_SIZE].copy_from_slice(&modified);
        }
        if time(inode, OTIME) != NONE {
            inode[OTIME..OTIME + TIME_SIZE].copy_from_slice(&modified);
        }
    }
}
