//! `kiln cache`.

use crate::{arguments::CacheCommand, installation};
use anyhow::Result;
use indicatif::HumanBytes;
use kiln_store::Prune;
use std::{
    io::{self, Write},
    time::Duration,
};

/// What was used since is kept by a plain `kiln cache prune`.
const KEEP_FOR: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Shows or empties the cache.
pub fn run(command: &CacheCommand) -> Result<()> {
    let store = installation::store()?;
    let mut out = io::stdout().lock();
    match command {
        CacheCommand::Du => {
            writeln!(out, "{}", store.path().display())?;
            for usage in store.du()?.into_iter().chain([kiln_toolbox::usage(store.path())?]) {
                let size = HumanBytes(usage.bytes).to_string();
                writeln!(out, "{size:>12}  {:>6}  {}", usage.count, usage.kind)?;
            }
        }
        CacheCommand::Prune { all } => {
            let policy = if *all { Prune::All } else { Prune::UnusedFor(KEEP_FOR) };
            let mut removed = store.prune(policy)?;
            let archives = kiln_toolbox::prune(store.path(), policy)?;
            removed.count += archives.count;
            removed.bytes += archives.bytes;
            writeln!(out, "removed {} files, {}", removed.count, HumanBytes(removed.bytes))?;
        }
    }
    Ok(())
}
