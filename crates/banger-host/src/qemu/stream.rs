//! Takes the guest's memory out of QEMU's migration stream: its pages go to a file that machines can
//! map, the rest stays a stream that QEMU takes. Knows that format's envelope and its section of
//! memory; what devices say is none of its business.
//!
//! The format is one that QEMU reads across its own releases: `docs/devel/migration` in its source.

use std::io::{self, Read, Write};

use super::pages::Pages;

const MAGIC: u32 = 0x5145_564d;
const VERSION: u32 = 3;
const SECTION_START: u8 = 1;
const SECTION_PART: u8 = 2;
const SECTION_END: u8 = 3;
const CONFIGURATION: u8 = 7;
const FOOTER: u8 = 0x7e;

/// What a word of the memory's section says, in the bits below a page.
mod flag {
    pub(super) const ZERO: u64 = 0x02;
    pub(super) const MEM_SIZE: u64 = 0x04;
    pub(super) const PAGE: u64 = 0x08;
    pub(super) const END: u64 = 0x10;
    pub(super) const CONTINUE: u64 = 0x20;
}

pub(crate) const PAGE: usize = 4096;
const IN_PAGE: u64 = PAGE as u64 - 1;
/// What firmware and tables beside the guest's memory may have.
const MOST_OTHER_PAGES: usize = 16 << 10;
/// The longest machine name that we believe.
const LONGEST_NAME: u32 = 256;

/// A stream that is not what we know.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    #[error("QEMU's stream has an unknown {what}: {value:#x}")]
    Unknown { what: &'static str, value: u64 },
    #[error("QEMU's stream has no memory {wanted:?}, but {present}")]
    NoMemory { wanted: String, present: String },
    #[error("QEMU's stream broke off")]
    Read(#[source] io::Error),
    #[error("cannot write the memory's file")]
    Memory(#[source] io::Error),
    #[error("cannot write the devices' file")]
    Devices(#[source] io::Error),
}

/// Splits a stream: the pages of the memory `id` go to `memory`, everything else to `devices`.
pub(crate) fn split(
    stream: impl Read,
    id: &str,
    memory: &mut Pages,
    devices: impl Write,
) -> Result<(), StreamError> {
    let mut splitter = Splitter {
        stream,
        devices,
        id: id.as_bytes(),
        block: Vec::new(),
        others: Vec::new(),
    };
    splitter.head()?;
    let next = splitter.sections(memory)?;
    memory.finish().map_err(StreamError::Memory)?;
    splitter.rest(next)
}

struct Splitter<'a, R, W> {
    stream: R,
    devices: W,
    id: &'a [u8],
    /// The memory that the page before was of; a page may say "the same".
    block: Vec<u8>,
    /// What is kept of other memories, as it was.
    others: Vec<u8>,
}

impl<R: Read, W: Write> Splitter<'_, R, W> {
    fn head(&mut self) -> Result<(), StreamError> {
        self.expect("magic number", MAGIC)?;
        self.expect("version", VERSION)?;
        match self.u8()? {
            CONFIGURATION => {}
            other => return Err(unknown("head", other.into())),
        }
        let length = self.u32()?;
        if length > LONGEST_NAME {
            return Err(unknown("machine's name", length.into()));
        }
        let name = self.bytes(length as usize)?;
        self.put(&MAGIC.to_be_bytes())?;
        self.put(&VERSION.to_be_bytes())?;
        self.put(&[CONFIGURATION])?;
        self.put(&length.to_be_bytes())?;
        self.put(&name)
    }

    /// Takes the memory's sections; gives back the byte that begins what follows them.
    fn sections(&mut self, memory: &mut Pages) -> Result<u8, StreamError> {
        loop {
            match self.u8()? {
                SECTION_START => self.start()?,
                SECTION_PART => {
                    let section = self.u32()?;
                    self.pages(memory)?;
                    self.footer(section)?;
                }
                SECTION_END => {
                    let section = self.u32()?;
                    self.pages(memory)?;
                    self.footer(section)?;
                    self.end(section)?;
                    return self.u8();
                }
                other => return Err(unknown("section", other.into())),
            }
        }
    }

    /// The section's beginning names all memories. It is passed on as it is.
    fn start(&mut self) -> Result<(), StreamError> {
        let section = self.u32()?;
        let name = self.text()?;
        if name != b"ram" {
            return Err(StreamError::NoMemory {
                wanted: "ram".into(),
                present: printable(&name),
            });
        }
        let (instance, version) = (self.u32()?, self.u32()?);
        let total = self.u64()?;
        if total & IN_PAGE != flag::MEM_SIZE {
            return Err(unknown("size of the memory", total));
        }
        self.put(&[SECTION_START])?;
        self.put(&section.to_be_bytes())?;
        self.put_text(&name)?;
        self.put(&instance.to_be_bytes())?;
        self.put(&version.to_be_bytes())?;
        self.put(&total.to_be_bytes())?;
        self.memories(total & !IN_PAGE)?;
        match self.u64()? {
            flag::END => self.put(&flag::END.to_be_bytes())?,
            other => return Err(unknown("end of the list of memories", other)),
        }
        self.footer(section)?;
        self.put_footer(section)
    }

    fn memories(&mut self, total: u64) -> Result<(), StreamError> {
        let (mut left, mut names) = (total, Vec::new());
        while left > 0 {
            let (name, length) = (self.text()?, self.u64()?);
            left = left
                .checked_sub(length)
                .filter(|_| length > 0)
                .ok_or_else(|| unknown("length of a memory", length))?;
            self.put_text(&name)?;
            self.put(&length.to_be_bytes())?;
            names.push(name);
        }
        if names.iter().any(|name| name == self.id) {
            return Ok(());
        }
        let present: Vec<_> = names.iter().map(|name| printable(name)).collect();
        Err(StreamError::NoMemory {
            wanted: printable(self.id),
            present: present.join(", "),
        })
    }

    fn pages(&mut self, memory: &mut Pages) -> Result<(), StreamError> {
        loop {
            let word = self.u64()?;
            let (place, flags) = (word & !IN_PAGE, word & IN_PAGE);
            let kind = flags & !flag::CONTINUE;
            if kind == flag::END {
                return Ok(());
            }
            if kind != flag::PAGE && kind != flag::ZERO {
                return Err(unknown("kind of page", word));
            }
            if flags & flag::CONTINUE == 0 {
                self.block = self.text()?;
            }
            let filling = match kind {
                flag::ZERO => Some(self.u8()?),
                _ => None,
            };
            if self.block == self.id {
                self.take(memory, place, filling)?;
            } else {
                self.keep(place, filling)?;
            }
        }
    }

    fn take(
        &mut self,
        memory: &mut Pages,
        place: u64,
        filling: Option<u8>,
    ) -> Result<(), StreamError> {
        if filling == Some(0) {
            return memory.zero(place).map_err(StreamError::Memory);
        }
        let room = memory.room(place).map_err(StreamError::Memory)?;
        match filling {
            Some(byte) => room.fill(byte),
            None => self.stream.read_exact(room).map_err(StreamError::Read)?,
        }
        memory.filled();
        Ok(())
    }

    fn keep(&mut self, place: u64, filling: Option<u8>) -> Result<(), StreamError> {
        let kind = filling.map_or(flag::PAGE, |_| flag::ZERO);
        self.others.extend((place | kind).to_be_bytes());
        let length =
            u8::try_from(self.block.len()).expect("it was read with a byte for its length");
        self.others.push(length);
        self.others.extend(&self.block);
        match filling {
            Some(byte) => self.others.push(byte),
            None => {
                let page = self.bytes(PAGE)?;
                self.others.extend(page);
            }
        }
        if self.others.len() > MOST_OTHER_PAGES * PAGE {
            return Err(unknown("amount of other memory", self.others.len() as u64));
        }
        Ok(())
    }

    /// The last section of the memory, with what is not the guest's own.
    fn end(&mut self, section: u32) -> Result<(), StreamError> {
        self.put(&[SECTION_END])?;
        self.put(&section.to_be_bytes())?;
        let others = std::mem::take(&mut self.others);
        self.put(&others)?;
        self.put(&flag::END.to_be_bytes())?;
        self.put_footer(section)
    }

    fn rest(&mut self, next: u8) -> Result<(), StreamError> {
        self.put(&[next])?;
        let mut buffer = vec![0; 64 << 10];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return self.devices.flush().map_err(StreamError::Devices),
                Ok(count) => self.put(&buffer[..count])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(StreamError::Read(error)),
            }
        }
    }

    fn footer(&mut self, section: u32) -> Result<(), StreamError> {
        match (self.u8()?, self.u32()?) {
            (FOOTER, found) if found == section => Ok(()),
            (mark, _) => Err(unknown("end of a section", mark.into())),
        }
    }

    fn put_footer(&mut self, section: u32) -> Result<(), StreamError> {
        self.put(&[FOOTER])?;
        self.put(&section.to_be_bytes())
    }

    fn expect(&mut self, what: &'static str, wanted: u32) -> Result<(), StreamError> {
        match self.u32()? {
            found if found == wanted => Ok(()),
            found => Err(unknown(what, found.into())),
        }
    }

    fn text(&mut self) -> Result<Vec<u8>, StreamError> {
        let length = self.u8()?;
        self.bytes(length.into())
    }

    fn put_text(&mut self, text: &[u8]) -> Result<(), StreamError> {
        let length = u8::try_from(text.len()).expect("it was read with a byte for its length");
        self.put(&[length])?;
        self.put(text)
    }

    fn bytes(&mut self, length: usize) -> Result<Vec<u8>, StreamError> {
        let mut bytes = vec![0; length];
        self.stream
            .read_exact(&mut bytes)
            .map_err(StreamError::Read)?;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], StreamError> {
        let mut bytes = [0; N];
        self.stream
            .read_exact(&mut bytes)
            .map_err(StreamError::Read)?;
        Ok(bytes)
    }

    fn u8(&mut self) -> Result<u8, StreamError> {
        self.array().map(u8::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, StreamError> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, StreamError> {
        self.array().map(u64::from_be_bytes)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), StreamError> {
        self.devices.write_all(bytes).map_err(StreamError::Devices)
    }
}

fn unknown(what: &'static str, value: u64) -> StreamError {
    StreamError::Unknown { what, value }
}

fn printable(name: &[u8]) -> String {
    crate::logs::printable(&String::from_utf8_lossy(name))
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
