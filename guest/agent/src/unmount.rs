//! Unmounting what may still be in use.
//!
//! A step's own mounts go with its mount namespace, and its processes with its PID namespace, so nothing should hold what
//! the agent mounted. The kernel may need a moment to let go all the same; and should anybody stay, it is named.

use crate::failure::{Failure, Result, Trying};
use rustix::{
    io::Errno,
    mount::{UnmountFlags, unmount},
};
use std::{fs, path::Path, thread::sleep, time::Duration};

/// How often it is tried, and how long is waited in between.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);
/// Holders that are named.
const NAMED_MAX: usize = 5;

/// Unmounts, in a second at most.
///
/// # Errors
/// That of umount(2); who still uses it is named.
pub fn unmount_patiently(target: &Path) -> Result<()> {
    for attempt in 1..=ATTEMPTS {
        match unmount(target, UnmountFlags::empty()) {
            Err(Errno::BUSY) if attempt < ATTEMPTS => sleep(PAUSE),
            Err(Errno::BUSY) => return Err(busy(target)),
            other => return other.trying(|| format!("unmount {}", target.display())),
        }
    }
    Ok(())
}

fn busy(target: &Path) -> Failure {
    let mut holders = holders(target);
    let more = holders.len().saturating_sub(NAMED_MAX);
    holders.truncate(NAMED_MAX);
    let mut text = match holders.is_empty() {
        true => "nobody seems to use it".to_owned(),
        false => format!("in use by {}", holders.join(", ")),
    };
    if more > 0 {
        text = format!("{text} and {more} more");
    }
    Failure { what: format!("unmount {}: {text}", target.display()), errno: libc::EBUSY }
}

/// Processes with a root, working directory, program or open file below, and mounts below.
fn holders(target: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let process = entry.path();
        if process.file_name().is_some_and(|name| name.as_encoded_bytes().iter().all(u8::is_ascii_digit))
            && uses(&process, target)
        {
            let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
            found.push(format!("{} ({})", entry.file_name().display(), name.trim_end()));
        }
    }
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let below = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    found.extend(
        below.filter(|place| is_below(Path::new(place), target)).map(|place| format!("a mount at {place}")),
    );
    found
}

fn uses(process: &Path, target: &Path) -> bool {
    let leads_there =
        |link: &Path| fs::read_link(link).is_ok_and(|place| place == target || is_below(&place, target));
    let open = fs::read_dir(process.join("fd")).into_iter().flatten().flatten().map(|entry| entry.path());
    ["root", "cwd", "exe"]
        .into_iter()
        .map(|name| process.join(name))
        .chain(open)
        .any(|link| leads_there(&link))
}

fn is_below(place: &Path, target: &Path) -> bool {
    place != target && place.starts_with(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_mounted_is_an_error_at_once() {
        let failed = unmount_patiently(Path::new("/no/such/place")).unwrap_err();
        assert!(failed.what.starts_with("unmount /no/such/place"), "{failed}");
    }

    #[test]
    fn who_holds_a_place_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let held = fs::File::create(directory.path().join("held")).unwrap();
        let place = directory.path().canonicalize().unwrap();
        let found = holders(&place).join(" ");
        assert!(found.starts_with(&std::process::id().to_string()), "{found}");
        assert!(busy(&place).what.contains("in use by"), "{found}");
        drop(held);
        assert!(busy(&place).what.contains("nobody"));
    }
}
