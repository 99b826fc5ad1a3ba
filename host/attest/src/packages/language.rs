//! Packages of programming languages: what no package of the system has brought.

use super::{Found, npm, python};
use crate::error::Error;
use crate::owners;
use crate::reader::Reader;

pub(super) fn read(reader: &Reader, found: &mut Found) -> Result<(), Error> {
    let mut others = Found::default();
    python::read(reader, &mut others)?;
    npm::read(reader, &mut others)?;
    if !others.packages.is_empty() {
        match owners::of(reader) {
            Ok(owners) => others.packages.retain(|package| !owners.contains_key(package.database.as_bytes())),
            Err(error) if error.is_io() => return Err(error),
            // The database is named already, by its own manager's reader.
            Err(_) => {}
        }
    }
    found.packages.append(&mut others.packages);
    found.unread.append(&mut others.unread);
    Ok(())
}
