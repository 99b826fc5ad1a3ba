//! Words of an image as documents carry them.

/// Most characters kept of a word: what is longer serves no reader.
pub(crate) const MAX_CHARACTERS: usize = 1024;

/// One line of valid UTF-8 without control characters, trimmed and cut to [`MAX_CHARACTERS`]; `None`
/// when nothing is left.
pub(crate) fn line(bytes: &[u8]) -> Option<String> {
    // No character has more bytes than four, so this cuts none of those kept.
    let bytes = bytes.trim_ascii();
    let bytes = &bytes[..bytes.len().min(4 * MAX_CHARACTERS)];
    let text = String::from_utf8_lossy(bytes);
    let plain = |character: char| if character.is_control() { ' ' } else { character };
    let text: String = text.chars().take(MAX_CHARACTERS).map(plain).collect();
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// The first line of several, as [`line`].
pub(crate) fn first_line(bytes: &[u8]) -> Option<String> {
    line(bytes.trim_ascii().split(|byte| *byte == b'\n').next()?)
}

/// A name or a version: [`line`], but what would be cut is none.
pub(crate) fn identity(bytes: &[u8]) -> Option<String> {
    line(bytes).filter(|_| bytes.len() < MAX_CHARACTERS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_made_plain() {
        let long = "ä".repeat(MAX_CHARACTERS + 1);
        let cases: &[(&[u8], Option<&str>)] = &[
            (b"", None),
            (b" \t\0 ", None),
            (b" bash ", Some("bash")),
            (b"a\x1b[31mb\0", Some("a [31mb")),
            (b"J\xf6rg", Some("J\u{fffd}rg")),
            (long.as_bytes(), Some(&long[..2 * MAX_CHARACTERS])),
        ];
        for (bytes, expected) in cases {
            assert_eq!(line(bytes).as_deref(), *expected);
        }
        assert_eq!(identity(long.as_bytes()), None);
        assert_eq!(first_line(b"\nGNU shell\n more\n").as_deref(), Some("GNU shell"));
    }
}
