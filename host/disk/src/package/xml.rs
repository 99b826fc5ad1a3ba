//! XML that is well-formed by construction: elements close, and text is escaped.

use std::fmt::Write;

/// Attributes of an element, in the order in which they are written.
pub(super) type Attributes<'a> = &'a [(&'a str, &'a str)];

/// A document being written, with two spaces for each level.
pub(super) struct Xml {
    text: String,
    open: Vec<String>,
}

impl Xml {
    pub fn new() -> Self {
        Self { text: "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_owned(), open: Vec::new() }
    }

    /// An element with what `content` writes.
    pub fn element(&mut self, name: &str, attributes: Attributes<'_>, content: impl FnOnce(&mut Self)) {
        self.tag(name, attributes);
        self.text.push_str(">\n");
        self.open.push(name.to_owned());
        content(self);
        self.open.pop();
        self.indent();
        writeln!(self.text, "</{name}>").expect("a string takes all");
    }

    /// An element with text, which must be of characters that [`allows`] allows.
    pub fn leaf(&mut self, name: &str, attributes: Attributes<'_>, text: &str) {
        self.tag(name, attributes);
        self.text.push('>');
        self.escaped(text);
        writeln!(self.text, "</{name}>").expect("a string takes all");
    }

    /// An element without content.
    pub fn empty(&mut self, name: &str, attributes: Attributes<'_>) {
        self.tag(name, attributes);
        self.text.push_str("/>\n");
    }

    pub fn finish(self) -> String {
        self.text
    }

    fn tag(&mut self, name: &str, attributes: Attributes<'_>) {
        self.indent();
        self.text.push('<');
        self.text.push_str(name);
        for (attribute, value) in attributes {
            write!(self.text, " {attribute}=\"").expect("a string takes all");
            self.escaped(value);
            self.text.push('"');
        }
    }

    fn indent(&mut self) {
        self.text.extend(self.open.iter().map(|_| "  "));
    }

    /// Line ends and tabs as references, which readers keep as they are also in attributes.
    fn escaped(&mut self, text: &str) {
        for character in text.chars() {
            match character {
                '&' => self.text.push_str("&amp;"),
                '<' => self.text.push_str("&lt;"),
                '>' => self.text.push_str("&gt;"),
                '"' => self.text.push_str("&quot;"),
                '\t' | '\n' | '\r' => {
                    write!(self.text, "&#{};", character as u32).expect("a string takes all")
                }
                other => self.text.push(other),
            }
        }
    }
}

/// Whether XML has this character at all: <https://www.w3.org/TR/xml/#charsets>.
pub(super) fn allows(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document() {
        let mut xml = Xml::new();
        xml.element("a", &[("b", "<\"&\n'>")], |xml| {
            xml.leaf("c", &[], "1 < 2 && ü");
            xml.empty("d", &[("e", "")]);
        });
        let expected = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<a b=\"&lt;&quot;&amp;&#10;'&gt;\">\n  \
                        <c>1 &lt; 2 &amp;&amp; ü</c>\n  <d e=\"\"/>\n</a>\n";
        assert_eq!(xml.finish(), expected);
    }

    #[test]
    fn characters() {
        for (character, allowed) in
            [('\0', false), ('\u{1b}', false), ('\n', true), ('🦀', true), ('\u{ffff}', false)]
        {
            assert_eq!(allows(character), allowed, "{character:?}");
        }
    }
}
