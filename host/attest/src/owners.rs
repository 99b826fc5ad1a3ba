//! Which package a file belongs to.

use crate::packages::{apk_owned, dpkg_owned, pacman_owned, rpm_owned};
use crate::reader::Reader;
use crate::{Error, Files};
use std::collections::BTreeMap;

/// Most lines of all lists: a hostile image can have a billion empty ones.
const MAX_CLAIMS: u64 = 20_000_000;

/// For every file, not directory, of the root file system that belongs to a package of dpkg, apk, rpm or
/// pacman: its path, with symbolic links on the way followed (so `usr/bin/bash` also where dpkg says
/// `/bin/bash`), and the package's name. A file of several packages belongs to the first of them in
/// the managers' order and by name. dpkg's diversions are not looked at.
///
/// Unlike for [`packages::installed`](crate::packages::installed), a database that cannot be read is an
/// error: a split of layers by packages should be known to be none. Of more than twenty million paths the first are used.
///
/// # Errors
/// When `files` fails, or a list is larger than 64 MiB, or all are larger than 1 GiB, or damaged.
pub fn owners(files: &dyn Files) -> Result<BTreeMap<Vec<u8>, String>, Error> {
    of(&Reader::new(files))
}

pub(crate) fn of(reader: &Reader) -> Result<BTreeMap<Vec<u8>, String>, Error> {
    let mut owners = BTreeMap::new();
    let mut claims = 0;
    let mut own = |path: &[u8], package: &str| {
        claims += 1;
        if claims > MAX_CLAIMS {
            return;
        }
        let path = path.strip_prefix(b"/").unwrap_or(path);
        if let Some(path) = reader.locate(path).filter(|path| !path.is_empty()) {
            owners.entry(path).or_insert_with(|| package.to_owned());
        }
    };
    dpkg_owned(reader, &mut own)?;
    apk_owned(reader, &mut own)?;
    rpm_owned(reader, &mut own)?;
    pacman_owned(reader, &mut own)?;
    Ok(owners)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::fake::FakeFiles;

    #[test]
    fn of_dpkg_apk_and_pacman() {
        let files = FakeFiles::of(&[
            ("var/lib/dpkg/info/bash.list", "/.\n/bin\n/bin/bash\n/usr/share/doc\n/gone\n\n"),
            ("var/lib/dpkg/info/libc6:amd64.list", "/lib/libc.so.6\n/bin/bash\n"),
            ("var/lib/dpkg/info/bash.md5sums", "/bin/sums\n"),
            ("lib/apk/db/installed", "P:musl\nF:lib\nR:ld.so\n\nF:lib\nR:nobody\n\nP:top\nF:\nR:init\n"),
            ("var/lib/pacman/local/x-1/desc", "%NAME%\nx\n"),
            ("var/lib/pacman/local/x-1/files", "%FILES%\nusr/\nusr/x\n\n%BACKUP%\nbin/sums\n"),
            ("bin/bash", ""),
            ("lib/libc.so.6", ""),
            ("lib/ld.so", ""),
            ("lib/nobody", ""),
            ("bin/sums", ""),
            ("init", ""),
            ("usr/x", ""),
        ]);
        let owners = owners(&files).unwrap();
        let expected = [
            ("bin/bash", "bash"),
            ("init", "top"),
            ("lib/ld.so", "musl"),
            ("lib/libc.so.6", "libc6"),
            ("usr/x", "x"),
        ];
        let expected = expected.map(|(path, package)| (path.as_bytes().to_vec(), package.to_owned()));
        assert_eq!(owners, BTreeMap::from(expected));
    }
}
