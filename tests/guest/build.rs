//! Links a program that needs neither a C library nor an operating system.

fn main() {
    println!("cargo:rerun-if-changed=src/layout.ld");
    let script =
        format!("-Wl,-T,{}/src/layout.ld", std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let arguments = ["-nostartfiles", "-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none", &script];
    for argument in arguments {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}
