//! The guest's program, built once.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Builds it, if it is not up to date.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let target = repository.join("target/test-guest");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "--release", "--locked", "--manifest-path"]);
        build.arg(repository.join("tests/guest/Cargo.toml")).arg("--target-dir").arg(&target);
        // What is meant for programs of the host, such as its processor's features, is not for this one.
        for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET"] {
            build.env_remove(variable);
        }
        let status = build.status().expect("this test needs cargo");
        assert!(status.success(), "the guest's program does not build");
        target.join("release/kiln-test-guest")
    })
}
