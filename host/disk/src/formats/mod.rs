//! Formats of virtual disks: raw, qcow2, VMDK, VHD, VHDX, VDI.
