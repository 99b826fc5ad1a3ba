//! `kiln diff`.

use crate::{arguments::DiffArguments, files::Files, progress, workplace::Workplace};
use anyhow::Result;
use kiln_inspect::Side;
use std::io::{self, Write};

/// The exit code when anything goes wrong, as of diff(1).
pub const TROUBLE: u8 = 2;

/// Shows what differs. The exit code: 0 when nothing does, else 1.
pub fn run(arguments: &DiffArguments) -> Result<u8> {
    let workplace = Workplace::open(&arguments.registry, Box::new(progress::Quiet))?;
    let import = |reference| workplace.import(reference, arguments.platform.as_ref());
    let (left, right) = (import(&arguments.left)?.image, import(&arguments.right)?.image);
    let (ours, theirs) = (Files::of(&left)?, Files::of(&right)?);
    let comparison = kiln_inspect::compare(
        Side { config: &left.config, tree: &ours.tree },
        Side { config: &right.config, tree: &theirs.tree },
        arguments.ignore_mtimes,
        &mut |is_right, node| if is_right { theirs.digest(node) } else { ours.digest(node) },
    )?;
    let text =
        if arguments.json { serde_json::to_string_pretty(&comparison)? + "\n" } else { comparison.to_text() };
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(u8::from(!comparison.is_same()))
}
