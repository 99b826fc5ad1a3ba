//! Who a step runs as: `user[:group]` looked up in the root's own
//! [passwd(5)](https://man7.org/linux/man-pages/man5/passwd.5.html) and
//! [group(5)](https://man7.org/linux/man-pages/man5/group.5.html), as the `User` of an image
//! ([OCI image configuration](https://github.com/opencontainers/image-spec/blob/main/config.md)).

/// Where a user without an entry is at home.
const DEFAULT_HOME: &[u8] = b"/";

/// Not an ID: [setresuid(2)](https://man7.org/linux/man-pages/man2/setresuid.2.html) and its like take
/// it to mean that nothing changes, so that the step would stay root.
const NO_ID: u32 = u32::MAX;

/// The IDs of a process, and the user's home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// All groups, the primary one first. Only that one when the group was given.
    pub groups: Vec<u32>,
    /// Home directory.
    pub home: Vec<u8>,
}

/// Finds the account. A number without an entry is that user, in group 0.
///
/// # Errors
/// The name that has no entry, with what it was looked for as, or the number that is no ID.
pub fn resolve(user_and_group: &str, passwd: &[u8], group: &[u8]) -> Result<Account, String> {
    let (user, given_group) = match user_and_group.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|g| !g.is_empty())),
        None => (user_and_group, None),
    };
    let mut account = find_user(if user.is_empty() { "0" } else { user }, passwd)?;
    match given_group {
        Some(given) => {
            account.gid = find_group(given, group)?;
            account.groups = vec![account.gid];
        }
        None => account.groups = groups_of(&account, user, passwd, group),
    }
    Ok(account)
}

/// An ID given as a number.
fn number(kind: &str, text: &str) -> Result<Option<u32>, String> {
    match text.parse() {
        Ok(NO_ID) => Err(format!("{kind} {NO_ID} is not an ID: to Linux it means no change")),
        parsed => Ok(parsed.ok()),
    }
}

fn find_user(user: &str, passwd: &[u8]) -> Result<Account, String> {
    let number = number("user", user)?;
    let matches =
        |fields: &[&[u8]]| fields[0] == user.as_bytes() || number.is_some() && number_in(fields, 2) == number;
    if let Some(fields) = entries(passwd).find(|fields| matches(fields)) {
        let (uid, gid) = (number_in(&fields, 2), number_in(&fields, 3));
        let (Some(uid), Some(gid)) = (uid, gid) else {
            return Err(format!("user {user:?}: its entry in /etc/passwd has no valid numbers"));
        };
        let home = fields.get(5).filter(|home| !home.is_empty()).map_or(DEFAULT_HOME, |home| home);
        return Ok(Account { uid, gid, groups: vec![gid], home: home.to_vec() });
    }
    let uid = number.ok_or_else(|| format!("user {user:?} is not in /etc/passwd"))?;
    Ok(Account { uid, gid: 0, groups: vec![0], home: DEFAULT_HOME.to_vec() })
}

fn find_group(name: &str, group: &[u8]) -> Result<u32, String> {
    let number = number("group", name)?;
    let named = entries(group).find(|fields| fields[0] == name.as_bytes());
    named
        .and_then(|fields| number_in(&fields, 2))
        .or(number)
        .ok_or_else(|| format!("group {name:?} is not in /etc/group"))
}

/// The primary group, and those that list the user as a member, as
/// [initgroups(3)](https://man7.org/linux/man-pages/man3/initgroups.3.html) has it.
fn groups_of(account: &Account, user: &str, passwd: &[u8], group: &[u8]) -> Vec<u32> {
    let by_number = entries(passwd).find(|fields| number_in(fields, 2) == Some(account.uid));
    let by_name = entries(passwd).find(|fields| fields[0] == user.as_bytes());
    let mut groups = vec![account.gid];
    let Some(name) = by_name.or(by_number).map(|fields| fields[0].to_vec()) else { return groups };
    for fields in entries(group) {
        let members = fields.get(3).copied().unwrap_or_default();
        let Some(gid) = number_in(&fields, 2) else { continue };
        if members.split(|&b| b == b',').any(|member| member == name) && !groups.contains(&gid) {
            groups.push(gid);
        }
    }
    groups
}

/// The lines of such a file as fields; at least one field each.
fn entries(file: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    let lines = file.split(|&b| b == b'\n').filter(|line| !line.is_empty() && !line.starts_with(b"#"));
    lines.map(|line| line.split(|&b| b == b':').collect())
}

fn number_in(fields: &[&[u8]], at: usize) -> Option<u32> {
    let number = std::str::from_utf8(fields.get(at)?).ok()?.parse().ok()?;
    (number != NO_ID).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] =
        b"root:x:0:0:root:/root:/bin/sh\n# a comment\nbroken\nweb:x:33:33::/var/www:/bin/false\n\
        \nodd:x:1000:50:::\n7:x:1007:1007::/seven:\nbad:x:minus:1::/:\n\
        all:x:4294967295:5::/:\nany:x:5:4294967295::/:";
    const GROUP: &[u8] =
        b"root:x:0:\nadm:x:4:root,web\nwww:x:33:\nvideo:x:44:web\ndup:x:44:web\nstaff:x:50:odd\nall:x:4294967295:web\n";

    #[test]
    fn accounts_are_found_as_container_runtimes_find_them() {
        let table: &[(&str, u32, &[u32], &str)] = &[
            ("root", 0, &[0, 4], "/root"),
            ("0", 0, &[0, 4], "/root"),
            ("", 0, &[0, 4], "/root"),
            ("web", 33, &[33, 4, 44], "/var/www"),
            ("33", 33, &[33, 4, 44], "/var/www"),
            ("web:", 33, &[33, 4, 44], "/var/www"),
            ("web:staff", 33, &[50], "/var/www"),
            ("web:12345", 33, &[12345], "/var/www"),
            ("odd", 1000, &[50], "/"),
            ("7", 1007, &[1007], "/seven"),
            ("4000", 4000, &[0], "/"),
            ("4000:video", 4000, &[44], "/"),
        ];
        for (spec, uid, groups, home) in table {
            let account = resolve(spec, PASSWD, GROUP).unwrap();
            let wanted = Account {
                uid: *uid,
                gid: groups[0],
                groups: groups.to_vec(),
                home: home.as_bytes().to_vec(),
            };
            assert_eq!(account, wanted, "{spec:?}");
        }
    }

    #[test]
    fn names_without_an_entry_are_told() {
        let table = [
            ("nobody", "user \"nobody\" is not in /etc/passwd"),
            ("web:wheel", "group \"wheel\" is not in /etc/group"),
            ("-1", "user \"-1\" is not in /etc/passwd"),
            ("4294967295", "user 4294967295 is not an ID: to Linux it means no change"),
            ("4294967295:web", "user 4294967295 is not an ID: to Linux it means no change"),
            ("web:4294967295", "group 4294967295 is not an ID: to Linux it means no change"),
            ("web:all", "group \"all\" is not in /etc/group"),
            ("4294967296", "user \"4294967296\" is not in /etc/passwd"),
            ("all", "user \"all\": its entry in /etc/passwd has no valid numbers"),
            ("any", "user \"any\": its entry in /etc/passwd has no valid numbers"),
            ("bad", "user \"bad\": its entry in /etc/passwd has no valid numbers"),
        ];
        for (spec, message) in table {
            assert_eq!(resolve(spec, PASSWD, GROUP).unwrap_err(), message);
        }
    }

    #[test]
    fn an_image_without_accounts_has_numbers_only() {
        let account = resolve("0", b"", b"").unwrap();
        assert_eq!(account, Account { uid: 0, gid: 0, groups: vec![0], home: b"/".to_vec() });
    }
}
