//! Which extended attributes exist ([xattr(7)](https://man7.org/linux/man-pages/man7/xattr.7.html)).

/// Longest name, in bytes (Linux's `XATTR_NAME_MAX`).
pub const MAX_NAME: usize = 255;

/// Longest value, in bytes (Linux's `XATTR_SIZE_MAX`).
pub const MAX_VALUE: usize = 65536;

/// Accepts what Linux could have stored.
pub(crate) fn check(name: &[u8], value: &[u8]) -> Result<(), &'static str> {
    if name.is_empty() {
        Err("its name is empty")
    } else if name.contains(&0) {
        Err("its name has a NUL byte")
    } else if name.len() > MAX_NAME {
        Err("its name is too long")
    } else if value.len() > MAX_VALUE {
        Err("its value is too long")
    } else {
        Ok(())
    }
}
