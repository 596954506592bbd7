//! Owns the blocks of a directory: its records, and the index by hashed names of one that needs
//! several. Knows no tree; names are any bytes.

use mkext4::csum;
use mkext4::dirhash::{HashSeed, Signedness, half_md4};
use mkext4::spec::{dirent, file_type, htree};

use super::bytes::{BLOCK, put_u16, put_u32, u16_of};

/// Every block ends in a record that hides its checksum.
const TAIL: usize = 12;
const ROOM: usize = BLOCK - TAIL;
/// `.` and `..`.
const DOTS: usize = 24;

/// A name of a directory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) name: &'a [u8],
    pub(super) inode: u32,
    /// The type as records spell it.
    pub(super) kind: u8,
}

impl Entry<'_> {
    fn record_len(&self) -> usize {
        dirent::rec_len_for(self.name.len())
    }
}

/// Who a directory is and where it belongs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Identity {
    pub(super) inode: u32,
    pub(super) parent: u32,
    /// Of the inode's checksums.
    pub(super) seed: u32,
}

/// A directory's blocks, and whether they are indexed.
pub(super) struct Blocks {
    pub(super) blocks: Vec<[u8; BLOCK]>,
    pub(super) indexed: bool,
}

/// More names than an index of two levels reaches.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooManyNames;

pub(super) fn blocks(
    who: Identity,
    entries: &[Entry<'_>],
    hash_seed: &HashSeed,
) -> Result<Blocks, TooManyNames> {
    let bytes: usize = entries.iter().map(Entry::record_len).sum();
    if DOTS + bytes <= ROOM {
        let dots = [dot(b".", who.inode), dot(b"..", who.parent)];
        let all: Vec<_> = dots.iter().chain(entries).collect();
        return Ok(Blocks {
            blocks: vec![leaf(&all, who.seed)],
            indexed: false,
        });
    }
    indexed(who, entries, hash_seed).map(|blocks| Blocks {
        blocks,
        indexed: true,
    })
}

fn dot(name: &'static [u8], inode: u32) -> Entry<'static> {
    let kind = file_type::DIR;
    Entry { name, inode, kind }
}

/// One block of records; the last takes all the room that is left.
fn leaf(entries: &[&Entry<'_>], seed: u32) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut at = 0;
    for (index, entry) in entries.iter().enumerate() {
        let len = match index + 1 == entries.len() {
            true => ROOM - at,
            false => entry.record_len(),
        };
        put_record(&mut block[at..], entry, len);
        at += len;
    }
    put_u16(&mut block, ROOM + 4, u16_of(TAIL));
    block[ROOM + 7] = 0xde;
    let sum = csum::dirent_block(seed, &block);
    put_u32(&mut block, BLOCK - 4, sum);
    block
}

fn put_record(out: &mut [u8], entry: &Entry<'_>, len: usize) {
    put_u32(out, 0, entry.inode);
    put_u16(out, 4, u16_of(len));
    out[6] = u8::try_from(entry.name.len()).expect("names are bounded at the edge");
    out[7] = entry.kind;
    out[8..8 + entry.name.len()].copy_from_slice(entry.name);
}

/// An entry of the index: the lowest hash below it, and the block.
type Pointer = (u32, u32);

fn indexed(
    who: Identity,
    entries: &[Entry<'_>],
    hash_seed: &HashSeed,
) -> Result<Vec<[u8; BLOCK]>, TooManyNames> {
    let mut hashed: Vec<_> = entries
        .iter()
        .map(|entry| {
            let (major, minor) = half_md4(hash_seed, Signedness::Signed, entry.name);
            (major, minor, entry)
        })
        .collect();
    hashed.sort_by(|a, b| (a.0, a.1, a.2.name).cmp(&(b.0, b.1, b.2.name)));
    // The first block is the index's root, which is written last.
    let mut blocks = vec![[0; BLOCK]];
    let mut pointers: Vec<Pointer> = Vec::new();
    let mut before = None;
    for chunk in chunks(&hashed) {
        let first = chunk[0].0;
        // The lowest bit says that names of the same hash are in the block before as well.
        let continued = u32::from(before == Some(first));
        pointers.push((first | continued, block_number(&blocks)?));
        before = chunk.last().map(|last| last.0);
        let names: Vec<_> = chunk.iter().map(|(_, _, entry)| *entry).collect();
        blocks.push(leaf(&names, who.seed));
    }
    let mut levels = 0;
    if pointers.len() > usize::from(htree::root_limit(BLOCK)) {
        pointers = inner_nodes(&pointers, who.seed, &mut blocks)?;
        levels = 1;
    }
    if pointers.len() > usize::from(htree::root_limit(BLOCK)) {
        return Err(TooManyNames);
    }
    blocks[0] = root(who, &pointers, levels);
    Ok(blocks)
}

fn block_number(blocks: &[[u8; BLOCK]]) -> Result<u32, TooManyNames> {
    u32::try_from(blocks.len()).map_err(|_| TooManyNames)
}

/// Cuts sorted names where a block is full.
fn chunks<'h, 'e>(
    hashed: &'h [(u32, u32, &'e Entry<'e>)],
) -> impl Iterator<Item = &'h [(u32, u32, &'e Entry<'e>)]> {
    let mut rest = hashed;
    std::iter::from_fn(move || {
        let mut used = 0;
        let fits = rest.iter().take_while(|(_, _, entry)| {
            used += entry.record_len();
            used <= ROOM
        });
        let count = fits.count();
        let (chunk, behind) = rest.split_at(count);
        rest = behind;
        (!chunk.is_empty()).then_some(chunk)
    })
}

fn inner_nodes(
    pointers: &[Pointer],
    seed: u32,
    blocks: &mut Vec<[u8; BLOCK]>,
) -> Result<Vec<Pointer>, TooManyNames> {
    let limit = htree::node_limit(BLOCK);
    let mut above = Vec::new();
    for chunk in pointers.chunks(usize::from(limit)) {
        let mut block = [0; BLOCK];
        // To whoever knows no index, an inner node is one unused record.
        put_u16(&mut block, 4, u16_of(BLOCK));
        put_pointers(&mut block, htree::NODE_COUNT_OFFSET, limit, chunk, seed);
        above.push((chunk[0].0, block_number(blocks)?));
        blocks.push(block);
    }
    Ok(above)
}

fn root(who: Identity, pointers: &[Pointer], levels: u8) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    put_record(&mut block, &dot(b".", who.inode), 12);
    put_record(&mut block[12..], &dot(b"..", who.parent), BLOCK - 12);
    // The hash (half MD4), the length of this description, the levels below.
    (block[0x1c], block[0x1d], block[0x1e]) = (1, 8, levels);
    let limit = htree::root_limit(BLOCK);
    put_pointers(
        &mut block,
        htree::ROOT_COUNT_OFFSET,
        limit,
        pointers,
        who.seed,
    );
    block
}

/// The first pointer has no hash: the limit and the count stand there.
fn put_pointers(block: &mut [u8; BLOCK], at: usize, limit: u16, pointers: &[Pointer], seed: u32) {
    for (index, (hash, child)) in pointers.iter().enumerate() {
        put_u32(block, at + 8 * index, *hash);
        put_u32(block, at + 8 * index + 4, *child);
    }
    let count = u16_of(pointers.len());
    put_u16(block, at, limit);
    put_u16(block, at + 2, count);
    let sum = csum::dx_block(seed, block, at, count, limit);
    put_u32(block, at + 8 * usize::from(limit) + 4, sum);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(names: usize, expected_blocks: usize, indexed: bool) {
        let names: Vec<String> = (0..names).map(|i| format!("name-{i:07}")).collect();
        let entries: Vec<_> = names
            .iter()
            .map(|name| Entry {
                name: name.as_bytes(),
                inode: 12,
                kind: file_type::REG,
            })
            .collect();
        let who = Identity {
            inode: 2,
            parent: 2,
            seed: 3,
        };
        let found = blocks(who, &entries, &[1, 2, 3, 4]).unwrap();
        assert_eq!(
            (found.blocks.len(), found.indexed),
            (expected_blocks, indexed)
        );
    }

    #[test]
    fn a_directory_of_one_block_has_no_index() {
        check(0, 1, false);
        check(203, 1, false);
        check(204, 2, true);
    }

    #[test]
    fn an_index_gets_a_second_level_when_the_root_is_full() {
        // 204 records of 20 bytes fill a block; the root points to 507.
        check(507 * 204, 1 + 507, true);
        check(507 * 204 + 1, 1 + 508 + 1, true);
    }
}
