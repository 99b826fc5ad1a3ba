//! Initial RAM disks, made by the image's own tool for each kernel.

use super::{
    plan::{DiskPlan, FileSystem, Initrd, is_writable},
    shell::quote,
    survey::{self, Kernel},
};
use kiln_image::tree::Tree;

/// What a disk may be found behind: virtio, SCSI, NVMe, SATA, Xen, Hyper-V.
const DRIVERS: &str = "virtio_blk virtio_scsi virtio_pci virtio_mmio sd_mod sr_mod ahci ata_piix mptspi mptsas \
                       vmw_pvscsi nvme xen-blkfront hv_storvsc usb-storage";

/// A tool that makes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tool {
    InitramfsTools,
    Dracut,
    Mkinitcpio,
    Booster,
    MkosiInitrd,
    Mkinitrd,
}

impl Tool {
    /// That of an image; the one that is made for it, where it has several.
    pub fn of(tree: &Tree) -> Option<Self> {
        let tools = [
            ("update-initramfs", Self::InitramfsTools),
            ("dracut", Self::Dracut),
            ("mkinitcpio", Self::Mkinitcpio),
            ("booster", Self::Booster),
            ("mkosi-initrd", Self::MkosiInitrd),
            ("mkinitrd", Self::Mkinitrd),
        ];
        // Debian's dracut brings an update-initramfs of its own, which calls it.
        let has_dracut = survey::has(tree, "usr/lib/dracut") && survey::program(tree, &["dracut"]).is_some();
        let has = |name: &str| survey::program(tree, &[name]).is_some();
        tools
            .into_iter()
            .find(|(name, tool)| has(name) && !(*tool == Self::InitramfsTools && has_dracut))
            .map(|(_, tool)| tool)
    }

    fn command(self, kernel: &Kernel, output: &str, root: Option<FileSystem>) -> String {
        let root = root.map_or("", FileSystem::name);
        let (version, output) = (quote(&kernel.version), quote(&format!("/{output}")));
        match self {
            // `most` even where the image says `dep`: that would be what this VM needs.
            Self::InitramfsTools => format!(
                "c=/etc/initramfs-tools/conf.d/zz-kiln m=/usr/share/initramfs-tools/modules.d/zz-kiln\ntrap 'rm -f $c $m' \
                 EXIT\necho MODULES=most >$c\necho {root} >$m\nmkinitramfs -o {output} {version}"
            ),
            Self::Dracut => format!(
                "dracut --force --no-hostonly --reproducible --add-drivers '{DRIVERS} {root}' --kver {version} {output}"
            ),
            Self::Mkinitcpio => format!("mkinitcpio -S autodetect -k {version} -g {output}"),
            Self::Booster => format!("booster build --force --universal --kernel-version {version} {output}"),
            Self::MkosiInitrd => format!(
                "mkosi-initrd --kernel-version {version} --output-dir \"$(dirname {output})\" --output \"$(basename {output})\""
            ),
            Self::Mkinitrd => {
                let with: String = DRIVERS.split(' ').map(|driver| format!(" --with={driver}")).collect();
                format!("mkinitrd -f{with} --allow-missing {output} {version}")
            }
        }
    }
}

/// A script for each kernel that needs one, with what it is called.
pub(crate) fn steps(
    plan: &DiskPlan,
    tree: &Tree,
    kernels: &[Kernel],
) -> Result<Vec<(String, String)>, String> {
    let root = plan.root().and_then(|root| plan.partitions[root].file_system);
    // What is made for any machine knows how to mount the usual roots, and these are not.
    let is_unusual = root.is_some_and(|root| !is_writable(root));
    let needs = |kernel: &&Kernel| match plan.initrd {
        Initrd::Never => false,
        Initrd::Always => true,
        Initrd::Missing => kernel.initrd.is_none() || is_unusual,
    };
    let tool = Tool::of(tree);
    let mut steps = Vec::new();
    for kernel in kernels.iter().filter(needs) {
        let Some(tool) = tool else {
            // A kernel may have all it needs built in.
            if plan.initrd == Initrd::Missing {
                continue;
            }
            return Err(
                "the image has no tool that makes initial RAM disks (initramfs-tools, dracut, mkinitcpio, \
                        booster, mkosi-initrd, mkinitrd)"
                    .to_owned(),
            );
        };
        let output = kernel.initrd.clone().unwrap_or_else(|| usual_name(tool, kernel));
        steps.push((
            format!("initrd of {}", kernel.version),
            format!("set -e\n{}\n", tool.command(kernel, &output, root)),
        ));
    }
    Ok(steps)
}

/// Where the distributions of a tool look for them.
fn usual_name(tool: Tool, kernel: &Kernel) -> String {
    let is_debian = kernel.path.starts_with("boot/vmlinuz-") && kernel.version.contains("-amd64");
    match tool {
        Tool::InitramfsTools => format!("boot/initrd.img-{}", kernel.version),
        Tool::Dracut if is_debian => format!("boot/initrd.img-{}", kernel.version),
        Tool::Mkinitrd => format!("boot/initrd-{}.img", kernel.version),
        _ => format!("boot/initramfs-{}.img", kernel.version),
    }
}
