//! Owns the sequence of a tar: headers with what extends them, data, padding, the end. Gives
//! members as the archive describes them. Knows no tree and writes nothing.

use super::error::{EntryError, EntryName, HeaderError, ImportError};
use super::header::{BLOCK, Flag, RawHeader, gnu_sparse_block};
use super::limits::{Limit, Limits};
use super::pax::Pax;
use super::source::{Input, Part};
use super::sparse::{DataMap, PaxFormat, SparseMap, pairs, pax_format};
use crate::ext4::{Attrs, Special, Timestamp, Xattr, settle_xattrs};

/// One member of an archive.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) path: Vec<u8>,
    pub(super) attrs: Attrs,
    pub(super) xattrs: Vec<Xattr>,
    pub(super) body: Body,
    /// It had access control lists as text, which are left out.
    pub(super) has_acl_text: bool,
}

#[derive(Debug)]
pub(super) enum Body {
    Directory,
    File(SparseMap),
    Symlink(Vec<u8>),
    HardLink(Vec<u8>),
    Special(Special),
    /// A volume's label.
    Label,
    /// A type that we do not know.
    Unknown,
}

/// Reads members one after the other.
pub(crate) struct Archive<'a> {
    input: Input,
    limits: &'a Limits,
    globals: Pax,
    entries: u64,
    /// Data of the current member that nobody has taken, and the padding after it.
    data: u64,
    padding: u64,
}

/// What precedes a header and speaks about it.
#[derive(Default)]
struct Extensions {
    pax: Option<Pax>,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl<'a> Archive<'a> {
    /// `entries` have been read of other layers already.
    pub(crate) fn new(input: Input, limits: &'a Limits, entries: u64) -> Self {
        Self {
            input,
            limits,
            globals: Pax::default(),
            entries,
            data: 0,
            padding: 0,
        }
    }

    /// The next member, after skipping what is left of the one before.
    pub(super) fn next(&mut self) -> Result<Option<Member>, ImportError> {
        self.pass_data(|_| Ok(()))?;
        let mut said = Extensions::default();
        loop {
            let offset = self.input.position();
            let Some(header) = self.header(offset)? else {
                let left_over = said.pax.is_some() || said.name.is_some() || said.link.is_some();
                return match left_over {
                    true => Err(ImportError::Header {
                        offset,
                        source: HeaderError::Dangling,
                    }),
                    false => Ok(None),
                };
            };
            match header.flag() {
                Flag::LongName => said.name = Some(self.text(&header, offset)?),
                Flag::LongLink => said.link = Some(self.text(&header, offset)?),
                Flag::Pax => {
                    let raw = self.extension(&header, offset)?;
                    let pax = said.pax.get_or_insert_with(|| self.globals.clone());
                    pax.apply(&raw).map_err(at(offset))?;
                }
                Flag::PaxGlobal => {
                    let raw = self.extension(&header, offset)?;
                    self.globals.apply(&raw).map_err(at(offset))?;
                }
                flag => return self.member(flag, &header, said, offset).map(Some),
            }
        }
    }

    /// How many entries have been read, those of other layers included.
    pub(super) fn entries(&self) -> u64 {
        self.entries
    }

    /// The archive's stream, once its last member has been read.
    pub(crate) fn into_input(self) -> Input {
        self.input
    }

    /// Whether the data of members passes by.
    pub(super) fn has_data(&self) -> bool {
        self.input.has_data()
    }

    /// Gives the current member's data to `sink`; the stream goes on behind its padding. Where
    /// there is no data, there is nothing to give.
    pub(super) fn pass_data(
        &mut self,
        sink: impl FnMut(&[u8]) -> Result<(), ImportError>,
    ) -> Result<(), ImportError> {
        let (data, padding) = (
            std::mem::take(&mut self.data),
            std::mem::take(&mut self.padding),
        );
        if !self.has_data() {
            return Ok(());
        }
        self.input.pass(Part::Data, data, sink)?;
        self.input.pass(Part::Data, padding, |_| Ok(()))
    }

    /// The next header, or nothing at the mark of the end. An archive without that mark may have
    /// been cut, which nothing else would tell.
    fn header(&mut self, offset: u64) -> Result<Option<RawHeader>, ImportError> {
        let block = self
            .input
            .block()?
            .ok_or(ImportError::Truncated { offset })?;
        if let Some(header) = RawHeader::parse(&block).map_err(at(offset))? {
            return Ok(Some(header));
        }
        match self.input.block::<BLOCK>()? {
            None => Ok(None),
            Some(block) if block == [0; BLOCK] => Ok(None),
            Some(_) => Err(at(offset)(HeaderError::LoneZeroBlock)),
        }
    }

    /// The data of a header that extends another.
    fn extension(&mut self, header: &RawHeader, offset: u64) -> Result<Vec<u8>, ImportError> {
        let len = header.size().map_err(at(offset))?;
        let most = self.limits.extension_bytes;
        if len > most {
            return Err(at(offset)(HeaderError::ExtensionTooLong { len, most }));
        }
        let mut raw = Vec::new();
        self.input.pass(Part::Headers, len, |piece| {
            raw.extend_from_slice(piece);
            Ok(())
        })?;
        self.input
            .pass(Part::Headers, padding_after(len), |_| Ok(()))?;
        Ok(raw)
    }

    fn text(&mut self, header: &RawHeader, offset: u64) -> Result<Vec<u8>, ImportError> {
        let mut raw = self.extension(header, offset)?;
        let end = raw.iter().position(|byte| *byte == 0).unwrap_or(raw.len());
        raw.truncate(end);
        Ok(raw)
    }

    fn set_data(&mut self, len: u64) {
        self.data = len;
        self.padding = padding_after(len);
    }

    fn member(
        &mut self,
        flag: Flag,
        header: &RawHeader,
        said: Extensions,
        offset: u64,
    ) -> Result<Member, ImportError> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(ImportError::Limit {
                limit: Limit::Entries,
                most: self.limits.entries,
            });
        }
        let mut pax = said.pax.unwrap_or_else(|| self.globals.clone());
        let link = pax
            .link
            .take()
            .or(said.link)
            .unwrap_or_else(|| header.link());
        let path = pax.sparse.name.take().or(pax.path.take()).or(said.name);
        let path = path.unwrap_or_else(|| header.path());
        let refused = |source| ImportError::Entry {
            entry: EntryName::new(&path),
            source,
        };
        let stored = match (flag.has_data(), pax.size) {
            (false, _) => 0,
            (true, Some(size)) => size,
            (true, None) => header.size().map_err(at(offset))?,
        };
        self.set_data(stored);
        let body = match flag {
            Flag::OldRegular if path.ends_with(b"/") => Body::Directory,
            Flag::Regular | Flag::OldRegular => self.file(&pax, stored, &path)?,
            Flag::GnuSparse => self.gnu_sparse(header, stored, &path, offset)?,
            Flag::Directory | Flag::GnuDumpDir => Body::Directory,
            Flag::Symlink => Body::Symlink(link),
            Flag::HardLink => Body::HardLink(link),
            Flag::Char | Flag::Block => {
                let (major, minor) = header.device().map_err(at(offset))?;
                Body::Special(device(flag == Flag::Char, major, minor).map_err(refused)?)
            }
            Flag::Fifo => Body::Special(Special::Fifo),
            Flag::GnuVolumeLabel => Body::Label,
            Flag::GnuMultiVolume => return Err(refused(EntryError::MultiVolume { flag: 'M' })),
            Flag::Unknown => Body::Unknown,
            Flag::LongName | Flag::LongLink | Flag::Pax | Flag::PaxGlobal => {
                unreachable!("extensions are taken before")
            }
        };
        let mut attrs = attrs(header, &pax).map_err(at(offset))?.map_err(refused)?;
        let xattrs = match &body {
            // A further name has no attributes of its own.
            Body::HardLink(_) | Body::Label | Body::Unknown => Vec::new(),
            Body::Symlink(_) => settle_xattrs(&pax.xattrs, false, &mut attrs.mode)
                .map_err(|source| refused(EntryError::Xattr(source)))?,
            Body::Directory | Body::File(_) | Body::Special(_) => {
                settle_xattrs(&pax.xattrs, true, &mut attrs.mode)
                    .map_err(|source| refused(EntryError::Xattr(source)))?
            }
        };
        Ok(Member {
            path,
            attrs,
            xattrs,
            body,
            has_acl_text: pax.has_acl_text,
        })
    }

    fn file(&mut self, pax: &Pax, stored: u64, path: &[u8]) -> Result<Body, ImportError> {
        let refused = |source| ImportError::Entry {
            entry: EntryName::new(path),
            source,
        };
        let most = self.limits.sparse_pieces;
        let map = match pax_format(&pax.sparse).map_err(refused)? {
            PaxFormat::NotSparse => return Ok(Body::File(SparseMap::whole(stored))),
            PaxFormat::InHeader => {
                pairs(pax.sparse.map.as_deref().unwrap_or_default()).map_err(refused)?
            }
            PaxFormat::InData => self.sparse_map_in_data(path)?,
        };
        let len = pax
            .sparse
            .real_size
            .ok_or_else(|| refused(EntryError::SparseMap))?;
        if map.len() > most {
            return Err(refused(EntryError::TooManyPieces { most }));
        }
        SparseMap::new(len, &map, self.data)
            .map(Body::File)
            .map_err(refused)
    }

    /// The map's blocks are a part of the stored bytes, and are taken off them.
    fn sparse_map_in_data(&mut self, path: &[u8]) -> Result<Vec<(u64, u64)>, ImportError> {
        let refused = |source| ImportError::Entry {
            entry: EntryName::new(path),
            source,
        };
        let mut map = DataMap::default();
        loop {
            let rest = self.data.checked_sub(BLOCK as u64);
            self.data = rest.ok_or_else(|| refused(EntryError::SparseMap))?;
            let offset = self.input.position();
            let block: [u8; BLOCK] = self
                .input
                .block()?
                .ok_or(ImportError::Truncated { offset })?;
            if !map
                .take(&block, self.limits.sparse_pieces)
                .map_err(refused)?
            {
                return map.pairs().map_err(refused);
            }
        }
    }

    fn gnu_sparse(
        &mut self,
        header: &RawHeader,
        stored: u64,
        path: &[u8],
        offset: u64,
    ) -> Result<Body, ImportError> {
        let refused = |source| ImportError::Entry {
            entry: EntryName::new(path),
            source,
        };
        let (len, mut map, mut more) = header.gnu_sparse().map_err(at(offset))?;
        while more {
            let offset = self.input.position();
            let block = self
                .input
                .block()?
                .ok_or(ImportError::Truncated { offset })?;
            let (pieces, goes_on) = gnu_sparse_block(&block).map_err(at(offset))?;
            map.extend(pieces);
            more = goes_on;
            let most = self.limits.sparse_pieces;
            if map.len() > most {
                return Err(refused(EntryError::TooManyPieces { most }));
            }
        }
        SparseMap::new(len, &map, stored)
            .map(Body::File)
            .map_err(refused)
    }
}

/// Data ends at a block's boundary.
fn padding_after(len: u64) -> u64 {
    len.next_multiple_of(BLOCK as u64) - len
}

fn at(offset: u64) -> impl Fn(HeaderError) -> ImportError {
    move |source| ImportError::Header { offset, source }
}

fn device(is_char: bool, major: u64, minor: u64) -> Result<Special, EntryError> {
    let field = |value: u64, most: u32| {
        let value = u32::try_from(value).ok().filter(|value| *value <= most);
        value.ok_or(EntryError::OutOfRange {
            field: "device number",
        })
    };
    let (major, minor) = (field(major, 0xfff)?, field(minor, 0xf_ffff)?);
    Ok(if is_char {
        Special::Char { major, minor }
    } else {
        Special::Block { major, minor }
    })
}

/// The attributes; the outer failure is the header's, the inner the entry's.
fn attrs(header: &RawHeader, pax: &Pax) -> Result<Result<Attrs, EntryError>, HeaderError> {
    let mode = u16::try_from(header.mode()? & 0o7777).expect("twelve bits");
    let uid = pax.uid.map_or_else(|| header.uid(), Ok)?;
    let gid = pax.gid.map_or_else(|| header.gid(), Ok)?;
    let mtime = match pax.mtime {
        Some(time) => time.0,
        None => Timestamp::new(header.mtime()?, 0),
    };
    let id = |value: u64, field| u32::try_from(value).map_err(|_| EntryError::OutOfRange { field });
    let build = || {
        Ok(Attrs {
            mode,
            uid: id(uid, "owner")?,
            gid: id(gid, "group")?,
            mtime: mtime.ok_or(EntryError::OutOfRange { field: "time" })?,
        })
    };
    Ok(build())
}
