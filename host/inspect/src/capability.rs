//! What `security.capability` says, as getcap(8) shows it.
//! <https://man7.org/linux/man-pages/man7/capabilities.7.html>

use std::collections::BTreeMap;

/// The attribute's name.
pub const XATTR: &[u8] = b"security.capability";

/// Capabilities by number: `linux/capability.h`.
const NAMES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

/// `VFS_CAP_FLAGS_EFFECTIVE`.
const EFFECTIVE: u32 = 1;

/// `cap_net_bind_service=ep`, as libcap writes it; `None` when the value is none of the kernel's formats.
pub fn decode(value: &[u8]) -> Option<String> {
    let words: Vec<u32> =
        value.chunks(4).map(|word| word.try_into().map(u32::from_le_bytes).ok()).collect::<Option<_>>()?;
    let (magic, rest) = words.split_first()?;
    let (permitted, inheritable, root) = match (magic >> 24, rest) {
        (1, [permitted, inheritable]) => (u64::from(*permitted), u64::from(*inheritable), None),
        (2, [p, i, p_high, i_high]) => (wide(*p, *p_high), wide(*i, *i_high), None),
        (3, [p, i, p_high, i_high, root]) => (wide(*p, *p_high), wide(*i, *i_high), Some(root)),
        _ => return None,
    };
    let text = clauses(magic & EFFECTIVE != 0, permitted, inheritable);
    Some(match root {
        Some(root) => format!("{text} [rootid={root}]"),
        None => text,
    })
}

fn wide(low: u32, high: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

/// One clause for each set of flags.
fn clauses(effective: bool, permitted: u64, inheritable: u64) -> String {
    let mut by_flags: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for number in 0..u64::BITS {
        let has = |set: u64| set >> number & 1 == 1;
        if has(permitted) || has(inheritable) {
            let flag = |is_set: bool, letter: &'static str| if is_set { letter } else { "" };
            let flags =
                [flag(effective, "e"), flag(has(inheritable), "i"), flag(has(permitted), "p")].concat();
            by_flags.entry(flags).or_default().push(name(number));
        }
    }
    let clause = |(flags, names): (&String, &Vec<String>)| format!("{}={flags}", names.join(","));
    let clauses: Vec<String> = by_flags.iter().map(clause).collect();
    if clauses.is_empty() { "=".to_owned() } else { clauses.join(" ") }
}

fn name(number: u32) -> String {
    match NAMES.get(number as usize) {
        Some(name) => format!("cap_{name}"),
        None => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn as_getcap_shows_them() {
        let table: [(&[u32], Option<&str>); 8] = [
            (&[0x0200_0001, 1 << 10, 0, 0, 0], Some("cap_net_bind_service=ep")),
            (&[0x0200_0000, 1 << 13, 1 << 13, 0, 0], Some("cap_net_raw=ip")),
            (&[0x0200_0001, 1 << 12 | 1 << 13, 0, 0, 0], Some("cap_net_admin,cap_net_raw=ep")),
            (&[0x0300_0001, 0, 0, 1 << 7, 0, 1000], Some("cap_bpf=ep [rootid=1000]")),
            (&[0x0100_0000, 1, 2], Some("cap_dac_override=i cap_chown=p")),
            (&[0x0200_0000, 0, 0, 0, 0], Some("=")),
            (&[0x0200_0000, 0, 0, 1 << 31, 0], Some("63=p")),
            (&[0x0200_0000, 0], None),
        ];
        for (words, text) in table {
            assert_eq!(decode(&value(words)).as_deref(), text, "{words:x?}");
        }
        for broken in [&b""[..], b"abc", b"\x01\0\0\x02x"] {
            assert_eq!(decode(broken), None);
        }
    }
}
