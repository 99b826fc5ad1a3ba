//! Places that outputs go to, looked at before any work is done: what took minutes is not to end with a name mistyped.

use crate::{
    Error,
    disk::{DiskForm, DiskOutput, check_stream},
    error::Kind,
};
use kiln_image::reference::Location;
use kiln_transport::{OutputSpec, PendingFile};
use rustix::fs::{Access, access};
use std::{io, path::Path};

/// Standard output.
const STDOUT: &str = "-";

/// Whether an image can be written where it is to go. Registries are asked when it is pushed.
pub(super) fn check_image(spec: &OutputSpec) -> Result<(), Error> {
    match &spec.dest.location {
        Location::DockerArchive { path, .. } | Location::OciArchive { path, .. } => {
            check(path, PendingFile::check)
        }
        Location::Oci { path, .. } | Location::Dir { path } => check(path, check_directory),
        Location::Rootfs { .. } | Location::Path { .. } | Location::Registry(_) | Location::Scratch => Ok(()),
    }
}

/// Whether a disk can be written where it is to go.
pub(super) fn check_disk(output: &DiskOutput) -> Result<(), Error> {
    if output.dest == Path::new(STDOUT) {
        return check_stream(&output.form);
    }
    match output.form {
        DiskForm::Chain | DiskForm::Kernel => check(&output.dest, check_directory),
        _ => check(&output.dest, PendingFile::check),
    }
}

fn check(dest: impl AsRef<Path>, how: fn(&Path) -> io::Result<()>) -> Result<(), Error> {
    let dest = dest.as_ref();
    if dest == Path::new(STDOUT) {
        return Ok(());
    }
    how(dest).map_err(|source| Kind::Destination { dest: dest.to_owned(), source }.into())
}

/// Directories are made where there are none.
fn check_directory(dest: &Path) -> io::Result<()> {
    let existing = dest.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
    if !existing.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    Ok(access(existing, Access::WRITE_OK | Access::EXEC_OK)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse_disk_output;

    #[test]
    fn what_cannot_be_made_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("file"), "").unwrap();
        let table: [(&str, bool, bool); 6] = [
            ("new", true, true),
            ("file", true, false),
            ("", false, true),
            ("missing/new", false, true),
            ("missing/more/new", false, true),
            ("file/new", false, false),
        ];
        for (name, as_file, as_directory) in table {
            assert_eq!(PendingFile::check(&path(name)).is_ok(), as_file, "{name:?}");
            assert_eq!(check_directory(&path(name)).is_ok(), as_directory, "{name:?}");
        }
        assert!(PendingFile::check(Path::new("/dev/null")).is_ok());
        assert!(check_directory(Path::new("relative/new")).is_ok());
        // Nothing is left behind.
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_needs_a_file_does_not_go_to_standard_output() {
        let disk = |text: &str| check_disk(&parse_disk_output(text).unwrap().unwrap());
        assert!(disk("type=raw,dest=-").is_ok());
        assert!(disk("type=ova,dest=-").is_ok());
        for text in ["type=qcow2,dest=-", "type=vmdk,dest=-", "type=kernel,dest=-"] {
            assert!(disk(text).unwrap_err().to_string().contains(" need"), "{text}");
        }
    }

    #[test]
    fn errors_name_the_place() {
        let error = check("/nowhere/disk.raw", PendingFile::check).unwrap_err();
        assert_eq!(error.to_string(), "cannot write /nowhere/disk.raw");
    }
}
