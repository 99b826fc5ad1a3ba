//! Where kiln's own guest files are.

use anyhow::{Context, Result};
use kiln_store::Store;
use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// Overrides the directory with the guest files.
const LIB_VARIABLE: &str = "KILN_LIB";

/// Overrides the cache directory.
const CACHE_VARIABLE: &str = "KILN_CACHE";

/// The guest files: `lib/kiln` beside the `bin` kiln lies in.
pub fn lib_dir() -> Result<PathBuf> {
    if let Some(dir) = env::var_os(LIB_VARIABLE) {
        return Ok(dir.into());
    }
    let program = env::current_exe().context("cannot tell where kiln is installed")?;
    let prefix = program.parent().and_then(Path::parent).unwrap_or(Path::new("/"));
    Ok(prefix.join("lib/kiln"))
}

/// The cache: `$KILN_CACHE`, `$XDG_CACHE_HOME/kiln` or `~/.cache/kiln`. Without a home, as in many
/// containers, one in the temporary directory that belongs to this user.
pub fn cache_dir() -> PathBuf {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    if let Some(dir) = env::var_os(CACHE_VARIABLE).filter(|dir| !dir.is_empty()) {
        return dir.into();
    }
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").filter(|home| is_writable(home)).map(|home| home.join(".cache")))
        .map(|cache| cache.join("kiln"))
        .unwrap_or_else(|| {
            env::temp_dir().join(format!("kiln-cache-{}", rustix::process::geteuid().as_raw()))
        })
}

/// The store in the cache directory.
pub fn store() -> Result<Store> {
    Store::open(&cache_dir())
        .with_context(|| format!("cannot use the cache; {CACHE_VARIABLE} may name another directory"))
}

fn is_writable(dir: &Path) -> bool {
    fs::metadata(dir).is_ok_and(|metadata| metadata.is_dir())
        && rustix::fs::access(dir, rustix::fs::Access::WRITE_OK).is_ok()
}
