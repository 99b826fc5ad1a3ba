//! Files with holes: which of their bytes an archive holds.

use super::error::Problem;
use super::header::{self, Block, Field};

/// Most runs accepted in one file's map.
pub(crate) const MAX_RUNS: usize = 1 << 20;

/// Bytes of a sparse file that are in the archive. All others are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SparseRun {
    /// First byte in the file.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
}

/// Turns offsets and lengths, one after the other, into the runs of a file of `real_size` bytes, of
/// which `stored_size` are in the archive.
pub(crate) fn runs(map: &[u64], real_size: u64, stored_size: u64) -> Result<Vec<SparseRun>, Problem> {
    let (pairs, []) = map.as_chunks::<2>() else {
        return Err(Problem::Sparse("an offset without a length"));
    };
    if pairs.len() > MAX_RUNS {
        return Err(Problem::Sparse("too many runs"));
    }
    let (mut runs, mut end, mut stored) = (Vec::with_capacity(pairs.len()), 0, 0);
    for &[offset, length] in pairs {
        if offset < end {
            return Err(Problem::Sparse("runs that overlap or are not sorted"));
        }
        end = offset
            .checked_add(length)
            .filter(|end| *end <= real_size)
            .ok_or(Problem::Sparse("a run beyond the end of the file"))?;
        stored += length;
        // GNU tar ends each map with an empty run.
        if length > 0 {
            runs.push(SparseRun { offset, length });
        }
    }
    if stored == stored_size {
        Ok(runs)
    } else {
        Err(Problem::Sparse("its runs do not add up to the stored size"))
    }
}

/// Adds the runs of an old GNU header, or of a block that extends it, to a map. True when another
/// such block follows.
pub(crate) fn push_gnu_runs(
    block: &Block,
    field: Field,
    more: Field,
    map: &mut Vec<u64>,
) -> Result<bool, Problem> {
    for run in field.of(block).chunks_exact(header::GNU_SPARSE_RUN) {
        if run[0] == 0 {
            break;
        }
        if map.len() >= 2 * MAX_RUNS {
            return Err(Problem::Sparse("too many runs"));
        }
        for number in run.chunks_exact(header::GNU_SPARSE_NUMBER) {
            let number = header::parse_number(number).and_then(|number| u64::try_from(number).ok());
            map.push(number.ok_or(Problem::NotANumber { field: field.name })?);
        }
    }
    Ok(more.of(block)[0] != 0)
}

/// Collects the map of format 1.0: decimal numbers with a newline each, first how many runs there
/// are, in blocks before the data.
#[derive(Default)]
pub(crate) struct MapText {
    count: Option<usize>,
    digits: Vec<u8>,
    map: Vec<u64>,
}

impl MapText {
    /// More digits than a 64-bit number has.
    const MAX_DIGITS: usize = 20;

    /// Takes in the next block. The map once it is complete; what follows in the block is padding.
    pub(crate) fn push(&mut self, block: &Block) -> Result<Option<Vec<u64>>, Problem> {
        for byte in block {
            if *byte != b'\n' {
                if self.digits.len() == Self::MAX_DIGITS {
                    return Err(Problem::Sparse("a number that is too long"));
                }
                self.digits.push(*byte);
                continue;
            }
            let number =
                super::pax::decimal(&self.digits).ok_or(Problem::Sparse("a line without a number"))?;
            self.digits.clear();
            if self.push_number(number)? {
                return Ok(Some(std::mem::take(&mut self.map)));
            }
        }
        Ok(None)
    }

    /// True when this was the last number.
    fn push_number(&mut self, number: u64) -> Result<bool, Problem> {
        let Some(count) = self.count else {
            let count = usize::try_from(number).ok().filter(|count| *count <= MAX_RUNS);
            self.count = Some(count.ok_or(Problem::Sparse("too many runs"))?);
            return Ok(number == 0);
        };
        self.map.push(number);
        Ok(self.map.len() == 2 * count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_checked_against_both_sizes() {
        let message = |map: &[u64], real, stored| runs(map, real, stored).unwrap_err().to_string();
        let good = runs(&[0, 10, 20, 5, 100, 0], 100, 15).unwrap();
        assert_eq!(good, [SparseRun { offset: 0, length: 10 }, SparseRun { offset: 20, length: 5 }]);
        for (map, real, stored, why) in [
            (&[0][..], 10, 0, "an offset without a length"),
            (&[5, 5, 9, 1], 100, 6, "runs that overlap or are not sorted"),
            (&[5, 6], 10, 6, "a run beyond the end of the file"),
            (&[1, u64::MAX], u64::MAX, u64::MAX, "a run beyond the end of the file"),
            (&[0, 5], 10, 6, "its runs do not add up to the stored size"),
        ] {
            assert_eq!(message(map, real, stored), format!("malformed map of a sparse file: {why}"));
        }
    }

    #[test]
    fn a_textual_map_may_span_blocks_and_hostile_ones_end_early() {
        let blocks = |text: &[u8]| {
            let mut map = MapText::default();
            let mut padded = text.to_vec();
            padded.resize(text.len().next_multiple_of(header::BLOCK_SIZE), 0);
            let (blocks, _) = padded.as_chunks();
            for block in blocks {
                match map.push(block) {
                    Ok(None) => {}
                    Ok(Some(map)) => return Ok(map),
                    Err(problem) => return Err(problem.to_string()),
                }
            }
            Err("not complete".into())
        };
        let long: String = (0..100).map(|run| format!("{}\n1\n", run * 10_000_000)).collect();
        assert_eq!(blocks(format!("100\n{long}").as_bytes()).unwrap().len(), 200);
        assert_eq!(blocks(b"0\n"), Ok(Vec::new()));
        for (text, why) in [
            (&b"1048577\n"[..], "too many runs"),
            (b"1\n\n", "a line without a number"),
            (b"2\n1\n1\n", "a number that is too long"),
            (b"1\nx\n", "a line without a number"),
            (b"000000000000000000000", "a number that is too long"),
        ] {
            assert_eq!(blocks(text), Err(format!("malformed map of a sparse file: {why}")));
        }
    }
}
