//! Stanzas of `Field: value` lines, as dpkg and Python keep them.
//!
//! A value goes on in lines that begin with a space; only its first line is kept here, as no field that
//! is of interest needs more. Stanzas are apart by empty lines.
//! <https://manpages.debian.org/bookworm/dpkg-dev/deb822.5.en.html>

use crate::error::Problem;
use crate::text;

/// Most fields of a stanza: several times what any package has.
const MAX_FIELDS: usize = 4096;

/// The fields of one package.
#[derive(Debug, Default)]
pub(super) struct Stanza<'a> {
    /// Of its first field, counted from one.
    pub line: usize,
    fields: Vec<(&'a [u8], &'a [u8])>,
}

impl<'a> Stanza<'a> {
    /// The first value of a field; names are alike in any case.
    pub(super) fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.all(name).next()
    }

    /// All values of a field that may come several times.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let same = move |field: &&(&[u8], &[u8])| field.0.eq_ignore_ascii_case(name.as_bytes());
        self.fields.iter().filter(same).map(|(_, value)| *value)
    }

    /// A field's value as a word.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.get(name).and_then(text::line)
    }

    fn add(&mut self, number: usize, line: &'a [u8]) -> Result<(), Problem> {
        if line.starts_with(b" ") || line.starts_with(b"\t") || line.starts_with(b"#") {
            return Ok(());
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            return Err(Problem::line(number, "neither a field nor the rest of one"));
        };
        if self.fields.is_empty() {
            self.line = number;
        }
        if self.fields.len() == MAX_FIELDS {
            return Err(Problem::line(number, "too many fields"));
        }
        self.fields.push((line[..colon].trim_ascii(), line[colon + 1..].trim_ascii()));
        Ok(())
    }
}

/// The stanzas of a file.
pub(super) fn stanzas(contents: &[u8]) -> Stanzas<'_> {
    Stanzas { rest: contents, number: 0 }
}

/// The iterator of [`stanzas`]. It goes on after an error, at the next line.
pub(super) struct Stanzas<'a> {
    rest: &'a [u8],
    number: usize,
}

impl<'a> Stanzas<'a> {
    fn line(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let end = self.rest.iter().position(|byte| *byte == b'\n');
        let line = &self.rest[..end.unwrap_or(self.rest.len())];
        self.rest = &self.rest[end.map_or(self.rest.len(), |end| end + 1)..];
        self.number += 1;
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }
}

impl<'a> Iterator for Stanzas<'a> {
    type Item = Result<Stanza<'a>, Problem>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut stanza = Stanza::default();
        while let Some(line) = self.line() {
            if line.is_empty() {
                if stanza.fields.is_empty() {
                    continue;
                }
                break;
            }
            if let Err(problem) = stanza.add(self.number, line) {
                return Some(Err(problem));
            }
        }
        (!stanza.fields.is_empty()).then_some(Ok(stanza))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_stanzas() {
        let file = b"\n\nPackage: a\r\nDescription: one\n two\nx:\n\n\n# note\npackage:b";
        let stanzas: Vec<_> = stanzas(file).map(Result::unwrap).collect();
        assert_eq!(stanzas.iter().map(|stanza| stanza.line).collect::<Vec<_>>(), [3, 10]);
        assert_eq!(stanzas[0].text("Description").as_deref(), Some("one"));
        assert_eq!((stanzas[0].get("X"), stanzas[0].text("X")), (Some(&b""[..]), None));
        assert_eq!(stanzas[1].get("Package"), Some(&b"b"[..]));
    }

    #[test]
    fn what_is_no_stanza() {
        let many = "a: b\n".repeat(MAX_FIELDS + 1);
        let cases = [
            ("a: b\nnothing\n", Problem::line(2, "neither a field nor the rest of one")),
            (&many, Problem::line(MAX_FIELDS + 1, "too many fields")),
        ];
        for (file, problem) in cases {
            assert_eq!(stanzas(file.as_bytes()).next().unwrap().unwrap_err(), problem);
        }
        assert!(stanzas(b"\n \n# only a note\n").next().is_none());
    }
}
