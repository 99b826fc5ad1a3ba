//! `kiln cache`.

use crate::{arguments::CacheCommand, installation};
use anyhow::Result;
use indicatif::HumanBytes;
use kiln_store::{Prune, Store};
use std::time::Duration;

/// What was used since is kept by a plain `kiln cache prune`.
const KEEP_FOR: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Shows or empties the cache.
pub fn run(command: &CacheCommand) -> Result<()> {
    let dir = installation::cache_dir();
    let store = Store::open(&dir)?;
    match command {
        CacheCommand::Du => {
            println!("{}", dir.display());
            for usage in store.du()? {
                println!("{:>12}  {:>6}  {}", HumanBytes(usage.bytes).to_string(), usage.count, usage.kind);
            }
        }
        CacheCommand::Prune { all } => {
            let policy = if *all { Prune::All } else { Prune::UnusedFor(KEEP_FOR) };
            let removed = store.prune(policy)?;
            println!("removed {} files, {}", removed.count, HumanBytes(removed.bytes));
        }
    }
    Ok(())
}
