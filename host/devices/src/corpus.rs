//! What tests do to devices, as inputs for fuzzing to start from (`docs/fuzzing.md`).

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;

/// Names the directory that gets them, one directory for each target; without it, tests are only tests.
const DIRECTORY: &str = "KILN_CORPUS";

/// Keeps an input of a fuzzing target, if inputs are wanted.
pub(crate) fn seed(target: &str, input: &[u8]) {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let directory = PathBuf::from(directory).join(target);
    let mut hasher = DefaultHasher::new();
    input.hash(&mut hasher);
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join(format!("{:016x}", hasher.finish())), input).unwrap();
}
