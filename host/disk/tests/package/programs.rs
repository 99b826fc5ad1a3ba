//! Programs that read what was written.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

/// What a program prints, when it ends well.
pub fn told<A: AsRef<OsStr>>(program: &str, package: &str, arguments: &[A], directory: &Path) -> String {
    let output =
        Command::new(program).args(arguments).current_dir(directory).env("LC_ALL", "C.UTF-8").output();
    let output =
        output.unwrap_or_else(|_| panic!("this test needs {program}: install Debian's package {package}"));
    let text = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{program} failed: {text}");
    text
}

pub fn tar(arguments: &[&str], directory: &Path) -> String {
    told("tar", "tar", arguments, directory)
}

pub fn xmllint<A: AsRef<OsStr>>(arguments: &[A], directory: &Path) -> String {
    told("xmllint", "libxml2-utils", arguments, directory)
}

pub fn qemu_img(arguments: &[&str], directory: &Path) -> String {
    told("qemu-img", "qemu-utils", arguments, directory)
}
