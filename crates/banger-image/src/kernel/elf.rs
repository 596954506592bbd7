//! Owns the little that is read out of ELF files: whether one is an x86-64 kernel, which release
//! it says that it is, and what a module says about itself. Loads nothing.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use memchr::memmem::Finder;

const MAGIC: &[u8] = b"\x7fELF";
const CLASS_64: u8 = 2;
const LITTLE_ENDIAN: u8 = 1;
const MACHINE_X86_64: u16 = 62;
const TYPE_RELOCATABLE: u16 = 1;
const TYPE_EXECUTABLE: u16 = 2;
const TYPE_SHARED: u16 = 3;
const HEADER: usize = 64;
const SECTION_HEADER: usize = 64;
const BANNER: &[u8] = b"Linux version ";
const LONGEST_RELEASE: usize = 64;

/// Why a file is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum ElfError {
    #[error("cannot read it")]
    Read(#[source] io::Error),
    #[error("it is not an ELF file of x86-64")]
    NotX86,
    #[error("it is an ELF file, but not an executable kernel")]
    NotExecutable,
    #[error("it is not a kernel module")]
    NotModule,
    #[error("it does not say which kernel it is")]
    NoRelease,
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn usize_at(bytes: &[u8], at: usize) -> Option<usize> {
    let value = u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?);
    usize::try_from(value).ok()
}

/// The file's ELF type, if it is an ELF file of x86-64.
fn elf_type(header: &[u8]) -> Option<u16> {
    let ours = header.len() >= HEADER
        && header.starts_with(MAGIC)
        && header[4] == CLASS_64
        && header[5] == LITTLE_ENDIAN
        && u16_at(header, 18) == Some(MACHINE_X86_64);
    ours.then(|| u16_at(header, 16)).flatten()
}

/// Whether bytes begin as an ELF file does.
#[must_use]
pub fn is_elf(start: &[u8]) -> bool {
    start.starts_with(MAGIC)
}

/// Checks that a file is a kernel that a VMM can load, and finds its release: `6.1.0-50-amd64`.
pub fn inspect_kernel(path: &Path) -> Result<String, ElfError> {
    let mut file = File::open(path).map_err(ElfError::Read)?;
    let mut header = [0; HEADER];
    file.read_exact(&mut header).map_err(|_| ElfError::NotX86)?;
    match elf_type(&header).ok_or(ElfError::NotX86)? {
        TYPE_EXECUTABLE | TYPE_SHARED => {}
        _ => return Err(ElfError::NotExecutable),
    }
    find_release(file)
        .map_err(ElfError::Read)?
        .ok_or(ElfError::NoRelease)
}

/// Looks for the banner that every kernel carries: `Linux version 6.1.0-50-amd64 (...`.
fn find_release(mut kernel: impl Read) -> io::Result<Option<String>> {
    const KEEP: usize = BANNER.len() + LONGEST_RELEASE + 1;
    let finder = Finder::new(BANNER);
    let mut window = vec![0; 1024 * 1024];
    let mut filled = 0;
    loop {
        let n = kernel.read(&mut window[filled..])?;
        filled += n;
        let complete = if n == 0 {
            filled
        } else {
            filled.saturating_sub(KEEP)
        };
        for at in finder
            .find_iter(&window[..filled])
            .take_while(|at| *at < complete)
        {
            if let Some(release) = release_at(&window[at + BANNER.len()..filled]) {
                return Ok(Some(release));
            }
        }
        if n == 0 {
            return Ok(None);
        }
        // What may be the beginning of a banner is looked at again with what follows it.
        window.copy_within(complete..filled, 0);
        filled -= complete;
    }
}

/// The release at the start of `bytes`; nothing where it is a format string or other text.
fn release_at(bytes: &[u8]) -> Option<String> {
    let length = bytes
        .iter()
        .take(LONGEST_RELEASE + 1)
        .position(|b| *b == b' ')?;
    let text = std::str::from_utf8(&bytes[..length]).ok()?;
    let safe = |c: char| c.is_ascii_alphanumeric() || ".-_+~".contains(c);
    let good = text.starts_with(|c: char| c.is_ascii_digit()) && text.chars().all(safe);
    good.then(|| text.to_owned())
}

/// The modules that a module says it depends on.
pub fn module_depends(module: &[u8]) -> Result<Vec<String>, ElfError> {
    if elf_type(module) != Some(TYPE_RELOCATABLE) {
        return Err(ElfError::NotModule);
    }
    let info = section(module, b".modinfo").ok_or(ElfError::NotModule)?;
    let mut fields = info
        .split(|b| *b == 0)
        .filter_map(|f| std::str::from_utf8(f).ok());
    let depends = fields
        .find_map(|field| field.strip_prefix("depends="))
        .unwrap_or_default();
    Ok(depends
        .split(',')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect())
}

/// The contents of the first section with this name.
fn section<'a>(elf: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let table = usize_at(elf, 40)?;
    let count = usize::from(u16_at(elf, 60)?);
    let names = body(elf, header_at(elf, table, usize::from(u16_at(elf, 62)?))?)?;
    (0..count).find_map(|index| {
        let header = header_at(elf, table, index)?;
        let start = names.get(u32_at(header, 0)? as usize..)?;
        let found = start.split(|b| *b == 0).next()?;
        if found == name {
            body(elf, header)
        } else {
            None
        }
    })
}

fn header_at(elf: &[u8], table: usize, index: usize) -> Option<&[u8]> {
    let start = table.checked_add(index.checked_mul(SECTION_HEADER)?)?;
    elf.get(start..start.checked_add(SECTION_HEADER)?)
}

fn body<'a>(elf: &'a [u8], header: &[u8]) -> Option<&'a [u8]> {
    let start = usize_at(header, 24)?;
    elf.get(start..start.checked_add(usize_at(header, 32)?)?)
}
