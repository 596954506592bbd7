//! Owns how a set of extended attributes is written: in the end of its inode and in one block.
//! Knows no namespaces; see [`super::xattr`] for what an attribute is.

use mkext4::csum;
use mkext4::spec::XATTR_MAGIC;

use super::bytes::{BLOCK, put_u16, put_u32, u16_of};
use super::xattr::Stored;

/// What an inode has behind its fields.
pub(super) const IN_INODE: usize = 96;
const BLOCK_HEADER: usize = 32;

/// The end of an inode; nothing where there are no attributes.
pub(super) fn in_inode(xattrs: &[Stored<'_>]) -> Vec<u8> {
    if xattrs.is_empty() {
        return Vec::new();
    }
    let mut out = vec![0; IN_INODE];
    put_u32(&mut out, 0, XATTR_MAGIC);
    // Here values are found by their distance from the first record, and hashes are not kept.
    put_records(&mut out[4..], xattrs, 0, |_| 0);
    out
}

/// The block for those that do not fit the inode; its checksum binds it to its place.
pub(super) fn in_block(xattrs: &[Stored<'_>], fs_seed: u32, number: u64) -> [u8; BLOCK] {
    let mut out = [0; BLOCK];
    put_u32(&mut out, 0, XATTR_MAGIC);
    // One inode refers to it, and it is one block.
    put_u32(&mut out, 4, 1);
    put_u32(&mut out, 8, 1);
    let hash = |xattr: &Stored<'_>| csum::xattr_entry_hash(xattr.suffix.as_bytes(), xattr.value);
    put_records(&mut out[BLOCK_HEADER..], xattrs, BLOCK_HEADER, hash);
    put_u32(
        &mut out,
        0x0c,
        csum::xattr_block_hash(xattrs.iter().map(hash)),
    );
    let sum = csum::xattr_block(fs_seed, number, &out);
    put_u32(&mut out, 0x10, sum);
    out
}

/// Records grow from the start, their values from the end.
fn put_records(
    out: &mut [u8],
    xattrs: &[Stored<'_>],
    values_from: usize,
    hash: impl Fn(&Stored<'_>) -> u32,
) {
    let (mut record, mut value) = (0, out.len());
    for xattr in xattrs {
        value -= xattr.value.len().next_multiple_of(4);
        out[value..value + xattr.value.len()].copy_from_slice(xattr.value);
        out[record] = u8::try_from(xattr.suffix.len()).expect("names are bounded at the edge");
        out[record + 1] = xattr.index;
        put_u16(out, record + 2, u16_of(values_from + value));
        let len = u32::try_from(xattr.value.len()).expect("values fit a block");
        put_u32(out, record + 8, len);
        put_u32(out, record + 12, hash(xattr));
        let name = record + 16;
        out[name..name + xattr.suffix.len()].copy_from_slice(xattr.suffix.as_bytes());
        record += xattr.record_len();
    }
}

#[cfg(test)]
mod tests {
    use mkext4::spec::{XattrBlockView, ibody_entries};

    use super::*;
    use crate::ext4::Xattr;
    use crate::ext4::xattr::shares;

    #[test]
    fn a_foreign_reader_finds_attributes_in_either_place() {
        let large = [9; 300];
        let set = [
            Xattr::new(b"user.large", &large).unwrap(),
            Xattr::new(b"user.b", b"12345").unwrap(),
            Xattr::new(b"security.capability", &[1; 20]).unwrap(),
        ];
        let shares = shares(&set).unwrap();
        let inode = [&[0; 160][..], &in_inode(&shares.inode)].concat();
        let inside = ibody_entries(&inode, 32).unwrap();
        let block = in_block(&shares.block, 5, 77);
        let outside = XattrBlockView::parse(&block).unwrap();
        let names = |entries: &[mkext4::spec::XattrEntry]| -> Vec<_> {
            let found = entries.iter();
            found
                .map(|x| (x.full_name().unwrap(), x.value.clone()))
                .collect()
        };
        assert_eq!(names(&inside), [(b"user.b".to_vec(), b"12345".to_vec())]);
        assert_eq!(
            names(&outside.entries),
            [
                (b"user.large".to_vec(), large.to_vec()),
                (b"security.capability".to_vec(), vec![1; 20])
            ]
        );
        assert_eq!(outside.checksum, csum::xattr_block(5, 77, &block));
    }
}
