//! Identities that are the same in every run: derived from the image that a disk is made of.

use super::plan::FileSystem;
use kiln_image::digest::Digest;

/// Who asks; part of what is hashed, so that the identities of one disk differ.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Identity<'a> {
    /// Of the image.
    pub image: &'a Digest,
    /// The same for all file systems of this disk, whatever they hold.
    pub seed: &'a str,
}

/// 16 bytes, as RFC 9562 lays out a UUID.
pub(crate) type Uuid = [u8; 16];

impl Identity<'_> {
    /// A UUID for this purpose.
    pub fn uuid(self, purpose: &str) -> Uuid {
        let digest = Digest::of(format!("kiln disk\n{}\n{}\n{purpose}\n", self.image, self.seed).as_bytes());
        let hex = digest.to_string();
        let hex = hex.rsplit(':').next().expect("a digest has an algorithm and digits");
        let mut uuid = [0; 16];
        for (byte, pair) in uuid.iter_mut().zip(hex.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).expect("hexadecimal digits");
            *byte = u8::from_str_radix(pair, 16).expect("hexadecimal digits");
        }
        // Version 4, as tools that look expect it (https://www.rfc-editor.org/rfc/rfc9562#section-5.4).
        uuid[6] = uuid[6] & 0x0f | 0x40;
        uuid[8] = uuid[8] & 0x3f | 0x80;
        uuid
    }
}

/// In its usual form.
pub(crate) fn format_uuid(uuid: &Uuid) -> String {
    let hex: String = uuid.iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// From its usual form.
pub(crate) fn parse_uuid(text: &str) -> Option<Uuid> {
    let mut parts = text.split('-').map(str::len);
    let is_digit = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-';
    if !parts.by_ref().eq([8, 4, 4, 4, 12]) || !text.bytes().all(is_digit) {
        return None;
    }
    let digits: String = text.split('-').collect();
    let mut uuid = [0; 16];
    for (index, byte) in uuid.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(uuid)
}

/// A UUID, or of a FAT the eight digits of its serial number.
pub(crate) fn parse_identity(file_system: Option<FileSystem>, text: &str) -> Option<Uuid> {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    if file_system == Some(FileSystem::Vfat) && digits.len() == 8 {
        let mut uuid = [0; 16];
        uuid[..4].copy_from_slice(&u32::from_str_radix(&digits, 16).ok()?.to_be_bytes());
        return Some(uuid);
    }
    parse_uuid(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_image_gives_the_same_identities() {
        let (one, other) = (Digest::of(b"one"), Digest::of(b"other"));
        let uuid = |image, purpose| Identity { image, seed: "disk" }.uuid(purpose);
        assert_eq!(uuid(&one, "root"), uuid(&one, "root"));
        assert_ne!(uuid(&one, "root"), uuid(&one, "boot"));
        assert_ne!(uuid(&one, "root"), uuid(&other, "root"));
        let text = format_uuid(&uuid(&one, "root"));
        assert_eq!((&text[14..15], parse_uuid(&text)), ("4", Some(uuid(&one, "root"))));
    }

    #[test]
    fn what_is_no_uuid_is_told() {
        for text in [
            "",
            "1234",
            "+1+1+1+1-0123-0123-0123-0123456789ab",
            "0123456789abcdef0123456789abcdef",
            "0123456z-0123-0123-0123-0123456789ab",
        ] {
            assert_eq!(parse_uuid(text), None, "{text}");
        }
    }

    #[test]
    fn fats_have_short_identities() {
        let fat = parse_identity(Some(FileSystem::Vfat), "1234-ABCD").unwrap();
        assert_eq!(fat[..5], [0x12, 0x34, 0xab, 0xcd, 0]);
        assert_eq!(parse_identity(Some(FileSystem::Ext4), "1234-ABCD"), None);
    }
}
