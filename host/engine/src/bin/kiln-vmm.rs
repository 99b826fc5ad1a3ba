//! The VMM process alone, for tests: kiln itself becomes it by a hidden argument.

use std::process::ExitCode;

fn main() -> ExitCode {
    kiln_vmm::main()
}
