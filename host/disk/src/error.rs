//! What can go wrong when a file system is laid out.

use crate::ext4;

/// The file system cannot be made as asked.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(#[from] Kind);

#[derive(Debug, thiserror::Error)]
pub(crate) enum Kind {
    #[error(
        "a scratch disk of {0} bytes: it must have {min} (16 MiB) to {max} (64 TiB)",
        min = ext4::MIN_SIZE,
        max = ext4::MAX_SIZE
    )]
    ScratchSize(u64),
}
