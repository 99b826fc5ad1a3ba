//! Our own machine on `/dev/kvm`: not built yet. Its probe already says what it will need.

use crate::error::Kind;
use crate::{Engine, Error, Machine, MachineSpec, Unusable, Usable};
use std::fs::OpenOptions;
use std::io;

const DEVICE: &str = "/dev/kvm";

/// See the module.
#[derive(Debug, Clone, Copy, Default)]
pub struct Kvm;

impl Engine for Kvm {
    fn name(&self) -> &'static str {
        "kvm"
    }

    fn probe(&self) -> Result<Usable, Unusable> {
        let opened = OpenOptions::new().read(true).write(true).open(DEVICE);
        Err(refusal(opened.as_ref().err().map(io::Error::kind)))
    }

    fn launch(&self, _spec: MachineSpec) -> Result<Box<dyn Machine>, Error> {
        let why = refusal(None);
        Err(Kind::NoEngine(vec![(self.name(), why)]).into())
    }
}

/// What opening the device says comes with it, so that it can be mended before it matters.
fn refusal(open_error: Option<io::ErrorKind>) -> Unusable {
    let not_built = "the KVM engine is not built into this version yet";
    let (also, remedy) = match open_error {
        None => (format!("{DEVICE} can be opened"), None),
        Some(io::ErrorKind::NotFound) => (
            format!("there is no {DEVICE}"),
            Some("switch on virtualisation in the firmware and load kvm_intel or kvm_amd"),
        ),
        Some(io::ErrorKind::PermissionDenied) => (
            format!("{DEVICE} may not be opened"),
            Some("join its group: sudo usermod -aG kvm \"$USER\", then log in again"),
        ),
        Some(other) => (format!("{DEVICE} cannot be opened: {other}"), None),
    };
    Unusable { reason: format!("{not_built}; {also}"), remedy: remedy.map(str::to_owned) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_permission_names_the_group_and_the_command() {
        let why = refusal(Some(io::ErrorKind::PermissionDenied)).to_string();
        assert_eq!(
            why,
            "the KVM engine is not built into this version yet; /dev/kvm may not be opened \
             (join its group: sudo usermod -aG kvm \"$USER\", then log in again)"
        );
    }

    #[test]
    fn the_engine_is_refused_whatever_the_device_says() {
        assert!(Kvm.probe().unwrap_err().reason.contains("not built into this version yet"));
    }
}
