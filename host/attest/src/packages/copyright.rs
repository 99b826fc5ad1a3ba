//! The licences of a Debian package, where its copyright file is one for programs.
//! <https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/>

use super::stanza::stanzas;
use crate::{license, text};
use std::collections::BTreeSet;

/// How such a file begins.
const FORMAT: &[u8] = b"Format:";
/// Debian's short names of licences that SPDX has other names for.
const NAMES: [(&str, &str); 9] = [
    ("Apache-2", "Apache-2.0"),
    ("Artistic", "Artistic-1.0"),
    ("Artistic-2", "Artistic-2.0"),
    ("BSD-2-clause", "BSD-2-Clause"),
    ("BSD-3-clause", "BSD-3-Clause"),
    ("BSD-4-clause", "BSD-4-Clause"),
    ("CC0", "CC0-1.0"),
    ("Expat", "MIT"),
    ("zlib", "Zlib"),
];
/// Families of licences whose short names end with a version, and `+` for later ones.
const GNU: [&str; 4] = ["AGPL", "GFDL", "GPL", "LGPL"];

/// All licences of the package's files: an SPDX expression when SPDX has all of them, else the file's own
/// words. `None` when the file is for people only.
pub(super) fn licenses(copyright: &[u8]) -> Option<String> {
    if !copyright.starts_with(FORMAT) {
        return None;
    }
    let names: BTreeSet<_> = stanzas(copyright).filter_map(|stanza| stanza.ok()?.text("License")).collect();
    let licenses: BTreeSet<_> = names.iter().map(|name| expression(name)).collect();
    let is_alone = licenses.len() == 1;
    let part = |license: String| match is_alone || !license.contains(' ') {
        true => license,
        false => format!("({license})"),
    };
    let parts: Vec<_> = licenses.into_iter().map(part).collect();
    text::line(parts.join(" AND ").as_bytes())
}

/// `GPL-2+ or Expat` as SPDX says it, anything else as it is. With a comma, `or` binds in another way than
/// in SPDX.
fn expression(name: &str) -> String {
    let words: Vec<_> = name.split_whitespace().map(word).collect();
    let expression = words.join(" ");
    if license::is_expression(&expression) { expression } else { name.to_owned() }
}

fn word(word: &str) -> String {
    match word {
        "and" => "AND".to_owned(),
        "or" => "OR".to_owned(),
        _ => match NAMES.iter().find(|(name, _)| *name == word) {
            Some((_, id)) => (*id).to_owned(),
            None => gnu(word).unwrap_or_else(|| word.to_owned()),
        },
    }
}

/// `GPL-2+` is `GPL-2.0-or-later`.
fn gnu(word: &str) -> Option<String> {
    let (family, version) = word.split_once('-').filter(|(family, _)| GNU.contains(family))?;
    let (version, which) = match version.strip_suffix('+') {
        Some(version) => (version, "or-later"),
        None => (version, "only"),
    };
    let minor = if version.contains('.') { "" } else { ".0" };
    Some(format!("{family}-{version}{minor}-{which}")).filter(|id| license::is_id(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str]) -> Option<String> {
        let stanzas = names.iter().map(|name| format!("\nFiles: *\nCopyright: x\nLicense: {name}\n text\n"));
        licenses(format!("Format: https://example.org/1.0\n{}", stanzas.collect::<String>()).as_bytes())
    }

    #[test]
    fn short_names() {
        let cases: [(&[&str], Option<&str>); 10] = [
            (&[], None),
            (&["GPL-3+"], Some("GPL-3.0-or-later")),
            (&["LGPL-2.1", "Expat", "LGPL-2.1"], Some("LGPL-2.1-only AND MIT")),
            (&["GPL-1+ or Artistic"], Some("GPL-1.0-or-later OR Artistic-1.0")),
            (&["GPL-1+ or Artistic", "Expat"], Some("(GPL-1.0-or-later OR Artistic-1.0) AND MIT")),
            (&["GPL-2+ or Artistic, and Expat"], Some("GPL-2+ or Artistic, and Expat")),
            (&["public-domain", "Expat"], Some("MIT AND public-domain")),
            (&["GPL-9"], Some("GPL-9")),
            (
                &["GPL-2.0-only WITH Classpath-exception-2.0"],
                Some("GPL-2.0-only WITH Classpath-exception-2.0"),
            ),
            (&["or"], Some("or")),
        ];
        for (names, expected) in cases {
            assert_eq!(of(names).as_deref(), expected, "{names:?}");
        }
        assert_eq!(licenses(b"This package is free.\nLicense: MIT\n"), None);
    }
}
