//! Names for people: whatever bytes an image gives a file, a terminal sees only harmless ones.

use std::fmt::Write;

/// A name or path as text. What is not printable UTF-8 is escaped as in Rust (`\n`, `\u{202e}`, `\xff`), and so is the
/// backslash: two names never look the same.
pub fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                // Harmless, though Rust would escape them.
                '\'' | '"' => text.push(character),
                _ => text.extend(character.escape_debug()),
            }
        }
        for byte in chunk.invalid() {
            write!(text, "\\x{byte:02x}").expect("writing to a string");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_unescaped() {
        let table: [(&[u8], &str); 8] = [
            (b"etc/passwd", "etc/passwd"),
            ("grün".as_bytes(), "grün"),
            (b"it's", "it's"),
            (b"\x1b[31m", "\\u{1b}[31m"),
            (b"a\nb", "a\\nb"),
            (b"\xff\xfe", "\\xff\\xfe"),
            (b"a\\xff", "a\\\\xff"),
            ("\u{202e}txt".as_bytes(), "\\u{202e}txt"),
        ];
        for (bytes, text) in table {
            assert_eq!(escaped(bytes), text);
        }
    }
}
