//! Output that arrives in pieces, shown in lines.

/// Longest line kept back before it is shown in parts, in bytes.
const MAX_LINE: usize = 64 * 1024;

/// Collects pieces until a line is whole.
#[derive(Debug, Default)]
pub struct Lines {
    unfinished: Vec<u8>,
}

/// A line, or a part of a very long one.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    /// Without the newline.
    pub bytes: &'a [u8],
    /// Whether a newline follows.
    pub ends_line: bool,
}

impl Part<'_> {
    /// For a terminal.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.bytes).trim_end_matches('\r').to_owned()
    }
}

impl Lines {
    /// Adds a piece and calls `show` with each line it completes.
    pub fn push(&mut self, piece: &[u8], mut show: impl FnMut(Part<'_>)) {
        let mut lines = piece.split(|byte| *byte == b'\n');
        let last = lines.next_back().unwrap_or_default();
        for line in lines {
            self.unfinished.extend_from_slice(line);
            self.flush(true, &mut show);
        }
        self.unfinished.extend_from_slice(last);
        if self.unfinished.len() > MAX_LINE {
            self.flush(false, &mut show);
        }
    }

    /// Shows what has no newline yet, if anything, as a line.
    pub fn end(&mut self, mut show: impl FnMut(Part<'_>)) {
        if !self.unfinished.is_empty() {
            self.flush(true, &mut show);
        }
    }

    fn flush(&mut self, ends_line: bool, show: &mut impl FnMut(Part<'_>)) {
        show(Part { bytes: &self.unfinished, ends_line });
        self.unfinished.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_shown_whole_however_they_are_cut() {
        let text = b"one\r\ntwo\n\nunfinished \xff";
        for cut in 1..=text.len() {
            let (mut lines, mut seen) = (Lines::default(), Vec::new());
            for piece in text.chunks(cut) {
                lines.push(piece, |part| seen.push(part.text()));
            }
            lines.end(|part| seen.push(part.text()));
            assert_eq!(seen, ["one", "two", "", "unfinished \u{fffd}"], "cut into {cut}");
        }
    }

    #[test]
    fn a_line_without_end_is_neither_kept_nor_broken() {
        let (mut lines, mut shown) = (Lines::default(), 0);
        for _ in 0..100 {
            lines.push(&[b'x'; 4096], |part| {
                assert!(!part.ends_line);
                shown += part.bytes.len();
            });
        }
        assert!(100 * 4096 - shown <= MAX_LINE);
    }
}
