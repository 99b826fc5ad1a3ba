//! Disks of ours are read by `qemu-img`, and its disks by us.

mod file;
mod read;
mod write;
