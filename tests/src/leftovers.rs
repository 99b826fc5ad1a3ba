//! What a run leaves behind.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// What the processes of one run have in common.
pub struct Family {
    /// `NAME=value` in their environment.
    pub mark: String,
    /// Their session.
    pub session: u32,
}

impl Family {
    /// Command lines of its living processes.
    pub fn processes(&self) -> Vec<String> {
        let processes = fs::read_dir("/proc").expect("/proc is mounted");
        processes.filter_map(Result::ok).filter_map(|entry| self.member(&entry.path())).collect()
    }

    /// What cannot be read is another user's, or just gone.
    fn member(&self, process: &Path) -> Option<String> {
        let stat = fs::read_to_string(process.join("stat")).ok()?;
        // proc_pid_stat(5): pid (comm) state ppid pgrp session ...; comm may contain anything.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let (state, session) = (fields.next()?, fields.nth(2)?);
        let is_dead = matches!(state, "Z" | "X");
        if is_dead || !(session == self.session.to_string() || self.is_marked(process)) {
            return None;
        }
        let line = fs::read(process.join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&line).replace('\0', " "))
    }

    fn is_marked(&self, process: &Path) -> bool {
        let environment = fs::read(process.join("environ")).unwrap_or_default();
        environment.split(|&byte| byte == 0).any(|variable| variable == self.mark.as_bytes())
    }
}

/// The files below a directory at one moment.
pub struct Files {
    dir: PathBuf,
    paths: BTreeSet<PathBuf>,
}

impl Files {
    /// Lists them.
    pub fn below(dir: &Path) -> Self {
        let mut paths = BTreeSet::new();
        collect(dir, &mut paths);
        Self { dir: dir.to_owned(), paths }
    }

    /// Those that were not there.
    pub fn new_ones(&self) -> Vec<PathBuf> {
        Self::below(&self.dir).paths.difference(&self.paths).cloned().collect()
    }
}

fn collect(dir: &Path, paths: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok) {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&path, paths);
        }
        paths.insert(path);
    }
}
