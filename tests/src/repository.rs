//! Where things lie in this repository.

use std::path::{Path, PathBuf};

/// The repository's root.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the repository")
}

/// The kiln under test: `$KILN_TEST_BINARY`, else what `scripts/build` made.
///
/// # Panics
/// When it is not built.
pub fn kiln_binary() -> PathBuf {
    let binary =
        std::env::var_os("KILN_TEST_BINARY").map_or_else(|| repository().join("out/bin/kiln"), PathBuf::from);
    assert!(binary.is_file(), "{} is missing: run scripts/build", binary.display());
    binary
}
