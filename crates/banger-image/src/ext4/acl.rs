//! Owns access control lists: their form in the system call, the rules that a kernel has for
//! them, and their form on an ext4 disk. Knows no users.

const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// One entry: for whom, what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    tag: u16,
    rights: u16,
    id: u32,
}

/// A list that a kernel would take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Acl(Vec<Entry>);

/// What may come next in a list.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Owner,
    Users,
    Groups,
    Other,
    Nothing,
}

impl Acl {
    /// Reads the form of the system call: version 2, an id in each entry.
    pub(super) fn parse(value: &[u8]) -> Option<Self> {
        let (version, entries) = value.split_first_chunk::<4>()?;
        let (entries, rest) = entries.as_chunks::<8>();
        if u32::from_le_bytes(*version) != 2 || !rest.is_empty() {
            return None;
        }
        let entries: Vec<_> = entries
            .iter()
            .map(|&[tag, tag_high, rights, rights_high, id @ ..]| Entry {
                tag: u16::from_le_bytes([tag, tag_high]),
                rights: u16::from_le_bytes([rights, rights_high]),
                id: u32::from_le_bytes(id),
            })
            .collect();
        is_valid(&entries).then_some(Self(entries))
    }

    /// Reads the form of the disk.
    pub(super) fn from_disk(value: &[u8]) -> Option<Self> {
        let (_, mut rest) = value.split_first_chunk::<4>()?;
        let mut entries = Vec::new();
        while let Some((&[tag, tag_high, rights, rights_high], behind)) = rest.split_first_chunk() {
            let tag = u16::from_le_bytes([tag, tag_high]);
            let rights = u16::from_le_bytes([rights, rights_high]);
            let (id, behind) = match tag {
                USER | GROUP => behind.split_first_chunk().map(|(id, b)| (*id, b))?,
                _ => ([0; 4], behind),
            };
            let id = u32::from_le_bytes(id);
            entries.push(Entry { tag, rights, id });
            rest = behind;
        }
        (rest.is_empty() && is_valid(&entries)).then_some(Self(entries))
    }

    /// No entries at all: the list is taken away.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the list says no more than a mode does.
    pub(super) fn is_minimal(&self) -> bool {
        let named = |entry: &Entry| matches!(entry.tag, USER | GROUP | MASK);
        !self.0.iter().any(named)
    }

    /// The mode that a file has once it has this list: its group's rights are those of the mask.
    pub(super) fn applied_to(&self, mode: u16) -> u16 {
        if self.is_empty() {
            return mode;
        }
        let rights = |tag| {
            let found = self.0.iter().find(|entry| entry.tag == tag);
            found.map(|entry| entry.rights)
        };
        let owner = rights(USER_OBJ).unwrap_or(0);
        let group = rights(MASK).or_else(|| rights(GROUP_OBJ)).unwrap_or(0);
        let other = rights(OTHER).unwrap_or(0);
        mode & !0o777 | owner << 6 | group << 3 | other
    }

    /// The form on disk: version 1, an id only where it means something. A kernel refuses the
    /// other form there with EINVAL, and no checker notices.
    pub(super) fn on_disk(&self) -> Vec<u8> {
        let mut out = 1_u32.to_le_bytes().to_vec();
        for entry in &self.0 {
            out.extend_from_slice(&entry.tag.to_le_bytes());
            out.extend_from_slice(&entry.rights.to_le_bytes());
            if matches!(entry.tag, USER | GROUP) {
                out.extend_from_slice(&entry.id.to_le_bytes());
            }
        }
        out
    }
}

/// Entries have an order, and a mask must be there where anybody is named.
fn is_valid(entries: &[Entry]) -> bool {
    let mut next = Next::Owner;
    let mut is_named = false;
    for entry in entries {
        if entry.rights > 7 {
            return false;
        }
        next = match (entry.tag, next) {
            (USER_OBJ, Next::Owner) => Next::Users,
            (USER, Next::Users) if entry.id != u32::MAX => Next::Users,
            (GROUP_OBJ, Next::Users) => Next::Groups,
            (GROUP, Next::Groups) if entry.id != u32::MAX => Next::Groups,
            (MASK, Next::Groups) => Next::Other,
            (OTHER, Next::Other) => Next::Nothing,
            (OTHER, Next::Groups) if !is_named => Next::Nothing,
            _ => return false,
        };
        is_named |= matches!(entry.tag, USER | GROUP);
    }
    next == Next::Nothing || entries.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut raw = 2_u32.to_le_bytes().to_vec();
        for (tag, rights, id) in entries {
            raw.extend_from_slice(&tag.to_le_bytes());
            raw.extend_from_slice(&rights.to_le_bytes());
            raw.extend_from_slice(&id.to_le_bytes());
        }
        raw
    }

    #[test]
    fn lists_keep_ids_only_where_they_mean_something() {
        let acl = Acl::parse(&raw(&[
            (USER_OBJ, 6, u32::MAX),
            (USER, 4, 1000),
            (GROUP_OBJ, 4, u32::MAX),
            (MASK, 4, u32::MAX),
            (OTHER, 4, u32::MAX),
        ]));
        let expected = [
            1, 0, 0, 0, 1, 0, 6, 0, 2, 0, 4, 0, 0xe8, 3, 0, 0, 4, 0, 4, 0, 0x10, 0, 4, 0, 0x20, 0,
            4, 0,
        ];
        let acl = acl.expect("valid");
        assert_eq!(acl.on_disk(), expected);
        assert_eq!(
            Acl::from_disk(&expected).map(|acl| acl.on_disk()),
            Some(expected.into())
        );
        assert!(Acl::from_disk(&expected[..expected.len() - 1]).is_none());
    }

    #[test]
    fn only_lists_that_a_kernel_takes_are_lists() {
        let check = |entries: &[(u16, u16, u32)], expected| {
            assert_eq!(Acl::parse(&raw(entries)).is_some(), expected, "{entries:?}");
        };
        let (owner, group, other) = ((USER_OBJ, 7, 0), (GROUP_OBJ, 5, 0), (OTHER, 5, 0));
        check(&[], true);
        check(&[owner, group, other], true);
        check(&[owner, group], false);
        check(&[group, owner, other], false);
        check(&[owner, (USER, 7, 1), group, other], false);
        check(&[owner, (USER, 7, 1), group, (MASK, 7, 0), other], true);
        check(
            &[owner, (USER, 7, u32::MAX), group, (MASK, 7, 0), other],
            false,
        );
        check(&[(USER_OBJ, 8, 0), group, other], false);
        check(&[owner, group, other, other], false);
        check(&[(3, 0, 0)], false);
    }
}
