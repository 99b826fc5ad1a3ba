//! VMX: the machine of a VMware Player or Workstation, as lines of names and values.
//!
//! VMware documents no grammar. Values are in double quotes; what would end one, and what no line can have, is written as `|` and
//! two hexadecimal digits, as VMware's own programs do it.

use super::machine::{Adapter, Firmware, MEBIBYTE, Machine, NetworkCard, check_file_name};
use crate::Error;
use std::fmt::Write;

/// The file beside a VMDK called `disk_file`, in UTF-8.
///
/// # Errors
/// When the machine or the name of the file cannot be.
pub fn vmx(machine: &Machine, disk_file: &str) -> Result<String, Error> {
    machine.check()?;
    check_file_name(disk_file)?;
    let mut vmx = Vmx(String::new());
    vmx.set(".encoding", "UTF-8");
    vmx.set("config.version", "8");
    vmx.set("virtualHW.version", &machine.hardware_version.to_string());
    vmx.set("displayName", &machine.name);
    if !machine.description.is_empty() {
        vmx.set("annotation", &machine.description);
    }
    vmx.set("guestOS", "otherlinux-64");
    vmx.set("numvcpus", &machine.processors.to_string());
    vmx.set("memsize", &(machine.memory / MEBIBYTE).to_string());
    if machine.firmware == Firmware::Efi {
        vmx.set("firmware", "efi");
    }
    vmx.bridges();
    vmx.disk(machine.adapter, disk_file);
    if let Some(card) = machine.network_card {
        vmx.network(card);
    }
    vmx.set("floppy0.present", "FALSE");
    Ok(vmx.0)
}

struct Vmx(String);

impl Vmx {
    fn set(&mut self, name: &str, value: &str) {
        writeln!(self.0, "{name} = \"{}\"", escaped(value)).expect("a string takes all");
    }

    /// What PCI Express cards, the paravirtual ones among them, are plugged into.
    fn bridges(&mut self) {
        self.set("pciBridge0.present", "TRUE");
        self.set("pciBridge4.present", "TRUE");
        self.set("pciBridge4.virtualDev", "pcieRootPort");
        self.set("pciBridge4.functions", "8");
    }

    fn disk(&mut self, adapter: Adapter, file: &str) {
        let (controller, device, device_type) = match adapter {
            Adapter::LsiLogic => ("scsi", Some("lsilogic"), "scsi-hardDisk"),
            Adapter::BusLogic => ("scsi", Some("buslogic"), "scsi-hardDisk"),
            Adapter::LsiSas => ("scsi", Some("lsisas1068"), "scsi-hardDisk"),
            Adapter::ParavirtualScsi => ("scsi", Some("pvscsi"), "scsi-hardDisk"),
            Adapter::Ide => ("ide", None, "ata-hardDisk"),
            Adapter::Ahci => ("sata", None, "ata-hardDisk"),
        };
        // IDE controllers are always there.
        if adapter != Adapter::Ide {
            self.set(&format!("{controller}0.present"), "TRUE");
        }
        if let Some(device) = device {
            self.set(&format!("{controller}0.virtualDev"), device);
        }
        self.set(&format!("{controller}0:0.present"), "TRUE");
        self.set(&format!("{controller}0:0.fileName"), file);
        self.set(&format!("{controller}0:0.deviceType"), device_type);
    }

    fn network(&mut self, card: NetworkCard) {
        self.set("ethernet0.present", "TRUE");
        self.set("ethernet0.connectionType", "nat");
        // The default without a line, which older versions know no name for.
        let device = match card {
            NetworkCard::Pcnet32 => None,
            NetworkCard::E1000 => Some("e1000"),
            NetworkCard::E1000e => Some("e1000e"),
            NetworkCard::Vmxnet3 => Some("vmxnet3"),
        };
        if let Some(device) = device {
            self.set("ethernet0.virtualDev", device);
        }
        self.set("ethernet0.addressType", "generated");
    }
}

fn escaped(value: &str) -> String {
    let mut escaped = String::new();
    for character in value.chars() {
        match character {
            '"' | '|' | '#' => write!(escaped, "|{:02X}", character as u32).expect("a string takes all"),
            control if control.is_ascii_control() => {
                write!(escaped, "|{:02X}", control as u32).expect("a string takes all");
            }
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usual_machine() {
        let expected = r#".encoding = "UTF-8"
config.version = "8"
virtualHW.version = "10"
displayName = "say |22hi|22 |7C ü"
guestOS = "otherlinux-64"
numvcpus = "1"
memsize = "1024"
pciBridge0.present = "TRUE"
pciBridge4.present = "TRUE"
pciBridge4.virtualDev = "pcieRootPort"
pciBridge4.functions = "8"
scsi0.present = "TRUE"
scsi0.virtualDev = "lsilogic"
scsi0:0.present = "TRUE"
scsi0:0.fileName = "debian.vmdk"
scsi0:0.deviceType = "scsi-hardDisk"
ethernet0.present = "TRUE"
ethernet0.connectionType = "nat"
ethernet0.virtualDev = "e1000"
ethernet0.addressType = "generated"
floppy0.present = "FALSE"
"#;
        assert_eq!(vmx(&Machine::new("say \"hi\" | ü"), "debian.vmdk").unwrap(), expected);
    }

    #[test]
    fn another_machine() {
        let machine = Machine {
            description: "two\nlines".to_owned(),
            firmware: Firmware::Efi,
            adapter: Adapter::Ide,
            network_card: None,
            ..Machine::new("machine")
        };
        let vmx = vmx(&machine, "disk.vmdk").unwrap();
        for line in ["annotation = \"two|0Alines\"", "firmware = \"efi\"", "ide0:0.fileName = \"disk.vmdk\""]
        {
            assert!(vmx.lines().any(|found| found == line), "{line} is not in {vmx}");
        }
        assert!(!vmx.contains("ethernet") && !vmx.contains("scsi"));
    }

    #[test]
    fn names_that_are_paths() {
        vmx(&Machine::new("machine"), "../disk.vmdk").unwrap_err();
    }
}
