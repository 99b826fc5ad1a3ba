//! Files of lines with colons between fields: `passwd`, `group`, `shadow`, `gshadow`.
//!
//! Lines that nobody asked to change stay as they are, byte for byte: comments, those of NIS (`+::::::`, `-name`), and
//! those that are wrong.

/// Fields as they are, without the line's end.
type Fields = Vec<Vec<u8>>;

/// A file's lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AccountFile {
    lines: Vec<Vec<u8>>,
}

/// The fields that names and numbers are in, in all four files.
const NAME: usize = 0;
pub(super) const PASSWORD: usize = 1;
pub(super) const ID: usize = 2;

impl AccountFile {
    pub(super) fn parse(text: &[u8]) -> Self {
        Self { lines: text.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect() }
    }

    pub(super) fn text(&self) -> Vec<u8> {
        self.lines.concat()
    }

    /// The first line of a name, which is the one that counts.
    pub(super) fn find(&self, name: &str) -> Option<Fields> {
        self.lines.iter().find(|line| is_of(line, name)).map(|line| fields(line))
    }

    /// The name of the first line with a number.
    pub(super) fn name_of(&self, id: u32) -> Option<Vec<u8>> {
        let entry = self.entries().find(|fields| number(fields) == Some(id))?;
        entry.into_iter().next()
    }

    /// All numbers in use.
    pub(super) fn ids(&self) -> impl Iterator<Item = u32> + '_ {
        self.entries().filter_map(|fields| number(&fields))
    }

    fn entries(&self) -> impl Iterator<Item = Fields> + '_ {
        self.lines.iter().filter(|line| !is_nis(line) && !line.starts_with(b"#")).map(|line| fields(line))
    }

    /// Puts a value into a field of all lines of a name; a line that is too short gets empty ones before it.
    pub(super) fn set(&mut self, name: &str, field: usize, value: &[u8]) {
        for line in self.lines.iter_mut().filter(|line| is_of(line, name)) {
            let mut found = fields(line);
            if found.len() <= field {
                found.resize(field + 1, Vec::new());
            }
            found[field] = value.to_vec();
            let end: &[u8] = if line.ends_with(b"\n") { b"\n" } else { b"" };
            *line = [found.join(&b':'), end.to_vec()].concat();
        }
    }

    /// Adds a line: before those of NIS, which stand for all that follow.
    pub(super) fn add(&mut self, fields: &[&[u8]]) {
        if let Some(last) = self.lines.last_mut().filter(|line| !line.ends_with(b"\n")) {
            last.push(b'\n');
        }
        let at = self.lines.iter().position(|line| is_nis(line)).unwrap_or(self.lines.len());
        self.lines.insert(at, [&fields.join(&b':'), &b"\n"[..]].concat());
    }

    /// Adds a name to the members of a group, the last field of its lines, unless it is one.
    pub(super) fn add_member(&mut self, group: &str, member: &str) {
        const MEMBERS: usize = 3;
        let Some(line) = self.find(group) else { return };
        let members = line.get(MEMBERS).map(Vec::as_slice).unwrap_or_default();
        let mut names: Vec<&[u8]> =
            members.split(|byte| *byte == b',').filter(|name| !name.is_empty()).collect();
        if !names.contains(&member.as_bytes()) {
            names.push(member.as_bytes());
            let members = names.join(&b',');
            self.set(group, MEMBERS, &members);
        }
    }
}

fn fields(line: &[u8]) -> Fields {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.split(|byte| *byte == b':').map(<[u8]>::to_vec).collect()
}

fn is_of(line: &[u8], name: &str) -> bool {
    fields(line).get(NAME).is_some_and(|found| found == name.as_bytes())
}

/// Lines that stand for entries from elsewhere
/// ([nsswitch.conf(5)](https://man7.org/linux/man-pages/man5/nsswitch.conf.5.html), "Compatibility mode").
fn is_nis(line: &[u8]) -> bool {
    matches!(line.first(), Some(b'+' | b'-'))
}

fn number(fields: &Fields) -> Option<u32> {
    std::str::from_utf8(fields.get(ID)?).ok()?.parse().ok()
}

/// A field as a number.
pub(super) fn number_in(fields: &[Vec<u8>], field: usize) -> Option<u32> {
    std::str::from_utf8(fields.get(field)?).ok()?.parse().ok()
}
