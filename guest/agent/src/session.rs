//! The job from its first mount to its last message.

use crate::{
    connection::Connection,
    failure::{Failure, Result, Trying},
    layer,
    namespace::Launch,
    step,
    storage::{Disks, Storage, Tree},
    view::{HOOK_LAYER, HOOK_TREE, View},
};
use kiln_protocol::{Ending, FromGuest, GuestFailure, Job, Stage, Step, StepReport};
use std::path::Path;

/// Does the job, with mounts in `directory`; gives the last message.
pub fn run(job: &Job, disks: &Disks, directory: &Path, connection: &mut Connection) -> FromGuest {
    let storage = match Storage::mount_scratch(directory, disks, &job.scratch) {
        Ok(storage) => storage,
        Err(failure) => return failed(failure, None, None),
    };
    let mut session = Session { job, connection, storage, stage: None, oom_kills: 0 };
    match session.run(disks) {
        Ok(last) => last,
        Err(failure) => failed(failure, session.stage, Some(&session.storage)),
    }
}

/// The last message when our own machinery failed.
pub fn failed(failure: Failure, stage: Option<Stage>, storage: Option<&Storage>) -> FromGuest {
    let scratch = storage.and_then(|storage| storage.usage().ok());
    FromGuest::Failed(GuestFailure { stage, what: failure.what, errno: failure.errno, scratch })
}

struct Session<'a> {
    job: &'a Job,
    connection: &'a mut Connection,
    storage: Storage,
    /// That of the latest step.
    stage: Option<Stage>,
    /// Since the VM started.
    oom_kills: u64,
}

impl Session<'_> {
    fn run(&mut self, disks: &Disks) -> Result<FromGuest> {
        self.storage.prepare(self.job, disks)?;
        self.oom_kills = oom_kills()?;
        for (index, step) in self.job.steps.iter().enumerate() {
            let index = u32::try_from(index).map_err(|_| Failure::new("the job has too many steps"))?;
            if self.step(index, step)? != Ending::Exited(0) {
                return self.done();
            }
        }
        if self.stage == Some(Stage::Root) {
            self.storage.remove_mount_points()?;
        }
        if self.job.target.is_some() && is_mounted(self.stage) {
            self.storage.unmount_root()?;
        }
        self.storage.sync_target()?;
        if self.job.send_layer {
            let (layer, base) = (self.storage.open_layer()?, self.storage.open_base()?);
            layer::send(layer, base, self.job.clock, self.connection)?;
        }
        self.done()
    }

    fn done(&self) -> Result<FromGuest> {
        Ok(FromGuest::Done { scratch: self.storage.usage()? })
    }

    fn step(&mut self, index: u32, step: &Step) -> Result<Ending> {
        self.enter_stage(step.stage)?;
        self.connection.send(&FromGuest::StepStarted { step: index })?;
        let ending = match self.view(step.stage)? {
            Some(view) => self.run_in(&view, step)?,
            None => Ending::NotStarted {
                what: "hooks need a userland: the image is made from scratch, so name one with `tools`"
                    .into(),
                errno: libc::ENOENT,
            },
        };
        let (before, scratch) = (self.oom_kills, self.storage.usage()?);
        self.oom_kills = oom_kills()?;
        let oom_kills = self.oom_kills.saturating_sub(before);
        let report = StepReport { step: index, ending: ending.clone(), oom_kills, scratch };
        self.connection.send(&FromGuest::StepEnded(report))?;
        Ok(ending)
    }

    /// Mounts and unmounts the merged tree as the stages go by.
    fn enter_stage(&mut self, stage: Stage) -> Result<()> {
        let before = self.stage.replace(stage);
        if before.is_some_and(|before| before > stage) {
            return Err(Failure::new("the job's stages go backwards"));
        }
        if is_mounted(Some(stage)) && !is_mounted(before) {
            self.storage.mount_root()?;
        }
        if stage == Stage::Root && before != Some(Stage::Root) {
            self.storage.make_mount_points()?;
        }
        if before == Some(Stage::Root) && stage != Stage::Root {
            self.storage.remove_mount_points()?;
        }
        if is_mounted(before) && !is_mounted(Some(stage)) {
            self.storage.unmount_root()?;
        }
        Ok(())
    }

    fn view(&mut self, stage: Stage) -> Result<Option<View>> {
        match stage {
            Stage::Root => Ok(Some(self.storage.root_view())),
            Stage::PreMount | Stage::PostUmount => self.storage.hook_view(Tree::None),
            Stage::PostMount => self.storage.hook_view(Tree::Merged),
            Stage::Disk => self.storage.hook_view(Tree::Base),
        }
    }

    fn run_in(&mut self, view: &View, step: &Step) -> Result<Ending> {
        let variables: &[_] =
            if step.stage == Stage::Root { &[] } else { &[("layer", HOOK_LAYER), ("mnt", HOOK_TREE)] };
        let working_directory = working_directory(step.stage);
        let ending = step::run(&Launch { step, view, variables, working_directory }, self.connection)?;
        Ok(if step.stage == Stage::Root { ending } else { explain_missing_shell(ending) })
    }
}

/// Whether the merged tree is mounted in a stage.
fn is_mounted(stage: Option<Stage>) -> bool {
    matches!(stage, Some(Stage::Root | Stage::PostMount))
}

/// Where a step starts that does not say.
fn working_directory(stage: Stage) -> &'static str {
    match stage {
        Stage::PreMount => "/kiln",
        Stage::Root | Stage::PostMount | Stage::Disk => "/",
        Stage::PostUmount => HOOK_LAYER,
    }
}

/// A base without a shell is nothing wrong; a hook then needs tools.
fn explain_missing_shell(ending: Ending) -> Ending {
    match ending {
        Ending::NotStarted { what, errno: errno @ libc::ENOENT } if what.starts_with("/bin/sh") => {
            Ending::NotStarted {
                what: format!(
                    "{what}: hooks run in the base image's userland unless `tools` names another image"
                ),
                errno,
            }
        }
        other => other,
    }
}

/// Processes killed for want of memory since the VM started.
fn oom_kills() -> Result<u64> {
    let counters = std::fs::read_to_string("/proc/vmstat").trying(|| "read /proc/vmstat")?;
    let line = counters.lines().find_map(|line| line.strip_prefix("oom_kill "));
    Ok(line.and_then(|count| count.parse().ok()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_shell_points_to_tools() {
        let ending = |what: &str| Ending::NotStarted { what: what.into(), errno: libc::ENOENT };
        let told = explain_missing_shell(ending("/bin/sh"));
        assert!(matches!(told, Ending::NotStarted { what, .. } if what.contains("`tools`")));
        assert_eq!(explain_missing_shell(ending("/x")), ending("/x"));
        assert_eq!(explain_missing_shell(Ending::Exited(1)), Ending::Exited(1));
    }
}
