//! Owns the writing of cpio archives in the "newc" format that the kernel unpacks.
//! The same entries give the same bytes: times are zero, inodes count up.

use std::io::{self, Write};

const MAGIC: &str = "070701";
const HEADER: u64 = 110;
const TRAILER: &str = "TRAILER!!!";
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const CHARACTER: u32 = 0o020_000;

/// Writes entries one after the other. Parents come before what is in them.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    written: u64,
    inode: u32,
}

/// What distinguishes one header from another.
struct Header<'a> {
    name: &'a str,
    mode: u32,
    links: u32,
    size: u32,
    device: (u32, u32),
}

impl<W: Write> Writer<W> {
    pub fn new(out: W) -> Self {
        Self {
            out,
            written: 0,
            inode: 0,
        }
    }

    pub fn directory(&mut self, name: &str, mode: u32) -> io::Result<()> {
        let mode = DIRECTORY | mode;
        self.entry(
            &Header {
                name,
                mode,
                links: 2,
                size: 0,
                device: (0, 0),
            },
            &[],
        )
    }

    pub fn file(&mut self, name: &str, mode: u32, contents: &[u8]) -> io::Result<()> {
        let size = u32::try_from(contents.len())
            .map_err(|_| io::Error::new(io::ErrorKind::FileTooLarge, "too large for newc"))?;
        let mode = REGULAR | mode;
        self.entry(
            &Header {
                name,
                mode,
                links: 1,
                size,
                device: (0, 0),
            },
            contents,
        )
    }

    pub fn character_device(
        &mut self,
        name: &str,
        mode: u32,
        major: u32,
        minor: u32,
    ) -> io::Result<()> {
        let mode = CHARACTER | mode;
        self.entry(
            &Header {
                name,
                mode,
                links: 1,
                size: 0,
                device: (major, minor),
            },
            &[],
        )
    }

    /// Ends the archive and gives the stream back.
    pub fn finish(mut self) -> io::Result<W> {
        self.inode = 0;
        let trailer = Header {
            name: TRAILER,
            mode: 0,
            links: 1,
            size: 0,
            device: (0, 0),
        };
        self.header(&trailer)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn entry(&mut self, header: &Header<'_>, contents: &[u8]) -> io::Result<()> {
        if header.name.is_empty() || header.name.contains('\0') || header.name == TRAILER {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a name for newc",
            ));
        }
        self.inode += 1;
        self.header(header)?;
        self.write(contents)?;
        self.pad()
    }

    fn header(&mut self, header: &Header<'_>) -> io::Result<()> {
        let Header {
            name,
            mode,
            links,
            size,
            device: (major, minor),
        } = *header;
        let inode = self.inode;
        let name_size = name.len() + 1;
        // Inode, mode, uid, gid, links, mtime, size, device, rdevice, name's size, checksum.
        let text = format!(
            "{MAGIC}{inode:08x}{mode:08x}{:08x}{:08x}{links:08x}{:08x}{size:08x}{:08x}{:08x}\
             {major:08x}{minor:08x}{name_size:08x}{:08x}{name}\0",
            0, 0, 0, 0, 0, 0
        );
        debug_assert_eq!(text.len() as u64, HEADER + name_size as u64);
        self.write(text.as_bytes())?;
        self.pad()
    }

    fn pad(&mut self) -> io::Result<()> {
        let padding = self.written.next_multiple_of(4) - self.written;
        self.write(&[0; 3][..usize::try_from(padding).expect("padding is below four")])
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len() as u64;
        self.out.write_all(bytes)
    }
}
