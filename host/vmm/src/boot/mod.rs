//! What a kernel finds in memory when it starts: itself, its initramfs, and what the machine is like.

use linux_loader as _;
use std::fs::File;
use vm_memory::{GuestAddress, GuestMemoryMmap};

/// How the first processor enters a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// In 32-bit protected mode without paging, `ebx` = [`layout::PVH_START_INFO`](crate::layout::PVH_START_INFO)
    /// ([PVH](https://xenbits.xen.org/docs/unstable/misc/pvh.html)).
    Pvh(GuestAddress),
    /// In 64-bit mode over [`layout::PAGE_TABLES`](crate::layout::PAGE_TABLES), `rsi` =
    /// [`layout::ZERO_PAGE`](crate::layout::ZERO_PAGE).
    Linux64(GuestAddress),
}

/// What to boot.
pub struct Payload<'a> {
    /// A vmlinux or bzImage.
    pub kernel: &'a mut File,
    /// Its first file system.
    pub initramfs: &'a mut File,
    /// Without the final zero.
    pub command_line: &'a str,
    /// For the MP table.
    pub cpus: u8,
}
