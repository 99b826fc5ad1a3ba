//! What people do to systems, as changes to files.

use super::{
    edit::{Edit, Editor},
    plan::SystemPlan,
};
use crate::Error;
use kiln_image::tree::Tree;

/// Changes that need only the tree's names.
pub(crate) fn edits(_plan: &SystemPlan, _tree: &Tree) -> Result<Vec<Edit>, Error> {
    Ok(Vec::new())
}

/// Makes them.
pub(crate) fn apply(edits: &[Edit], editor: &mut Editor) -> Result<(), Error> {
    editor.apply(edits)
}
