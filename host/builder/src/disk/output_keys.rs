//! Where disks go, as it is written: `type=TYPE,dest=PATH,KEY=VALUE...`, or a path whose ending says the type.

use super::plan::{Appliance, ApplianceForm, DiskForm, DiskOutput, FileSystem, Vmware};
use kiln_disk::formats::{
    qcow2,
    vhd::Layout,
    vmdk::{Adapter, Subformat},
};
use kiln_image::compress::Compression;
use std::cell::RefCell;

/// Words of `type=` that mean a disk, and endings of files that do.
const TYPES: [(&str, &[&str]); 16] = [
    ("raw", &["raw", "img"]),
    ("disk", &[]),
    ("qcow2", &["qcow2"]),
    ("vmdk", &["vmdk"]),
    ("vhd", &["vhd", "vpc"]),
    ("vhdx", &["vhdx"]),
    ("vdi", &["vdi"]),
    ("ova", &["ova"]),
    ("xva", &["xva"]),
    ("vmware-zip", &["zip"]),
    ("vmware-tar", &["tgz"]),
    ("qcow2-chain", &[]),
    ("iso", &["iso"]),
    ("squashfs", &["squashfs", "sqfs"]),
    ("erofs", &["erofs"]),
    ("kernel", &[]),
];

/// Memory of an appliance's machine, unless given.
const MEMORY: u64 = 1 << 30;

/// zlib's level in qcow2 files, which is `qemu-img`'s too.
const ZLIB_LEVEL: u32 = 6;
/// zstd's level in qcow2 files.
const ZSTD_LEVEL: u32 = 3;

/// Parses `type=TYPE,dest=PATH,KEY=VALUE...` where the type is a disk's; `None` where it is not.
///
/// # Errors
/// A message for people.
pub fn parse_disk_output(text: &str) -> Option<Result<DiskOutput, String>> {
    let kind = text.split(',').find_map(|part| part.strip_prefix("type=")).filter(|kind| is_disk(kind))?;
    Some(Keys::parse(text).and_then(|keys| keys.output(kind)))
}

/// An output of these keys, `type` among them, where that is a disk's; `None` where it is not.
pub(crate) fn disk_output(pairs: &[(&str, &str)]) -> Option<Result<DiskOutput, String>> {
    let kind = pairs.iter().find_map(|(key, value)| (*key == "type" && is_disk(value)).then_some(*value))?;
    let text: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}={value}")).collect();
    Some(Keys::new(&text.join(","), pairs.to_vec()).output(kind))
}

fn is_disk(kind: &str) -> bool {
    TYPES.iter().any(|(name, endings)| *name == kind || endings.contains(&kind))
}

/// A disk's output that may be a path only, whose ending says the type.
///
/// # Errors
/// A message for people.
pub fn parse_disk_path(text: &str) -> Result<DiskOutput, String> {
    if let Some(parsed) = parse_disk_output(text) {
        return parsed;
    }
    if text.contains("type=") {
        let names: Vec<&str> = TYPES.iter().map(|(name, _)| *name).collect();
        return Err(format!("`{text}` is no disk; there are {}", names.join(", ")));
    }
    // `PATH,KEY=VALUE...`, or with `dest=` anywhere.
    let (mut parts, mut path) = (text.split(',').collect::<Vec<_>>(), None);
    if let Some(place) = parts.iter().position(|part| part.starts_with("dest=")) {
        path = parts.remove(place).strip_prefix("dest=");
    }
    let path = path.unwrap_or_else(|| parts.remove(0));
    let rest = parts.join(",");
    let (stem, compression) = match path.rsplit_once('.') {
        Some((stem, ending @ ("gz" | "zst"))) => {
            (stem, if ending == "gz" { ",compression=gzip" } else { ",compression=zstd" })
        }
        _ => (path, ""),
    };
    let ending = stem.rsplit_once('.').map_or("", |(_, ending)| ending);
    let kind = TYPES.iter().find(|(_, endings)| endings.contains(&ending)).map(|(name, _)| *name);
    let kind =
        kind.ok_or_else(|| format!("`{path}` does not end as any disk does; say type=TYPE,dest={path}"))?;
    if !compression.is_empty() && kind != "raw" {
        return Err(format!(
            "`{path}`: only a raw disk is compressed as a whole; {kind} has `compression` or none"
        ));
    }
    let rest = if rest.is_empty() { String::new() } else { format!(",{rest}") };
    Keys::parse(&format!("dest={path}{compression}{rest}"))?.output(kind)
}

/// What was said, and what of it was asked for.
struct Keys<'t> {
    text: &'t str,
    pairs: Vec<(&'t str, &'t str)>,
    asked: RefCell<Vec<&'static str>>,
}

impl<'t> Keys<'t> {
    fn parse(text: &'t str) -> Result<Self, String> {
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        for part in text.split(',') {
            let (key, value) =
                part.split_once('=').ok_or_else(|| format!("`{part}` in `{text}` is not KEY=VALUE"))?;
            if pairs.iter().any(|(known, _)| *known == key) {
                return Err(format!("`{key}` is given twice in `{text}`"));
            }
            pairs.push((key, value));
        }
        Ok(Self::new(text, pairs))
    }

    fn new(text: &'t str, pairs: Vec<(&'t str, &'t str)>) -> Self {
        Self { text, pairs, asked: RefCell::new(vec!["type", "dest"]) }
    }

    fn get(&self, key: &'static str) -> Option<&'t str> {
        self.asked.borrow_mut().push(key);
        self.pairs.iter().find(|(known, _)| *known == key).map(|(_, value)| *value)
    }

    fn word<T: Copy>(&self, key: &'static str, words: &[(&str, T)]) -> Result<Option<T>, String> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let found = words.iter().find(|(word, _)| word.eq_ignore_ascii_case(value));
        found.map(|(_, value)| Some(*value)).ok_or_else(|| {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            format!("`{value}` is no {key} in `{}`; there are {}", self.text, words.join(", "))
        })
    }

    fn number(&self, key: &'static str) -> Result<Option<u32>, String> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.parse().map(Some).map_err(|_| format!("`{value}` is no number for `{key}`"))
    }

    fn output(&self, kind: &str) -> Result<DiskOutput, String> {
        let dest = self.get("dest").filter(|dest| !dest.is_empty()).ok_or("dest=PATH is missing")?;
        let form = self.form(kind, dest)?;
        let asked = self.asked.borrow();
        if let Some((key, _)) = self.pairs.iter().find(|(key, _)| !asked.contains(key)) {
            let mut known: Vec<&str> = asked.clone();
            known.sort_unstable();
            known.dedup();
            return Err(format!(
                "unknown key `{key}` in `{}`; with {kind} there are {}",
                self.text,
                known.join(", ")
            ));
        }
        Ok(DiskOutput { form, dest: dest.into(), images: Vec::new() })
    }

    fn form(&self, kind: &str, dest: &str) -> Result<DiskForm, String> {
        Ok(match kind {
            "qcow2" => DiskForm::Qcow2(self.qcow2_compression()?),
            "vmdk" => DiskForm::Vmdk(self.vmware()?),
            "vhd" | "vpc" => {
                let layouts = [("dynamic", Layout::Dynamic), ("fixed", Layout::Fixed)];
                DiskForm::Vhd(self.word("subformat", &layouts)?.unwrap_or(Layout::Dynamic))
            }
            "vhdx" => DiskForm::Vhdx,
            "vdi" => DiskForm::Vdi,
            "ova" => self.appliance(ApplianceForm::Ova)?,
            "xva" => self.appliance(ApplianceForm::Xva)?,
            "vmware-zip" => self.appliance(ApplianceForm::Zip)?,
            "vmware-tar" => self.appliance(ApplianceForm::TarGz)?,
            "qcow2-chain" => DiskForm::Chain,
            "iso" => DiskForm::Iso,
            "squashfs" => DiskForm::ReadOnly(FileSystem::Squashfs),
            "erofs" => DiskForm::ReadOnly(FileSystem::Erofs),
            "kernel" => DiskForm::Kernel,
            _ => DiskForm::Raw(self.compression(dest)?),
        })
    }

    fn compression(&self, dest: &str) -> Result<Option<Compression>, String> {
        let compression = match self.get("compression") {
            None => Compression::from_file_name(dest),
            Some(text) => Some(text.parse().map_err(|error: kiln_image::Error| error.to_string())?),
        };
        Ok(compression.filter(|compression| *compression != Compression::None))
    }

    fn qcow2_compression(&self) -> Result<Option<qcow2::Compression>, String> {
        let zlib = Some(qcow2::Compression::Zlib(ZLIB_LEVEL));
        let zstd = Some(qcow2::Compression::Zstd(ZSTD_LEVEL));
        let words = [("none", None), ("zlib", zlib), ("gzip", zlib), ("zstd", zstd)];
        Ok(self.word("compression", &words)?.flatten())
    }

    fn vmware(&self) -> Result<Vmware, String> {
        let subformats = [
            ("monolithicSparse", Subformat::MonolithicSparse),
            ("streamOptimized", Subformat::StreamOptimized),
        ];
        let subformat = self.word("subformat", &subformats)?.unwrap_or(Subformat::MonolithicSparse);
        Ok(Vmware { subformat, adapter: self.adapter()?, hardware_version: self.number("hardware-version")? })
    }

    fn appliance(&self, form: ApplianceForm) -> Result<DiskForm, String> {
        let memory = self.get("memory").map(crate::parse_size).transpose()?;
        let is_efi = self.word("firmware", &[("bios", false), ("efi", true)])?;
        Ok(DiskForm::Appliance(Appliance {
            form,
            name: self.get("name").map(str::to_owned),
            memory: memory.unwrap_or(MEMORY),
            cpus: self.number("cpus")?.unwrap_or(1),
            is_efi: is_efi.unwrap_or(false),
            vmware: Vmware {
                subformat: Subformat::StreamOptimized,
                adapter: self.adapter()?,
                hardware_version: self.number("hardware-version")?,
            },
        }))
    }

    fn adapter(&self) -> Result<Adapter, String> {
        let adapters =
            [("ide", Adapter::Ide), ("buslogic", Adapter::BusLogic), ("lsilogic", Adapter::LsiLogic)];
        Ok(self.word("adapter", &adapters)?.unwrap_or(Adapter::LsiLogic))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_say_the_form() {
        let form = |text: &str| parse_disk_path(text).map(|output| output.form);
        assert_eq!(form("a.raw"), Ok(DiskForm::Raw(None)));
        assert!(matches!(form("a.img.gz"), Ok(DiskForm::Raw(Some(_)))));
        assert_eq!(form("a.sqfs"), Ok(DiskForm::ReadOnly(FileSystem::Squashfs)));
        assert_eq!(form("a.qcow2,compression=none"), Ok(DiskForm::Qcow2(None)));
        assert!(matches!(form("a.qcow2,compression=zstd"), Ok(DiskForm::Qcow2(Some(_)))));
        assert_eq!(form("a.vhd,subformat=fixed"), Ok(DiskForm::Vhd(Layout::Fixed)));
        assert_eq!(form("subformat=fixed,dest=a.vhd"), Ok(DiskForm::Vhd(Layout::Fixed)));
        assert_eq!(parse_disk_path("dest=a.vdi").unwrap().dest.to_str(), Some("a.vdi"));
        assert!(form("a.qcow2.gz").unwrap_err().contains("only a raw disk"));
        assert!(form("a.tar").unwrap_err().contains("does not end as any disk"));
    }

    #[test]
    fn what_is_not_meant_is_refused() {
        let refusal = |text: &str| parse_disk_output(text).unwrap().unwrap_err();
        assert!(refusal("type=raw").contains("dest=PATH is missing"));
        assert!(refusal("type=vdi,dest=a,adapter=ide").contains("unknown key `adapter`"));
        assert!(refusal("type=vmdk,dest=a,adapter=scsi").contains("ide, buslogic, lsilogic"));
        assert!(refusal("type=raw,dest=a,dest=b").contains("twice"));
        assert!(parse_disk_output("type=oci,dest=a").is_none());
    }
}
