//! `dir:`, as skopeo writes it.

use super::copy_blob;
use super::layout::put;
use crate::Error;
use crate::plan::Plan;
use std::fs;
use std::io;
use std::path::Path;

/// What the file `version` says.
const VERSION: &[u8] = b"Directory Transport Version: 1.1\n";

/// Writes a plan into the directory at `path`: empty, new, or one of the same kind, whose image is replaced.
pub(crate) fn write(plan: &Plan<'_>, path: &Path) -> Result<(), Error> {
    let [top] = &plan.tops[..] else {
        return Err(Error::usage(format!("dir:{} holds one image or one index", path.display())));
    };
    if !plan.referrers.is_empty() {
        return Err(Error::usage(format!("dir:{} cannot hold what is said about an image", path.display())));
    }
    check(path)?;
    fs::create_dir_all(path).map_err(|e| Error::file("create", path, e))?;
    for blob in &plan.blobs {
        let to = path.join(blob.descriptor.digest.hex());
        put(&to, |out| copy_blob(blob, out, &to.display().to_string()))?;
    }
    let mut names: Vec<String> = plan.blobs.iter().map(|blob| blob.descriptor.digest.hex()).collect();
    for document in &plan.documents {
        let is_top = document.digest == top.descriptor.digest;
        if !is_top {
            let name = format!("{}.manifest.json", document.digest.hex());
            put_bytes(&path.join(&name), &document.bytes)?;
            names.push(name);
        }
    }
    put_bytes(&path.join("version"), VERSION)?;
    let top = plan.documents.iter().find(|document| document.digest == top.descriptor.digest);
    put_bytes(&path.join("manifest.json"), &top.expect("planned with its document").bytes)?;
    remove_old(path, &names)
}

fn check(path: &Path) -> Result<(), Error> {
    let used = match fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_some(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => false,
        Err(e) => return Err(Error::file("list", path, e)),
    };
    if used && !path.join("version").exists() {
        let message = format!("{} is a directory with other files, and no image's", path.display());
        return Err(Error::usage(message));
    }
    Ok(())
}

/// Removes the blobs of the image that was there.
fn remove_old(path: &Path, names: &[String]) -> Result<(), Error> {
    let entries = fs::read_dir(path).map_err(|e| Error::file("list", path, e))?;
    for entry in entries {
        let name = entry.map_err(|e| Error::file("list", path, e))?.file_name();
        let Some(name) = name.to_str() else { continue };
        let digits = name.strip_suffix(".manifest.json").unwrap_or(name);
        if kiln_image::digest::Digest::from_hex(digits).is_some() && !names.iter().any(|kept| kept == name) {
            fs::remove_file(path.join(name)).map_err(|e| Error::file("remove", &path.join(name), e))?;
        }
    }
    Ok(())
}

fn put_bytes(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    put(path, |out| out.write_all(bytes).map_err(|e| Error::file("write", path, e)))
}
