//! What the host asks of the agent.

use serde::{Deserialize, Serialize};

/// A message from the host.
#[expect(clippy::large_enum_variant, reason = "there is one job in a connection")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromHost {
    /// What to do; the first message, sent once.
    Job(Job),
    /// Input for the running step, when it has [`Step::stdin`].
    Stdin(#[serde(with = "serde_bytes")] Vec<u8>),
    /// No more input: the step reads an end of file.
    StdinEnd,
}

/// Everything the agent does before it powers off.
///
/// Disks are named by their virtio-blk serial ("get ID" string, at most 20 bytes), as the guest
/// reads it in `/sys/block/*/serial`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Host name the steps see. Fixed, so that results do not depend on the builder.
    pub hostname: String,
    /// The guest's clock at the first step: seconds since the Unix epoch.
    pub clock: u64,
    /// The EROFS disk with the base image, the overlay's lower layer. `None`: from scratch.
    pub base: Option<String>,
    /// The EROFS disk whose userland the hooks run in. `None`: the base.
    pub tools: Option<String>,
    /// The EROFS disk with what is copied into the new layer before the first step.
    pub contents: Option<String>,
    /// The writable disk (ext4) for everything that changes.
    pub scratch: String,
    /// The disk that is being made: with its partitions it is in the `/dev` of every step.
    pub target: Option<Target>,
    /// In order; stages never go backwards.
    pub steps: Vec<Step>,
    /// Whether to send the new layer when all steps ended well.
    pub send_layer: bool,
}

/// A disk that is being made, with a partition table in place.
///
/// Nothing of it is mounted. What asks the kernel where a directory lies (as boot loaders' installers do) is told of
/// the partitions all the same: the merged tree is mounted with the root's device as its source, and so are the other
/// mount points in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The writable disk.
    pub serial: String,
    /// What lies where in the merged tree.
    pub mounts: Vec<TargetMount>,
    /// Names under `/dev/disk`, such as `by-uuid/...`, with the partitions they mean.
    pub links: Vec<(String, u32)>,
}

/// A directory of the merged tree that is a file system of its own on the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetMount {
    /// Number of the partition; 0 is the whole disk.
    pub partition: u32,
    /// Relative to the root; empty is the root itself.
    pub path: String,
}

/// When, and in which root, a step runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Stage {
    /// Contents are in the layer directory, the overlay is not mounted yet. Root: the tools.
    PreMount,
    /// The overlay of base and layer is `/`, with `/dev`, `/proc` and `/sys` mounted.
    Root,
    /// The overlay is mounted at `$mnt`. Root: the tools.
    PostMount,
    /// The overlay is gone, the working directory is the layer, `$layer`. Root: the tools.
    PostUmount,
    /// The base alone is at `$mnt`, read-only, to be put onto the target. Root: the tools.
    Disk,
}

/// One command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// For people: the build file's key, such as `run-as-root`.
    pub name: String,
    /// When it runs.
    pub stage: Stage,
    /// What it runs.
    pub program: Program,
    /// `user[:group]`, each a name or number, as in an image's `User`. `None`: root.
    pub user: Option<String>,
    /// The whole environment, `NAME=value`. The agent adds only `layer` and `mnt` for hooks, and
    /// `HOME` from the user's entry when it is not given.
    pub environment: Vec<String>,
    /// Where it starts; `/` (or the layer, for [`Stage::PostUmount`]) if not given.
    pub working_directory: Option<String>,
    /// Whether the step reads [`FromHost::Stdin`]; `/dev/null` if not.
    pub stdin: bool,
}

/// What a step runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Program {
    /// A script: run by its `#!` line, or by `/bin/sh -e` without one.
    Script(#[serde(with = "serde_bytes")] Vec<u8>),
    /// A program and its arguments; a name without `/` is looked up in the environment's `PATH`.
    Command(Vec<String>),
}
