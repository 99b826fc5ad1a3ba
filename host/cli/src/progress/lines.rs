//! Output that arrives in pieces, shown in lines.

use std::mem;

/// Longest line kept back before it is shown in parts, in bytes.
const MAX_LINE: usize = 64 * 1024;

/// Collects pieces until a line is whole.
#[derive(Debug, Default)]
pub struct Lines {
    unfinished: Vec<u8>,
}

impl Lines {
    /// Adds a piece and calls `show` with each line it completes, without its newline.
    pub fn push(&mut self, piece: &[u8], mut show: impl FnMut(&str)) {
        let mut parts = piece.split(|byte| *byte == b'\n');
        let last = parts.next_back().unwrap_or_default();
        for part in parts {
            self.unfinished.extend_from_slice(part);
            self.flush(&mut show);
        }
        self.unfinished.extend_from_slice(last);
        if self.unfinished.len() > MAX_LINE {
            self.flush(&mut show);
        }
    }

    /// Shows what has no newline yet, if anything.
    pub fn end(&mut self, mut show: impl FnMut(&str)) {
        if !self.unfinished.is_empty() {
            self.flush(&mut show);
        }
    }

    fn flush(&mut self, show: &mut impl FnMut(&str)) {
        let line = mem::take(&mut self.unfinished);
        show(String::from_utf8_lossy(&line).trim_end_matches('\r'));
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
                lines.push(piece, |line| seen.push(line.to_owned()));
            }
            lines.end(|line| seen.push(line.to_owned()));
            assert_eq!(seen, ["one", "two", "", "unfinished \u{fffd}"], "cut into {cut}");
        }
    }

    #[test]
    fn a_line_without_end_does_not_grow_without_end() {
        let (mut lines, mut shown) = (Lines::default(), 0);
        for _ in 0..100 {
            lines.push(&[b'x'; 4096], |line| shown += line.len());
        }
        assert!(100 * 4096 - shown <= MAX_LINE);
    }
}
