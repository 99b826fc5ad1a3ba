//! systemd-boot and unified kernel images: files on the EFI system partition, and nothing else.
//!
//! [Boot Loader Specification](https://uapi-group.org/specifications/specs/boot_loader_specification/),
//! [Unified Kernel Image](https://uapi-group.org/specifications/specs/unified_kernel_image/).

use super::{Read, Scene};
use crate::{
    Error,
    disk::{edit::Edit, plan::Loader},
    error::Kind,
};
use kiln_disk::uki::{Section, build};

const LOADER: &str = "usr/lib/systemd/boot/efi/systemd-bootx64.efi";
const STUB: &str = "usr/lib/systemd/boot/efi/linuxx64.efi.stub";
/// Where firmware looks on a disk it knows nothing of
/// ([UEFI 2.10, 3.5.1.1](https://uefi.org/specs/UEFI/2.10/03_Boot_Manager.html#removable-media-boot-behavior)).
const REMOVABLE: &str = "EFI/BOOT/BOOTX64.EFI";

pub(super) fn check(loader: Loader, scene: &Scene) -> Result<(), String> {
    let (path, what) = match loader {
        Loader::Uki => (STUB, "the stub of unified kernel images"),
        _ => (LOADER, "systemd-boot"),
    };
    let missing = || {
        format!(
            "neither the image nor the toolbox has {what} (/{path}); Debian's package is systemd-boot-efi"
        )
    };
    scene.either(path).map(|_| ()).ok_or_else(missing)
}

fn esp<'s>(scene: &'s Scene) -> &'s str {
    scene.esp.as_deref().expect("checked before anything ran")
}

fn read_either(scene: &Scene, path: &str, read: Read) -> Result<Vec<u8>, Error> {
    read(path, scene.either(path).unwrap_or(true))
}

pub(super) fn boot_files(scene: &Scene, read: Read) -> Result<Vec<Edit>, Error> {
    let esp = esp(scene);
    let loader = read_either(scene, LOADER, read)?;
    let file = |path: &str, bytes: Vec<u8>| Edit::File { path: format!("{esp}/{path}"), mode: 0o644, bytes };
    let mut edits = vec![file(REMOVABLE, loader.clone()), file("EFI/systemd/systemd-bootx64.efi", loader)];
    let configuration = format!("timeout {}\nconsole-mode keep\n", scene.plan.boot_timeout);
    edits.push(file("loader/loader.conf", configuration.into_bytes()));
    for kernel in scene.kernels {
        let directory = format!("kiln/{}", kernel.version);
        let mut entry =
            format!("title {}\nversion {}\nlinux /{directory}/linux\n", scene.title, kernel.version);
        edits.push(Edit::Copy { from: kernel.path.clone(), to: format!("{esp}/{directory}/linux") });
        if let Some(initrd) = &kernel.initrd {
            entry.push_str(&format!("initrd /{directory}/initrd\n"));
            edits.push(Edit::Copy { from: initrd.clone(), to: format!("{esp}/{directory}/initrd") });
        }
        entry.push_str(&format!("options {}\n", scene.command_line()));
        edits.push(file(&format!("loader/entries/kiln-{}.conf", kernel.version), entry.into_bytes()));
    }
    Ok(edits)
}

pub(super) fn unified(scene: &Scene, read: Read) -> Result<Vec<Edit>, Error> {
    let esp = esp(scene);
    let stub = read_either(scene, STUB, read)?;
    let release = read("usr/lib/os-release", false).or_else(|_| read("etc/os-release", false));
    let has_menu = scene.plan.boot.contains(&Loader::SystemdBoot);
    let mut edits = Vec::new();
    for (index, kernel) in scene.kernels.iter().enumerate() {
        let (options, uname) = (scene.command_line(), &kernel.version);
        let mut sections: Vec<(&str, Vec<u8>)> =
            vec![(".cmdline", options.into_bytes()), (".uname", uname.clone().into_bytes())];
        if let Ok(release) = &release {
            sections.insert(0, (".osrel", release.clone()));
        }
        // The kernel last: it may write over what follows while it unpacks itself.
        if let Some(initrd) = &kernel.initrd {
            sections.push((".initrd", read(initrd, false)?));
        }
        sections.push((".linux", read(&kernel.path, false)?));
        let sections: Vec<Section> =
            sections.iter().map(|(name, contents)| Section { name, contents }).collect();
        let image = build(&stub, &sections).map_err(|source| Kind::Disk {
            what: format!("cannot make a unified kernel image of Linux {}", kernel.version),
            source,
        })?;
        edits.push(Edit::File {
            path: format!("{esp}/EFI/Linux/kiln-{}.efi", kernel.version),
            mode: 0o644,
            bytes: image.clone(),
        });
        if index == 0 && !has_menu {
            edits.push(Edit::File { path: format!("{esp}/{REMOVABLE}"), mode: 0o644, bytes: image });
        }
    }
    Ok(edits)
}
