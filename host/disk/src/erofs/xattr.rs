//! Extended attributes, inline behind their inode: `struct erofs_xattr_ibody_header`, then an
//! `erofs_xattr_entry` for each.

use crate::error::Kind;
use kiln_image::entry::Xattrs;

/// Bytes of the header. Its filter and its count of shared attributes stay zero.
const HEADER_SIZE: usize = 12;
/// Entries are aligned to this many bytes, and `i_xattr_icount` counts in it.
const UNIT: usize = 4;
/// Most bytes of attributes `i_xattr_icount` can tell of.
const MAX_BYTES: usize = HEADER_SIZE + UNIT * (u16::MAX as usize - 1);

/// Namespaces and their `e_name_index`. The ACLs' names are whole: nothing follows them.
const NAMESPACES: [(&[u8], u8); 5] =
    [(b"user.", 1), (POSIX_ACL_ACCESS, 2), (POSIX_ACL_DEFAULT, 3), (b"trusted.", 4), (b"security.", 6)];
const POSIX_ACL_ACCESS: &[u8] = b"system.posix_acl_access";
const POSIX_ACL_DEFAULT: &[u8] = b"system.posix_acl_default";

/// The bytes behind the inode, none when there are no attributes.
pub(super) fn encode(xattrs: &Xattrs) -> Result<Vec<u8>, Kind> {
    let mut bytes = Vec::new();
    for (name, value) in xattrs {
        let Some((index, rest)) = split(name) else { continue };
        if bytes.is_empty() {
            bytes.resize(HEADER_SIZE, 0);
        }
        let name_len = u8::try_from(rest.len()).map_err(|_| Kind::XattrName(name.clone()))?;
        let value_size = u16::try_from(value.len())
            .map_err(|_| Kind::XattrValue { name: name.clone(), length: value.len() })?;
        bytes.extend([name_len, index]);
        bytes.extend(value_size.to_le_bytes());
        bytes.extend(rest);
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(UNIT), 0);
    }
    if bytes.len() > MAX_BYTES { Err(Kind::Xattrs(bytes.len(), MAX_BYTES)) } else { Ok(bytes) }
}

/// A namespace's index and the name within it; `None` for a name that Linux does not know.
fn split(name: &[u8]) -> Option<(u8, &[u8])> {
    let (prefix, index) = NAMESPACES.into_iter().find(|(prefix, _)| name.starts_with(prefix))?;
    let rest = &name[prefix.len()..];
    let whole = !prefix.ends_with(b".");
    (whole == rest.is_empty()).then_some((index, rest))
}

/// `i_xattr_icount` of so many bytes of attributes.
pub(super) fn count(bytes: usize) -> u16 {
    let units = bytes.checked_sub(HEADER_SIZE).map_or(0, |entries| 1 + entries / UNIT);
    u16::try_from(units).expect("encode() checks the length")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &[u8], value: &[u8]) -> Xattrs {
        Xattrs::from([(name.to_vec(), value.to_vec())])
    }

    #[test]
    fn an_attribute_is_header_entry_name_value_padding() {
        let bytes = encode(&one(b"user.ab", b"xyz")).unwrap();
        assert_eq!(bytes, b"\0\0\0\0\0\0\0\0\0\0\0\0\x02\x01\x03\0abxyz\0\0\0");
        assert_eq!(count(bytes.len()), 4);
    }

    #[test]
    fn acl_names_are_all_index() {
        assert_eq!(split(b"system.posix_acl_access"), Some((2, &b""[..])));
        assert_eq!(split(b"system.posix_acl_default"), Some((3, &b""[..])));
        assert_eq!(split(b"security.capability"), Some((6, &b"capability"[..])));
    }

    #[test]
    fn what_linux_has_no_namespace_for_is_left_out() {
        for name in [&b"com.apple.provenance"[..], b"system.nfs4_acl", b"system.posix_acl_access2", b"user."]
        {
            assert_eq!(encode(&one(name, b"value")).unwrap(), b"", "{}", name.escape_ascii());
        }
        assert_eq!(count(0), 0);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let value = encode(&one(b"user.big", &[0; 65536])).unwrap_err();
        assert_eq!(
            value.to_string(),
            "extended attribute user.big has a value of 65536 bytes, more than 65535"
        );
        assert!(encode(&one(b"user.big", &[0; 65535])).is_ok());
        let name = encode(&one(&[b"user.".as_slice(), &[b'n'; 256]].concat(), b"")).unwrap_err();
        assert!(name.to_string().ends_with("has a name of more than 255 bytes"), "{name}");
        let many = (0..5).map(|i| (format!("user.{i}").into_bytes(), vec![0; 65535])).collect();
        let all = encode(&many).unwrap_err();
        assert!(all.to_string().starts_with("extended attributes of 327"), "{all}");
    }
}
