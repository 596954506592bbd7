//! Owns the tables by which codes of variable length are decoded: one look-up for most symbols,
//! two for the longest. Pure; knows no stream.

/// Bits of the first look-up.
pub(super) const LITERAL_BITS: u32 = 11;
pub(super) const DISTANCE_BITS: u32 = 8;
const LONGEST: usize = 15;
/// The first level, and a second for each prefix of the longest codes, which are two at least.
const LITERAL_ROOM: usize =
    (1 << LITERAL_BITS) + (288 / 2) * (1 << (LONGEST as u32 - LITERAL_BITS));
const DISTANCE_ROOM: usize =
    (1 << DISTANCE_BITS) + (32 / 2) * (1 << (LONGEST as u32 - DISTANCE_BITS));

/// What a look-up finds. The lowest byte is how many bits it takes, extra ones included; the next
/// one how many of these are extra, or how many bits choose in a second table; the upper half is
/// the literal, the base, or where that table begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry(u32);

impl Entry {
    const LITERAL: u32 = 1 << 31;
    const SPECIAL: u32 = 1 << 15;
    const END: u32 = 1 << 14;
    /// No code leads here.
    const NONE: Self = Self(Self::SPECIAL);

    #[inline(always)]
    pub(super) fn is_literal(self) -> bool {
        self.0 & Self::LITERAL != 0
    }

    /// The end of a block, a further table, or nothing at all.
    #[inline(always)]
    pub(super) fn is_special(self) -> bool {
        self.0 & Self::SPECIAL != 0
    }

    #[inline(always)]
    pub(super) fn is_end(self) -> bool {
        self.0 & Self::END != 0
    }

    #[inline(always)]
    pub(super) fn is_none(self) -> bool {
        self == Self::NONE
    }

    #[inline(always)]
    pub(super) fn literal(self) -> u8 {
        (self.0 >> 16) as u8
    }

    /// All bits that the entry takes.
    #[inline(always)]
    pub(super) fn bits(self) -> u32 {
        self.0 & 0x3f
    }

    /// How many of the bits are no code, or choose in a second table.
    #[inline(always)]
    pub(super) fn extra(self) -> u32 {
        self.0 >> 8 & 0xf
    }

    #[inline(always)]
    pub(super) fn base(self) -> u32 {
        self.0 >> 16 & 0x7fff
    }

    fn with_code(self, bits: u32) -> Self {
        Self(self.0 + bits)
    }
}

/// Base and extra bits of each length from symbol 257 on.
const LENGTHS: [(u32, u32); 29] = [
    (3, 0),
    (4, 0),
    (5, 0),
    (6, 0),
    (7, 0),
    (8, 0),
    (9, 0),
    (10, 0),
    (11, 1),
    (13, 1),
    (15, 1),
    (17, 1),
    (19, 2),
    (23, 2),
    (27, 2),
    (31, 2),
    (35, 3),
    (43, 3),
    (51, 3),
    (59, 3),
    (67, 4),
    (83, 4),
    (99, 4),
    (115, 4),
    (131, 5),
    (163, 5),
    (195, 5),
    (227, 5),
    (258, 0),
];

/// A literal or a length, but for the bits of its code.
fn literal_or_length(symbol: usize) -> Entry {
    match symbol {
        0..256 => Entry(Entry::LITERAL | (symbol as u32) << 16),
        256 => Entry(Entry::SPECIAL | Entry::END),
        _ => match LENGTHS.get(symbol - 257) {
            Some((base, extra)) => Entry(base << 16 | extra << 8 | extra),
            None => Entry::NONE,
        },
    }
}

/// A distance, but for the bits of its code.
fn distance(symbol: usize) -> Entry {
    let symbol = symbol as u32;
    match symbol {
        0..4 => Entry((symbol + 1) << 16),
        4..30 => {
            let extra = symbol / 2 - 1;
            let base = ((2 + symbol % 2) << extra) + 1;
            Entry(base << 16 | extra << 8 | extra)
        }
        _ => Entry::NONE,
    }
}

/// A set of codes that is none.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadCode;

/// The tables of a block.
#[derive(Debug)]
pub(super) struct Tables {
    literals: Box<[Entry; LITERAL_ROOM]>,
    distances: Box<[Entry; DISTANCE_ROOM]>,
}

impl Tables {
    pub(super) fn new() -> Self {
        Self {
            literals: Box::new([Entry::NONE; LITERAL_ROOM]),
            distances: Box::new([Entry::NONE; DISTANCE_ROOM]),
        }
    }

    /// The first table of literals and lengths; a second is found through [`Self::literal_at`].
    #[inline(always)]
    pub(super) fn literal(&self, bits: u64) -> Entry {
        self.literals[bits as usize & ((1 << LITERAL_BITS) - 1)]
    }

    #[inline(always)]
    pub(super) fn literal_at(&self, first: Entry, bits: u64) -> Entry {
        second(&self.literals[..], first, bits)
    }

    #[inline(always)]
    pub(super) fn distance(&self, bits: u64) -> Entry {
        self.distances[bits as usize & ((1 << DISTANCE_BITS) - 1)]
    }

    #[inline(always)]
    pub(super) fn distance_at(&self, first: Entry, bits: u64) -> Entry {
        second(&self.distances[..], first, bits)
    }

    /// Takes the lengths of all codes of a block.
    pub(super) fn set(&mut self, literals: &[u8], distances: &[u8]) -> Result<(), BadCode> {
        // A block must be able to end.
        if literals.get(256).is_none_or(|len| *len == 0) {
            return Err(BadCode);
        }
        fill(
            &mut self.literals[..],
            LITERAL_BITS,
            literals,
            literal_or_length,
        )?;
        fill(&mut self.distances[..], DISTANCE_BITS, distances, distance)
    }

    /// The codes that need no description.
    pub(super) fn set_fixed(&mut self) {
        let mut literals = [8; 288];
        literals[144..256].fill(9);
        literals[256..280].fill(7);
        self.set(&literals, &[5; 32])
            .expect("the format's own codes are complete");
    }
}

#[inline(always)]
fn second(table: &[Entry], first: Entry, bits: u64) -> Entry {
    let index = first.base() as usize + (bits as usize & ((1 << first.extra()) - 1));
    table.get(index).copied().unwrap_or(Entry::NONE)
}

/// The codes of code lengths: 7 bits at most, and never a second table.
#[derive(Debug)]
pub(super) struct LengthTable([Entry; 128]);

impl LengthTable {
    pub(super) fn new(lengths: &[u8; 19]) -> Result<Self, BadCode> {
        let mut table = [Entry::NONE; 128];
        let symbol = |symbol: usize| Entry(Entry::LITERAL | (symbol as u32) << 16);
        fill(&mut table, 7, lengths, symbol)?;
        Ok(Self(table))
    }

    pub(super) fn symbol(&self, bits: u64) -> Entry {
        self.0[bits as usize & 127]
    }
}

/// Fills a table from the lengths of codes. A code may be incomplete only if it has one symbol of
/// one bit, or none at all.
fn fill(
    table: &mut [Entry],
    first_bits: u32,
    lengths: &[u8],
    entry: impl Fn(usize) -> Entry,
) -> Result<(), BadCode> {
    let mut counts = [0_u32; LONGEST + 1];
    for len in lengths {
        counts[usize::from(*len)] += 1;
    }
    counts[0] = 0;
    check_complete(&counts)?;
    let mut starts = [0_u32; LONGEST + 2];
    for len in 1..=LONGEST {
        starts[len + 1] = starts[len] + counts[len];
    }
    let mut sorted = [0_u16; 320];
    let mut next = starts;
    for (symbol, len) in lengths.iter().enumerate().filter(|(_, len)| **len > 0) {
        let place = &mut next[usize::from(*len)];
        sorted[*place as usize] = symbol as u16;
        *place += 1;
    }
    table[..1 << first_bits].fill(Entry::NONE);
    let mut code = Code::default();
    let mut second = Second::default();
    for len in 1..=LONGEST as u32 {
        let symbols = &sorted[starts[len as usize] as usize..starts[len as usize + 1] as usize];
        for symbol in symbols {
            let entry = entry(usize::from(*symbol));
            if len <= first_bits {
                table[code.0 as usize] = entry.with_code(len);
            } else {
                second.put(table, first_bits, code, len, entry)?;
            }
            code.step(len);
        }
        // What a shorter code decides, it decides whatever bits follow.
        if len < first_bits {
            table.copy_within(..1 << len, 1 << len);
        }
    }
    Ok(())
}

fn check_complete(counts: &[u32; LONGEST + 1]) -> Result<(), BadCode> {
    let total: u32 = counts.iter().sum();
    let used: u32 = (1..=LONGEST)
        .map(|len| counts[len] << (LONGEST - len))
        .sum();
    let lone = total == 1 && counts[1] == 1;
    match used == 1 << LONGEST || total == 0 || lone {
        true => Ok(()),
        false => Err(BadCode),
    }
}

/// A code with its first bit lowest, as the stream has it.
#[derive(Debug, Clone, Copy, Default)]
struct Code(u32);

impl Code {
    /// The next code of the same length.
    fn step(&mut self, len: u32) {
        let zeros = !self.0 & ((1 << len) - 1);
        let Some(highest) = zeros.checked_ilog2() else {
            // That was the last one.
            return;
        };
        let bit = 1 << highest;
        self.0 = self.0 & (bit - 1) | bit;
    }
}

/// The table for what follows one prefix of long codes.
#[derive(Debug, Default)]
struct Second {
    prefix: Option<u32>,
    start: usize,
    end: usize,
}

impl Second {
    fn put(
        &mut self,
        table: &mut [Entry],
        first_bits: u32,
        code: Code,
        len: u32,
        entry: Entry,
    ) -> Result<(), BadCode> {
        let prefix = code.0 & ((1 << first_bits) - 1);
        let bits = LONGEST as u32 - first_bits;
        if self.prefix != Some(prefix) {
            self.start = self.end.max(1 << first_bits);
            self.end = self.start + (1 << bits);
            table
                .get_mut(self.start..self.end)
                .ok_or(BadCode)?
                .fill(Entry::NONE);
            let start = u32::try_from(self.start).map_err(|_| BadCode)?;
            let to_second = Entry(Entry::SPECIAL | start << 16 | bits << 8);
            table[prefix as usize] = to_second.with_code(first_bits);
            self.prefix = Some(prefix);
        }
        let rest = len - first_bits;
        let first = self.start + (code.0 >> first_bits) as usize;
        for place in table[first..self.end].iter_mut().step_by(1 << rest) {
            *place = entry.with_code(rest);
        }
        Ok(())
    }
}
