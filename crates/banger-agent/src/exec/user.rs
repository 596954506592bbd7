//! Owns the meaning of `user` in an exec, by the guest's own passwd and group files. Knows no NSS and no processes.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use rustix::fs::{Gid, Uid};

/// Reading stops here: these files come from the image.
const MAX_FILE: u64 = 4 << 20;
/// As many supplementary groups as anyone has; the kernel's limit is 65536.
const MAX_GROUPS: usize = 1024;

/// Who a process runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
    pub(super) name: Option<String>,
    pub(super) home: String,
    pub(super) shell: Option<String>,
}

impl User {
    pub(super) fn ids(&self) -> (Uid, Gid, Vec<Gid>) {
        let groups = self.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
        (Uid::from_raw(self.uid), Gid::from_raw(self.gid), groups)
    }
}

/// A user or group that the guest does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum UserError {
    #[error("no such user: {0}")]
    User(String),
    #[error("no such group: {0}")]
    Group(String),
}

/// A line of /etc/passwd.
#[derive(Debug)]
struct Account {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
    shell: String,
}

/// Finds `name`, `uid`, `name:group` or `uid:gid`; root when nothing is asked for. As with docker, a user by number
/// needs no account, and a group that is named takes the place of all the user's own.
pub(super) fn find(wanted: Option<&str>, etc: &Path) -> Result<User, UserError> {
    let wanted = wanted.unwrap_or("0");
    let (user, group) = match wanted.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (wanted, None),
    };
    let account = account(&etc.join("passwd"), user);
    let mut found = match account {
        Some(account) => from_account(account),
        None => from_number(user).ok_or_else(|| UserError::User(user.into()))?,
    };
    let groups = etc.join("group");
    match group {
        Some(group) => {
            found.gid = group_id(&groups, group).ok_or_else(|| UserError::Group(group.into()))?;
            found.groups = vec![found.gid];
        }
        None => found.groups = memberships(&groups, &found),
    }
    Ok(found)
}

fn from_account(account: Account) -> User {
    User {
        uid: account.uid,
        gid: account.gid,
        groups: Vec::new(),
        name: Some(account.name),
        home: account.home,
        shell: Some(account.shell).filter(|shell| !shell.is_empty()),
    }
}

fn from_number(user: &str) -> Option<User> {
    let uid = number(user)?;
    let (name, home) = if uid == 0 {
        (Some("root".into()), "/root")
    } else {
        (None, "/")
    };
    Some(User {
        uid,
        gid: 0,
        groups: Vec::new(),
        name,
        home: home.into(),
        shell: None,
    })
}

/// An account by its name, or else by its number.
fn account(path: &Path, user: &str) -> Option<Account> {
    let uid = number(user);
    let mut by_number = None;
    for line in lines(path) {
        let Some(account) = parse_account(&line) else {
            continue;
        };
        if account.name == user {
            return Some(account);
        }
        if by_number.is_none() && uid == Some(account.uid) {
            by_number = Some(account);
        }
    }
    by_number
}

fn parse_account(line: &str) -> Option<Account> {
    let mut fields = line.split(':');
    let name = fields
        .next()
        .filter(|name| !name.is_empty() && !name.starts_with('#'))?;
    let (uid, gid) = (fields.nth(1)?, fields.next()?);
    Some(Account {
        name: name.into(),
        uid: number(uid)?,
        gid: number(gid)?,
        home: fields
            .nth(1)
            .filter(|home| home.starts_with('/'))
            .unwrap_or("/")
            .into(),
        shell: fields.next().unwrap_or_default().into(),
    })
}

/// A line of /etc/group: (name, gid, members).
fn parse_group(line: &str) -> Option<(&str, u32, &str)> {
    let mut fields = line.split(':');
    let (name, gid) = (fields.next()?, fields.nth(1)?);
    Some((name, number(gid)?, fields.next().unwrap_or_default()))
}

fn group_id(path: &Path, group: &str) -> Option<u32> {
    let by_name = lines(path).find_map(|line| {
        parse_group(&line)
            .filter(|(name, ..)| *name == group)
            .map(|(_, gid, _)| gid)
    });
    by_name.or_else(|| number(group))
}

fn memberships(path: &Path, user: &User) -> Vec<u32> {
    let mut groups = vec![user.gid];
    if let Some(user) = &user.name {
        for line in lines(path) {
            if let Some((_, gid, members)) = parse_group(&line)
                && members.split(',').any(|member| member == user)
                && !groups.contains(&gid)
                && groups.len() < MAX_GROUPS
            {
                groups.push(gid);
            }
        }
    }
    groups
}

/// The lines of a file, or none where it cannot be read.
fn lines(path: &Path) -> impl Iterator<Item = String> {
    let file = File::open(path)
        .ok()
        .filter(|file| file.metadata().is_ok_and(|it| it.is_file()));
    let reader = file.map(|file| BufReader::new(file.take(MAX_FILE)));
    reader
        .into_iter()
        .flat_map(|reader| reader.lines().map_while(Result::ok))
}

/// Parses an id; the highest means "no change" to the kernel and is nobody's.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits
        .then(|| text.parse().ok())?
        .filter(|id| *id != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PASSWD: &str = "\
root:x:0:0:root:/root:/bin/bash
# a comment:x:7:7::/:
broken line
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
dev:x:1000:1000:Dev,,,:/home/dev:/bin/zsh
1000:x:2000:2000::/home/odd:
nohome:x:3000:3000::relative:";
    const GROUP: &str = "\
root:x:0:
dev:x:1000:
sudo:x:27:dev,other
docker:x:998:other,dev
devs:x:999:develop
";

    fn find_in(passwd: &str, wanted: Option<&str>) -> Result<User, UserError> {
        let etc = tempfile::tempdir().unwrap();
        std::fs::write(etc.path().join("passwd"), passwd).unwrap();
        std::fs::write(etc.path().join("group"), GROUP).unwrap();
        find(wanted, etc.path())
    }

    #[test]
    fn users_are_found_by_name_and_number() {
        let check = |wanted: &str, uid, gid, groups: &[u32]| {
            let user = find_in(PASSWD, Some(wanted)).unwrap();
            assert_eq!(
                (user.uid, user.gid, user.groups.as_slice()),
                (uid, gid, groups),
                "{wanted}"
            );
        };
        check("root", 0, 0, &[0]);
        check("0", 0, 0, &[0]);
        check("dev", 1000, 1000, &[1000, 27, 998]);
        check("dev:docker", 1000, 998, &[998]);
        check("dev:50", 1000, 50, &[50]);
        check("4242", 4242, 0, &[0]);
        check("4242:4243", 4242, 4243, &[4243]);
        check("1000", 2000, 2000, &[2000]);
    }

    #[test]
    fn an_account_gives_home_and_shell() {
        let check = |wanted: &str, home: &str, shell: Option<&str>| {
            let user = find_in(PASSWD, Some(wanted)).unwrap();
            assert_eq!(
                (user.home.as_str(), user.shell.as_deref()),
                (home, shell),
                "{wanted}"
            );
        };
        check("dev", "/home/dev", Some("/bin/zsh"));
        check("nohome", "/", None);
        check("77", "/", None);
    }

    #[test]
    fn unknown_names_are_refused() {
        let check = |wanted: &str, error| assert_eq!(find_in(PASSWD, Some(wanted)), Err(error));
        check("nobody", UserError::User("nobody".into()));
        check("", UserError::User(String::new()));
        check("-1", UserError::User("-1".into()));
        check("4294967295", UserError::User("4294967295".into()));
        check("root:wheel", UserError::Group("wheel".into()));
        check("root:", UserError::Group(String::new()));
    }

    #[test]
    fn root_needs_no_files() {
        let user = find(None, Path::new("/nonexistent")).unwrap();
        assert_eq!(
            (user.uid, user.home.as_str(), user.groups),
            (0, "/root", vec![0])
        );
    }

    proptest! {
        #[test]
        fn no_file_panics(passwd in ".{0,200}", wanted in ".{0,20}") {
            let _ = find_in(&passwd, Some(&wanted));
        }
    }
}
