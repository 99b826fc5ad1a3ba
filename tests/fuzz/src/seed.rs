//! Inputs that tests keep for fuzzing to start from.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;

/// Keeps an input of a target if `KILN_CORPUS` names the directory for them.
pub fn keep(target: &str, input: &[u8]) {
    let Some(directory) = std::env::var_os("KILN_CORPUS") else { return };
    let directory = PathBuf::from(directory).join(target);
    let mut hasher = DefaultHasher::new();
    input.hash(&mut hasher);
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join(format!("{:016x}", hasher.finish())), input).unwrap();
}
