//! SSH host keys: each machine's own, so none in an image.

use super::init::{Init, Service};
use super::{Removal, SystemFile};

/// The host keys that sshd finds without being told (sshd_config(5), `HostKey`), and that of version 1.
pub fn host_keys() -> [Removal; 4] {
    ["ssh_host_*_key", "ssh_host_*_key.pub", "ssh_host_key", "ssh_host_key.pub"]
        .map(|name| Removal { directory: "etc/ssh", name })
}

/// Debian makes them when the package is installed, and sshd does not start without. Systems that make them at boot come
/// first: then there is nothing left to do.
const SERVICE: Service = Service {
    name: "ssh-host-keys",
    description: "Make SSH host keys of this machine",
    command: "/usr/bin/ssh-keygen -A",
    unit_lines: "ConditionFileIsExecutable=/usr/bin/ssh-keygen\nConditionPathExistsGlob=!/etc/ssh/ssh_host_*_key\n\
                 After=sshd-keygen.target sshdgenkeys.service\nBefore=ssh.service sshd.service\n",
    script_condition: "[ -x /usr/bin/ssh-keygen ] && ! ls /etc/ssh/ssh_host_*_key >/dev/null 2>&1",
    order: "98",
};

/// What makes host keys at the first boot, before sshd starts.
pub fn host_keys_at_first_boot(init: Init) -> Vec<SystemFile> {
    SERVICE.files(init)
}
