//! Owns the unpacking of gzip: faster than what any crate offers without C, and without unsafe
//! code. Every member's checksum and length are verified. Knows no file.

mod tables;

use std::io::{self, BufRead, Read};

use crc32fast::Hasher as Crc;

use tables::{BadCode, DISTANCE_BITS, Entry, LITERAL_BITS, LengthTable, Tables};

/// How far back a match reaches.
const WINDOW: usize = 32 << 10;
/// What is unpacked at a time.
const FRESH: usize = 128 << 10;
/// The longest match, and what a fast copy may write beyond it.
const LONGEST_MATCH: usize = 258;
const SLACK: usize = 32;
const FULL: usize = WINDOW + FRESH;
const ROOM: usize = FULL + LONGEST_MATCH + SLACK;
type Room = [u8; ROOM];
/// Bytes of input that the fast loop may look at in one round.
const LOOK_AHEAD: usize = 24;
/// The order in which a block gives the lengths of its length codes.
const LENGTH_ORDER: [usize; 19] = [
    16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15,
];

/// Unpacks all members of a gzip stream.
#[derive(Debug)]
pub(crate) struct Gunzip<R> {
    input: R,
    bits: Bits,
    state: State,
    tables: Tables,
    /// The window, then what is fresh.
    out: Box<Room>,
    /// Where the next byte goes, and up to where bytes were given away.
    end: usize,
    given: usize,
    crc: Crc,
    /// Unpacked bytes of the member, as its trailer counts them.
    len: u32,
}

/// Where in the stream we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Between members; whether there was one.
    Between(bool),
    /// At the header of a block.
    Block,
    /// In a block that is kept as it is, with so many bytes left.
    Stored {
        left: usize,
        is_last: bool,
    },
    /// In a block of codes.
    Coded {
        is_last: bool,
    },
    /// Behind the last block of a member.
    Trailer,
    Over,
}

/// Bits that were taken from the input, the next one lowest.
#[derive(Debug, Clone, Copy, Default)]
struct Bits {
    held: u64,
    count: u32,
}

impl Bits {
    #[inline(always)]
    fn take(&mut self, count: u32) -> u32 {
        let taken = self.held & ((1 << count) - 1);
        self.drop(count);
        taken as u32
    }

    #[inline(always)]
    fn drop(&mut self, count: u32) {
        self.held >>= count & 63;
        self.count -= count;
    }
}

fn damaged(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl From<BadCode> for io::Error {
    fn from(_: BadCode) -> Self {
        damaged("a gzip stream has codes that are none")
    }
}

impl<R: BufRead> Gunzip<R> {
    pub(crate) fn new(input: R) -> Self {
        Self {
            input,
            bits: Bits::default(),
            state: State::Between(false),
            tables: Tables::new(),
            out: Box::new([0; ROOM]),
            end: WINDOW,
            given: WINDOW,
            crc: Crc::new(),
            len: 0,
        }
    }

    /// Unpacks until there are fresh bytes to give away, or the stream is over.
    fn unpack(&mut self) -> io::Result<()> {
        if self.given == self.end && self.end >= WINDOW + FRESH {
            self.out.copy_within(self.end - WINDOW..self.end, 0);
            (self.given, self.end) = (WINDOW, WINDOW);
        }
        let start = self.end;
        while self.end < WINDOW + FRESH && self.state != State::Over {
            match self.state {
                State::Between(_) => self.member()?,
                State::Block => self.block()?,
                State::Stored { left, is_last } => self.stored(left, is_last)?,
                State::Coded { is_last } => {
                    self.coded_fast()?;
                    self.coded(is_last)?;
                }
                State::Trailer => {
                    // The checksum has to have seen everything.
                    break;
                }
                State::Over => {}
            }
        }
        self.crc.update(&self.out[start..self.end]);
        self.len = self.len.wrapping_add((self.end - start) as u32);
        if self.state == State::Trailer {
            self.trailer()?;
        }
        Ok(())
    }

    /// The next byte behind bits that were dropped to a byte's boundary.
    fn byte(&mut self) -> io::Result<Option<u8>> {
        if self.bits.count >= 8 {
            return Ok(Some(self.bits.take(8) as u8));
        }
        let ready = self.input.fill_buf()?;
        let first = ready.first().copied();
        if first.is_some() {
            self.input.consume(1);
        }
        Ok(first)
    }

    fn need_byte(&mut self) -> io::Result<u8> {
        self.byte()?
            .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// Makes sure that so many bits are held, 48 at most.
    fn need(&mut self, count: u32) -> io::Result<()> {
        while self.bits.count < count {
            let ready = self.input.fill_buf()?;
            let Some(byte) = ready.first().copied() else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            self.input.consume(1);
            self.bits.held |= u64::from(byte) << self.bits.count;
            self.bits.count += 8;
        }
        Ok(())
    }

    /// Takes as many bits as there are, up to 48; less only at the end of the input.
    fn fill_bits(&mut self) -> io::Result<()> {
        match self.need(48) {
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Reads a member's header, or finds the end of the stream. Zeros behind the last member are
    /// how tapes end.
    fn member(&mut self) -> io::Result<()> {
        let was_one = self.state == State::Between(true);
        let first = match (self.byte()?, was_one) {
            (None, true) => {
                self.state = State::Over;
                return Ok(());
            }
            (Some(0), true) => return Ok(()),
            (first, _) => first,
        };
        let mut header = [0; 10];
        header[0] = first.ok_or(io::ErrorKind::UnexpectedEof)?;
        for byte in &mut header[1..] {
            *byte = self.need_byte()?;
        }
        let [0x1f, 0x8b, 8, flags, ..] = header else {
            return Err(damaged("no gzip stream"));
        };
        if flags & 4 != 0 {
            let len = u16::from_le_bytes([self.need_byte()?, self.need_byte()?]);
            for _ in 0..len {
                self.need_byte()?;
            }
        }
        // A name and a comment, each up to a zero; then the header's own sum.
        for _ in 0..(flags >> 3 & 1) + (flags >> 4 & 1) {
            while self.need_byte()? != 0 {}
        }
        for _ in 0..(flags & 2) {
            self.need_byte()?;
        }
        (self.crc, self.len) = (Crc::new(), 0);
        self.state = State::Block;
        Ok(())
    }

    fn trailer(&mut self) -> io::Result<()> {
        let partial = self.bits.count % 8;
        self.bits.drop(partial);
        let mut word = || -> io::Result<u32> {
            let mut raw = [0; 4];
            for byte in &mut raw {
                *byte = self.need_byte()?;
            }
            Ok(u32::from_le_bytes(raw))
        };
        let (sum, len) = (word()?, word()?);
        if (sum, len) != (self.crc.clone().finalize(), self.len) {
            return Err(damaged("a gzip stream's checksum does not match"));
        }
        self.state = State::Between(true);
        Ok(())
    }

    fn block(&mut self) -> io::Result<()> {
        self.need(3)?;
        let is_last = self.bits.take(1) == 1;
        self.state = match self.bits.take(2) {
            0 => {
                let partial = self.bits.count % 8;
                self.bits.drop(partial);
                self.need(32)?;
                let (len, check) = (self.bits.take(16), self.bits.take(16));
                if len ^ check != 0xffff {
                    return Err(damaged("a gzip stream's block has no length"));
                }
                let left = len as usize;
                State::Stored { left, is_last }
            }
            1 => {
                self.tables.set_fixed();
                State::Coded { is_last }
            }
            2 => {
                self.codes()?;
                State::Coded { is_last }
            }
            _ => return Err(damaged("a gzip stream's block has no type")),
        };
        Ok(())
    }

    fn end_block(&mut self, is_last: bool) {
        self.state = if is_last {
            State::Trailer
        } else {
            State::Block
        };
    }

    fn stored(&mut self, mut left: usize, is_last: bool) -> io::Result<()> {
        while left > 0 && self.end < WINDOW + FRESH {
            if self.bits.count >= 8 {
                self.out[self.end] = self.bits.take(8) as u8;
                (self.end, left) = (self.end + 1, left - 1);
                continue;
            }
            let ready = self.input.fill_buf()?;
            if ready.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let n = left.min(ready.len()).min(WINDOW + FRESH - self.end);
            self.out[self.end..self.end + n].copy_from_slice(&ready[..n]);
            self.input.consume(n);
            (self.end, left) = (self.end + n, left - n);
        }
        self.state = State::Stored { left, is_last };
        if left == 0 {
            self.end_block(is_last);
        }
        Ok(())
    }

    /// Reads the description of a block's codes.
    fn codes(&mut self) -> io::Result<()> {
        self.need(14)?;
        let literals = self.bits.take(5) as usize + 257;
        let distances = self.bits.take(5) as usize + 1;
        let count = self.bits.take(4) as usize + 4;
        let mut lengths = [0; 19];
        for place in &LENGTH_ORDER[..count] {
            self.need(3)?;
            lengths[*place] = self.bits.take(3) as u8;
        }
        let table = LengthTable::new(&lengths)?;
        let mut all = [0_u8; 288 + 32];
        let (total, mut at) = (literals + distances, 0);
        while at < total {
            self.fill_bits()?;
            let entry = table.symbol(self.bits.held);
            let (value, repeat) = match self.code(entry)? {
                len @ 0..16 => (len, 1),
                16 if at > 0 => (all[at - 1], self.repeat(2, 3)?),
                17 => (0, self.repeat(3, 3)?),
                18 => (0, self.repeat(7, 11)?),
                _ => return Err(BadCode.into()),
            };
            if at + repeat > total {
                return Err(BadCode.into());
            }
            all[at..at + repeat].fill(value);
            at += repeat;
        }
        Ok(self.tables.set(&all[..literals], &all[literals..total])?)
    }

    /// The symbol of a length code.
    fn code(&mut self, entry: Entry) -> io::Result<u8> {
        if entry.is_none() {
            return Err(BadCode.into());
        }
        self.spend(entry.bits())?;
        Ok(entry.literal())
    }

    fn repeat(&mut self, bits: u32, least: usize) -> io::Result<usize> {
        self.need(bits)?;
        Ok(self.bits.take(bits) as usize + least)
    }

    /// Drops bits that must have been there.
    fn spend(&mut self, bits: u32) -> io::Result<()> {
        if bits > self.bits.count {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.bits.drop(bits);
        Ok(())
    }

    /// Decodes symbol by symbol, where input or room may end: at least one, and on until the fast
    /// loop can take over.
    fn coded(&mut self, is_last: bool) -> io::Result<()> {
        if self.end >= WINDOW + FRESH || self.state == State::Block || self.state == State::Trailer
        {
            return Ok(());
        }
        self.fill_bits()?;
        let mut entry = self.tables.literal(self.bits.held);
        if entry.is_special() && !entry.is_end() && !entry.is_none() {
            self.spend(LITERAL_BITS)?;
            entry = self.tables.literal_at(entry, self.bits.held);
        }
        if entry.is_none() {
            return Err(BadCode.into());
        }
        let before = self.bits.held;
        self.spend(entry.bits())?;
        if entry.is_literal() {
            self.out[self.end] = entry.literal();
            self.end += 1;
            return Ok(());
        }
        if entry.is_end() {
            self.end_block(is_last);
            return Ok(());
        }
        let len = value(entry, before);
        self.fill_bits()?;
        let mut entry = self.tables.distance(self.bits.held);
        if entry.is_special() && !entry.is_none() {
            self.spend(DISTANCE_BITS)?;
            entry = self.tables.distance_at(entry, self.bits.held);
        }
        if entry.is_none() {
            return Err(BadCode.into());
        }
        let before = self.bits.held;
        self.spend(entry.bits())?;
        self.end = copy_match(&mut self.out, self.end, value(entry, before), len)?;
        Ok(())
    }

    /// Decodes while there is plenty of input and room.
    fn coded_fast(&mut self) -> io::Result<()> {
        let State::Coded { is_last } = self.state else {
            return Ok(());
        };
        let input = self.input.fill_buf()?;
        let (used, found) = fast_loop(
            input,
            &mut self.bits,
            &self.tables,
            &mut self.out,
            &mut self.end,
        );
        self.input.consume(used);
        if found? {
            self.end_block(is_last);
        }
        Ok(())
    }
}

/// The value that an entry stands for, with its extra bits out of what was held before.
#[inline(always)]
fn value(entry: Entry, before: u64) -> usize {
    let extra = entry.extra();
    let bits = before >> (entry.bits() - extra) & ((1 << extra) - 1);
    entry.base() as usize + bits as usize
}

/// Returns how much of the input was used, and whether the block is over.
fn fast_loop(
    input: &[u8],
    held: &mut Bits,
    tables: &Tables,
    out: &mut Room,
    end: &mut usize,
) -> (usize, io::Result<bool>) {
    let (mut bits, mut rest, mut to) = (*held, input, *end);
    let mut result = Ok(false);
    while rest.len() >= LOOK_AHEAD && to < FULL {
        rest = refill(&mut bits, rest);
        let mut entry = tables.literal(bits.held);
        // Three codes of the first table leave bits enough for the look-ups that follow.
        if entry.is_literal() {
            put(out, &mut to, entry, &mut bits);
            entry = tables.literal(bits.held);
            if entry.is_literal() {
                put(out, &mut to, entry, &mut bits);
                entry = tables.literal(bits.held);
                if entry.is_literal() {
                    put(out, &mut to, entry, &mut bits);
                    continue;
                }
            }
        }
        if entry.is_special() {
            if !entry.is_end() && !entry.is_none() {
                bits.drop(LITERAL_BITS);
                entry = tables.literal_at(entry, bits.held);
            }
            if entry.is_literal() {
                put(out, &mut to, entry, &mut bits);
                continue;
            }
            if entry.is_end() {
                bits.drop(entry.bits());
                result = Ok(true);
                break;
            }
            if entry.is_special() {
                result = Err(BadCode.into());
                break;
            }
        }
        let before = bits.held;
        bits.drop(entry.bits());
        let len = value(entry, before);
        rest = refill(&mut bits, rest);
        let mut entry = tables.distance(bits.held);
        if entry.is_special() && !entry.is_none() {
            bits.drop(DISTANCE_BITS);
            entry = tables.distance_at(entry, bits.held);
        }
        if entry.is_special() {
            result = Err(BadCode.into());
            break;
        }
        let before = bits.held;
        bits.drop(entry.bits());
        match copy_match(out, to, value(entry, before), len) {
            Ok(end) => to = end,
            Err(error) => {
                result = Err(error);
                break;
            }
        }
    }
    // Bits beyond the count are a copy of what the input still has.
    bits.held &= (1_u64 << bits.count) - 1;
    (*held, *end) = (bits, to);
    (input.len() - rest.len(), result)
}

/// Holds at least 56 bits: whole bytes are counted, what is beyond them is read again later.
#[inline(always)]
fn refill<'i>(bits: &mut Bits, input: &'i [u8]) -> &'i [u8] {
    let Some(next) = input.first_chunk() else {
        return input;
    };
    bits.held |= u64::from_le_bytes(*next) << (bits.count & 63);
    let whole = ((63 - bits.count) >> 3) as usize;
    bits.count |= 56;
    &input[whole & 7..]
}

#[inline(always)]
fn put(out: &mut Room, to: &mut usize, entry: Entry, bits: &mut Bits) {
    out[*to] = entry.literal();
    *to += 1;
    bits.drop(entry.bits());
}

/// Copies a match; where the next byte goes then.
#[inline(always)]
fn copy_match(out: &mut Room, to: usize, distance: usize, len: usize) -> io::Result<usize> {
    const STEP: usize = 16;
    let Some(from) = to.checked_sub(distance) else {
        return Err(damaged("a gzip stream refers to what was before its start"));
    };
    let end = to + len;
    if distance >= STEP {
        // Each step reads what is there already, and may write into the slack behind the end.
        let span = &mut out[from..end + STEP];
        copy_step::<STEP>(span, 0, distance);
        let mut done = STEP;
        while done < len {
            copy_step::<STEP>(span, done, distance);
            done += STEP;
        }
    } else if distance == 1 {
        let byte = out[from];
        let span = &mut out[to..end + STEP];
        span[..STEP].fill(byte);
        if len > STEP {
            span[STEP..len].fill(byte);
        }
    } else if distance >= 8 {
        let span = &mut out[from..end + STEP];
        let mut done = 0;
        while done < len {
            copy_step::<8>(span, done, distance);
            done += 8;
        }
    } else {
        let span = &mut out[from..end];
        for index in distance..span.len() {
            span[index] = span[index - distance];
        }
    }
    Ok(end)
}

#[inline(always)]
fn copy_step<const STEP: usize>(span: &mut [u8], at: usize, distance: usize) {
    let step: [u8; STEP] = *span[at..].first_chunk().expect("the slack is that long");
    span[at + distance..][..STEP].copy_from_slice(&step);
}

impl<R: BufRead> Read for Gunzip<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        while self.given == self.end && self.state != State::Over {
            self.unpack()?;
        }
        let n = buf.len().min(self.end - self.given);
        buf[..n].copy_from_slice(&self.out[self.given..self.given + n]);
        self.given += n;
        Ok(n)
    }
}

#[cfg(test)]
mod tests;
