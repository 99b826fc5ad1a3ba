//! Names for documents that are made from what the documents are about.

use kiln_image::digest::Digest;

/// What kiln's UUIDs are made in. Changing it changes the name of every document.
const NAMESPACE: &str = "kiln-attest-1";

/// A UUID of version 8 made from SHA-256, as RFC 9562 shows in appendix B.2: the first sixteen bytes of
/// the digest of this crate's namespace and the words, with version and variant set. (Version 5 is the
/// same with SHA-1.) The same words give the same UUID; a word's end is part of it.
/// <https://www.rfc-editor.org/rfc/rfc9562#name-example-of-a-uuidv8-value-n>
pub(crate) fn of(words: &[&str]) -> String {
    let mut name = String::from(NAMESPACE);
    for word in words {
        name.push('\0');
        name += word;
    }
    let hex = Digest::of(name.as_bytes()).hex();
    // The variant's two bits are 10: of a digit, the lower two stay.
    let variant = match &hex[16..17] {
        "0" | "4" | "8" | "c" => '8',
        "1" | "5" | "9" | "d" => '9',
        "2" | "6" | "a" | "e" => 'a',
        _ => 'b',
    };
    format!("{}-{}-8{}-{variant}{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..32])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stable_and_apart() {
        let uuid = of(&["spdx", "a"]);
        assert_eq!(uuid, of(&["spdx", "a"]));
        assert_ne!(uuid, of(&["spdxa"]));
        assert_ne!(uuid, of(&["spdx", "b"]));
        assert_eq!(uuid.len(), 36);
        assert_eq!(&uuid[14..15], "8");
        assert!(["8", "9", "a", "b"].contains(&&uuid[19..20]));
    }
}
