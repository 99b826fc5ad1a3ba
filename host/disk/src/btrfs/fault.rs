//! Why a file system is left as it is.

use std::io;

/// What is wrong, with the place in the partition (in bytes) or in the file system's own addresses.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("cannot read it at byte {0}")]
    Read(u64, #[source] io::Error),
    #[error("cannot write it at byte {0}")]
    Write(u64, #[source] io::Error),
    #[error("byte {0} and {1} more are beyond its end")]
    BeyondEnd(u64, u64),
    #[error("the superblock at byte 65536 is wrong: {0}")]
    Superblock(&'static str),
    #[error("it has {0}, which kiln does not know how to rewrite")]
    Unsupported(&'static str),
    #[error("the node at address {0} is wrong: {1}")]
    Node(u64, &'static str),
    #[error("item {1} of the leaf at address {0} is wrong: {2}")]
    Item(u64, usize, &'static str),
    #[error("address {0} and {1} more are in no chunk")]
    Unmapped(u64, u64),
    #[error("it has more than {0} nodes, or a tree that leads back to itself")]
    Nodes(usize),
    #[error("it has more than {0} ranges in use")]
    Ranges(usize),
}
