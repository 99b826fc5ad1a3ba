//! The text that describes a disk.

use super::super::bytes::SECTOR_BYTES;
use super::{Adapter, Options, Subformat};
use std::fmt::Write;

/// `parentCID` of a disk without a parent.
pub(super) const NO_PARENT: &str = "ffffffff";

/// The descriptor of a new file.
pub(super) fn descriptor(options: &Options, disk_bytes: u64) -> String {
    let sectors = disk_bytes / SECTOR_BYTES;
    let create_type = match options.subformat {
        Subformat::MonolithicSparse => "monolithicSparse",
        Subformat::StreamOptimized => "streamOptimized",
    };
    let (heads, track) = geometry(options.adapter, disk_bytes);
    let mut cylinders = sectors / (heads * track);
    if options.adapter == Adapter::Ide {
        cylinders = cylinders.min(IDE_CYLINDERS_MAX);
    }
    let mut text = format!(
        "# Disk DescriptorFile\nversion=1\nCID={:08x}\nparentCID={NO_PARENT}\ncreateType=\"{create_type}\"\n\n\
         # Extent description\nRW {sectors} SPARSE \"{}\"\n\n\
         # The Disk Data Base\n#DDB\n\n\
         ddb.virtualHWVersion = \"{}\"\nddb.geometry.cylinders = \"{cylinders}\"\n\
         ddb.geometry.heads = \"{heads}\"\nddb.geometry.sectors = \"{track}\"\nddb.adapterType = \"{}\"\n",
        options.content_id,
        options.file_name,
        options.hardware_version,
        options.adapter.name(),
    );
    if let Some(uuid) = options.uuid {
        append_uuid(&mut text, &uuid);
    }
    text
}

/// What ATA can express.
const IDE_CYLINDERS_MAX: u64 = 16383;

/// Heads, and sectors of a track, as VMware gives them to a disk of this size.
fn geometry(adapter: Adapter, disk_bytes: u64) -> (u64, u64) {
    const GIB: u64 = 1 << 30;
    match adapter {
        Adapter::Ide => (16, 63),
        _ if disk_bytes < GIB => (64, 32),
        _ if disk_bytes < 2 * GIB => (128, 32),
        _ => (255, 63),
    }
}

/// As VMware spells it: bytes in two groups of eight.
fn append_uuid(text: &mut String, uuid: &[u8; 16]) {
    let group = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
    let (first, second) = uuid.split_at(8);
    // Writing into a string cannot fail.
    let _ = writeln!(text, "ddb.uuid = \"{}-{}\"", group(first), group(second));
}

/// The value of `key` in a descriptor, without quotes.
pub(super) fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        name.trim().eq_ignore_ascii_case(key).then(|| value.trim().trim_matches('"'))
    })
}

/// How many extents a descriptor has.
pub(super) fn extents(text: &str) -> usize {
    let is_extent =
        |line: &&str| ["RW ", "RDONLY ", "NOACCESS "].iter().any(|access| line.starts_with(access));
    text.lines().filter(is_extent).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# Disk DescriptorFile
version=1
CID=00112233
parentCID=ffffffff
createType=\"monolithicSparse\"

# Extent description
RW 2097151 SPARSE \"disk.vmdk\"

# The Disk Data Base
#DDB

ddb.virtualHWVersion = \"10\"
ddb.geometry.cylinders = \"1023\"
ddb.geometry.heads = \"64\"
ddb.geometry.sectors = \"32\"
ddb.adapterType = \"lsilogic\"
ddb.uuid = \"00 11 22 33 44 55 66 77-88 99 aa bb cc dd ee ff\"
";

    fn options() -> Options {
        Options::new([
            0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff,
        ])
    }

    #[test]
    fn all_of_it() {
        let uuid = Some(std::array::from_fn(|index| index as u8 * 0x11));
        assert_eq!(descriptor(&Options { uuid, ..options() }, (1 << 30) - 512), TEXT);
    }

    #[test]
    fn what_depends_on_the_disk() {
        const GIB: u64 = 1 << 30;
        for (adapter, disk_bytes, geometry) in [
            (Adapter::LsiLogic, GIB, ["512", "128", "32"]),
            (Adapter::BusLogic, 2 * GIB, ["261", "255", "63"]),
            (Adapter::BusLogic, 2048 * GIB, ["267349", "255", "63"]),
            (Adapter::Ide, GIB, ["2080", "16", "63"]),
            (Adapter::Ide, 100 * GIB, ["16383", "16", "63"]),
        ] {
            let text = descriptor(&Options { adapter, ..options() }, disk_bytes);
            let field = |name| value(&text, &format!("ddb.geometry.{name}")).unwrap();
            assert_eq!(["cylinders", "heads", "sectors"].map(field), geometry, "{adapter:?} {disk_bytes}");
            assert_eq!(value(&text, "ddb.adapterType"), Some(adapter.name()));
        }
    }

    #[test]
    fn reading() {
        assert_eq!(value(TEXT, "cid"), Some("00112233"));
        assert_eq!(value(TEXT, "createType"), Some("monolithicSparse"));
        assert_eq!(value(TEXT, "RW"), None);
        assert_eq!(extents(TEXT), 1);
        assert_eq!(extents("RW 1 SPARSE \"a\"\nRDONLY 2 ZERO\n# RW 3"), 2);
    }
}
