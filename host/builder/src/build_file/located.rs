//! Errors that show their place in a file.

use super::schema::Span;
use std::{fmt, path::PathBuf};

/// Something wrong at a place in a text file, shown as compilers do:
///
/// ```text
/// kiln.toml:3:8: no such file: tree
///   3 | contents = ["tree"]
///     |             ^
/// ```
#[derive(Debug, Clone)]
pub struct Located {
    path: PathBuf,
    message: String,
    /// Counted from 1; columns in characters.
    line: usize,
    column: usize,
    source_line: String,
}

impl Located {
    /// `message` about the bytes `span` of the file `path`, whose whole text is `text`.
    pub(super) fn new(path: &std::path::Path, text: &str, span: &Span, message: impl Into<String>) -> Self {
        let start = text.floor_char_boundary(span.start.min(text.len()));
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let source_line = text[line_start..].lines().next().unwrap_or_default();
        Self {
            path: path.to_owned(),
            message: message.into(),
            line: text[..line_start].matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            source_line: source_line.to_owned(),
        }
    }

    /// The same without the line itself, which may hold a secret.
    pub(super) fn without_line(mut self) -> Self {
        self.source_line.clear();
        self
    }

    /// The same, with more said behind its message.
    pub(crate) fn with(mut self, more: &str) -> Self {
        self.message.push_str(more);
        self
    }
}

impl fmt::Display for Located {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { path, message, line, column, source_line } = self;
        if source_line.is_empty() {
            return write!(f, "{}:{line}:{column}: {message}", path.display());
        }
        writeln!(f, "{}:{line}:{column}: {message}", path.display())?;
        writeln!(f, "{line:>4} | {source_line}")?;
        write!(f, "     | {:>column$}", '^')
    }
}

impl std::error::Error for Located {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn lines_and_columns_count_from_one_and_in_characters() {
        let text = "a = 1\nö = \"x\"\n";
        let at = text.find('"').unwrap();
        let error = Located::new(Path::new("f.toml"), text, &(at..at + 3), "wrong");
        assert_eq!(error.to_string(), "f.toml:2:5: wrong\n   2 | ö = \"x\"\n     |     ^");
    }

    #[test]
    fn a_place_past_the_end_is_the_end() {
        let error = Located::new(Path::new("f.toml"), "a", &(9..9), "unfinished");
        assert!(error.to_string().starts_with("f.toml:1:2: unfinished"), "{error}");
    }
}
