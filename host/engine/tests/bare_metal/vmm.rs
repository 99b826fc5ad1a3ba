//! What kiln is when it is its own VMM process.

fn main() -> std::process::ExitCode {
    kiln_engine::vmm_main()
}
