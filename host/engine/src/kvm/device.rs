//! The device by which the kernel virtualises.

use crate::Unusable;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

/// Where it usually is.
pub(super) const DEVICE: &str = "/dev/kvm";

/// The only version of the interface there has been since Linux 2.6.22 (`KVM_API_VERSION`,
/// [api.rst](https://docs.kernel.org/virt/kvm/api.html#kvm-get-api-version)). The VMM process insists on it.
pub(super) const API_VERSION: u32 = 12;

/// Opens it at `path`.
///
/// # Errors
/// Why not, and what to do about it.
pub(super) fn open(path: &Path) -> Result<File, Unusable> {
    OpenOptions::new().read(true).write(true).open(path).map_err(|error| refusal(path, &error))
}

fn refusal(path: &Path, error: &io::Error) -> Unusable {
    let path = path.display();
    let (reason, remedy) = match error.kind() {
        io::ErrorKind::NotFound => (
            format!("there is no {path}"),
            Some("switch on virtualisation in the firmware and load kvm_intel or kvm_amd"),
        ),
        io::ErrorKind::PermissionDenied => (
            format!("{path} may not be opened"),
            Some("join its group: sudo usermod -aG kvm \"$USER\", then log in again"),
        ),
        _ => (format!("{path} cannot be opened: {error}"), None),
    };
    Unusable { reason, remedy: remedy.map(str::to_owned) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_permission_names_the_group_and_the_command() {
        assert_eq!(
            refusal(Path::new(DEVICE), &io::ErrorKind::PermissionDenied.into()).to_string(),
            "/dev/kvm may not be opened (join its group: sudo usermod -aG kvm \"$USER\", then log in again)"
        );
    }

    #[test]
    fn a_missing_device_names_the_modules() {
        assert_eq!(
            refusal(Path::new(DEVICE), &io::ErrorKind::NotFound.into()).to_string(),
            "there is no /dev/kvm (switch on virtualisation in the firmware and load kvm_intel or kvm_amd)"
        );
    }
}
