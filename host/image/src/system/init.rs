//! The system's own init, and how it is told to run something of ours once.

use super::{Removal, SystemFile};

/// What starts a system's services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Init {
    /// systemd: units.
    Systemd,
    /// System V init, or what reads its scripts: `init.d`, and links in `rcS.d`, which come before all
    /// services of a runlevel.
    Sysvinit,
    /// OpenRC: services in a runlevel.
    OpenRc,
}

impl Init {
    /// The one of a system, told by files of theirs, by path from the root; `None` when there is none that is known. Where there is
    /// more than one it is the one that `program` is of, which is where `/sbin/init` leads, else the first of systemd, OpenRC
    /// and System V.
    pub fn of(program: Option<&str>, exists: impl Fn(&str) -> bool) -> Option<Self> {
        // An inittab alone says little: System V's own decides what reads which scripts.
        const SIGNS: [(Init, &[&str]); 3] = [
            (Init::Systemd, &["usr/lib/systemd/systemd", "lib/systemd/systemd"]),
            (Init::OpenRc, &["usr/sbin/openrc-run", "sbin/openrc-run"]),
            (Init::Sysvinit, &["etc/rcS.d"]),
        ];
        let runs_systemd = program.is_none_or(|path| path.ends_with("/systemd"));
        let is_possible = |init: &Init| *init != Init::Systemd || runs_systemd;
        let found = SIGNS.into_iter().filter(|(init, _)| is_possible(init));
        found.into_iter().find(|(_, signs)| signs.iter().any(|sign| exists(sign))).map(|(init, _)| init)
    }

    /// What has to go for services that were added without the system's own tool. Debian's `rc` starts what
    /// `insserv` once wrote into this file, and nothing else; without it all links, by their numbers.
    pub fn removals(self) -> Vec<Removal> {
        match self {
            Self::Sysvinit => vec![Removal { directory: "etc/init.d", name: ".depend.boot" }],
            Self::Systemd | Self::OpenRc => Vec::new(),
        }
    }
}

/// Services of ours in the order in which they run.
const NAMES: [&str; 3] = ["grow-root", "ssh-host-keys", "first-boot"];

/// A program of ours that is run at boot.
pub(super) struct Service {
    /// Without `kiln-`.
    pub name: &'static str,
    pub description: &'static str,
    /// The command, whose arguments have no blanks.
    pub command: &'static str,
    /// More lines of the unit's first section.
    pub unit_lines: &'static str,
    /// What the script asks before it runs the command, as a command of the shell.
    pub script_condition: &'static str,
    /// The place in `rcS.d` among services of ours.
    pub order: &'static str,
}

impl Service {
    pub(super) fn files(&self, init: Init) -> Vec<SystemFile> {
        match init {
            Init::Systemd => self.unit(),
            Init::Sysvinit => self.script(),
            Init::OpenRc => self.openrc_service(),
        }
    }

    fn unit(&self) -> Vec<SystemFile> {
        let Self { name, description, command, unit_lines, .. } = self;
        let text = format!(
            "[Unit]\nDescription={description}\n{unit_lines}\n[Service]\nType=oneshot\nRemainAfterExit=yes\n\
             TimeoutStartSec=0\nExecStart={command}\nStandardOutput=journal+console\nStandardError=inherit\n\n\
             [Install]\nWantedBy=multi-user.target\n"
        );
        let unit = format!("kiln-{name}.service");
        vec![
            SystemFile::file(&format!("etc/systemd/system/{unit}"), 0o644, text),
            SystemFile::symlink(
                format!("etc/systemd/system/multi-user.target.wants/{unit}"),
                format!("../{unit}"),
            ),
        ]
    }

    /// With the header of the
    /// [LSB](https://refspecs.linuxfoundation.org/LSB_5.0.0/LSB-Core-generic/LSB-Core-generic/initscrcomconv.html).
    fn script(&self) -> Vec<SystemFile> {
        let Self { name, description, command, script_condition, order, .. } = self;
        let text = format!(
            "#!/bin/sh\n### BEGIN INIT INFO\n# Provides:          kiln-{name}\n\
             # Required-Start:    $local_fs\n# Required-Stop:\n# X-Start-Before:    ssh\n# Default-Start:     S\n# Default-Stop:\n\
             # Short-Description: {description}\n### END INIT INFO\n\n\
             case \"${{1-}}\" in\nstart) {script_condition} || exit 0; exec {command} ;;\n*) exit 0 ;;\nesac\n"
        );
        vec![
            SystemFile::file(&format!("etc/init.d/kiln-{name}"), 0o755, text),
            SystemFile::symlink(format!("etc/rcS.d/S{order}kiln-{name}"), format!("../init.d/kiln-{name}")),
        ]
    }

    /// As [openrc-run(8)](https://github.com/OpenRC/openrc/blob/master/man/openrc-run.8) has it. Those of ours that come
    /// before have lower places, and are named if they are there or not.
    fn openrc_service(&self) -> Vec<SystemFile> {
        let Self { name, description, command, script_condition, .. } = self;
        let after = NAMES.iter().take_while(|other| *other != name);
        let after: String = after.map(|other| format!(" kiln-{other}")).collect();
        let text = format!(
            "#!/sbin/openrc-run\ndescription=\"{description}\"\n\ndepend() {{\n\tneed localmount\n\tafter bootmisc{after}\n\
             \tbefore sshd\n}}\n\nstart() {{\n\t{script_condition} || return 0\n\tebegin \"{description}\"\n\
             \t{command}\n\teend $?\n}}\n"
        );
        vec![
            SystemFile::file(&format!("etc/init.d/kiln-{name}"), 0o755, text),
            SystemFile::symlink(
                format!("etc/runlevels/boot/kiln-{name}"),
                format!("/etc/init.d/kiln-{name}"),
            ),
        ]
    }
}
