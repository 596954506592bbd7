//! Kernels, modules and packages that are real in form and empty in substance.

use std::io::Write as _;

pub(crate) const RELEASE: &str = "6.1.0-9-cloud-amd64";

fn elf_header(kind: u16) -> Vec<u8> {
    let mut header = vec![0; 64];
    header[..6].copy_from_slice(b"\x7fELF\x02\x01");
    header[16..18].copy_from_slice(&kind.to_le_bytes());
    header[18..20].copy_from_slice(&62u16.to_le_bytes());
    header
}

/// An ELF executable that says that it is Linux.
pub(crate) fn vmlinux(release: &str) -> Vec<u8> {
    let mut kernel = elf_header(2);
    kernel.extend(b"Linux version %s (format)\0");
    kernel.extend((0..200_000u32).flat_map(|i| (i / 7).to_le_bytes()));
    kernel.extend(format!("Linux version {release} (builder@example)\0").as_bytes());
    kernel
}

/// An object file with a `.modinfo` section.
pub(crate) fn module(depends: &[&str]) -> Vec<u8> {
    let info = format!("license=GPL\0depends={}\0name=x\0", depends.join(","));
    let names = b"\0.shstrtab\0.modinfo\0";
    let (names_at, info_at) = (64, 64 + names.len());
    let table_at = info_at + info.len();
    let mut elf = elf_header(1);
    elf[40..48].copy_from_slice(&(table_at as u64).to_le_bytes());
    elf[60..62].copy_from_slice(&3u16.to_le_bytes());
    elf[62..64].copy_from_slice(&1u16.to_le_bytes());
    elf.extend(names);
    elf.extend(info.as_bytes());
    elf.extend(section(0, 0, 0));
    elf.extend(section(1, names_at, names.len()));
    elf.extend(section(11, info_at, info.len()));
    elf
}

fn section(name: u32, at: usize, size: usize) -> Vec<u8> {
    let mut header = vec![0; 64];
    header[..4].copy_from_slice(&name.to_le_bytes());
    header[24..32].copy_from_slice(&(at as u64).to_le_bytes());
    header[32..40].copy_from_slice(&(size as u64).to_le_bytes());
    header
}

/// How a bzImage's payload is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packed {
    Lz4,
    Gzip,
    Xz,
    Zstd,
    Bzip2,
}

pub(crate) fn payload(kernel: &[u8], packed: Packed) -> Vec<u8> {
    let mut bytes = match packed {
        Packed::Lz4 => lz4(kernel),
        Packed::Gzip => return gzip(kernel),
        Packed::Xz => xz(kernel),
        Packed::Zstd => zstd::encode_all(kernel, 3).unwrap(),
        Packed::Bzip2 => b"BZh9 and so on".to_vec(),
    };
    bytes.extend(u32::try_from(kernel.len()).unwrap().to_le_bytes());
    bytes
}

fn lz4(kernel: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x02, 0x21, 0x4c, 0x18];
    for block in kernel.chunks(8 * 1024 * 1024) {
        let packed = lz4_flex::block::compress(block);
        bytes.extend(u32::try_from(packed.len()).unwrap().to_le_bytes());
        bytes.extend(packed);
    }
    bytes
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

pub(crate) fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut packer = liblzma::write::XzEncoder::new(Vec::new(), 0);
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

/// A bzImage around a payload.
pub(crate) fn bzimage(payload: &[u8]) -> Vec<u8> {
    const SECTORS: usize = 3;
    const OFFSET: usize = 700;
    let mut image = vec![0; (SECTORS + 1) * 512 + OFFSET];
    image[0x1f1] = u8::try_from(SECTORS).unwrap();
    image[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x206..0x208].copy_from_slice(&0x020fu16.to_le_bytes());
    image[0x248..0x24c].copy_from_slice(&u32::try_from(OFFSET).unwrap().to_le_bytes());
    image[0x24c..0x250].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
    image.extend(payload);
    image.extend(b"something after the payload");
    image
}

/// The files of a kernel's module directory: all that boot needs, and one module more.
pub(crate) fn module_files() -> Vec<(String, Vec<u8>)> {
    let file = |path: &str, depends: &[&str]| (path.to_owned(), module(depends));
    vec![
        file("kernel/virtio_ring.ko", &[]),
        file("kernel/virtio.ko", &["virtio_ring"]),
        file("kernel/virtio_mmio.ko", &["virtio", "virtio_ring"]),
        (
            "kernel/virtio_blk.ko.xz".to_owned(),
            xz(&module(&["virtio"])),
        ),
        ("kernel/overlay.ko.gz".to_owned(), gzip(&module(&[]))),
        file("kernel/virtio-rng.ko", &["virtio"]),
        file("kernel/unrelated.ko", &[]),
        (
            "modules.builtin".to_owned(),
            b"kernel/fs/ext4/ext4.ko\n".to_vec(),
        ),
    ]
}

/// Members of a kernel package.
pub(crate) fn kernel_members() -> Vec<(String, Vec<u8>)> {
    let image = bzimage(&payload(&vmlinux(RELEASE), Packed::Lz4));
    let modules = module_files()
        .into_iter()
        .map(|(path, bytes)| (format!("./lib/modules/{RELEASE}/{path}"), bytes));
    [
        (format!("./boot/vmlinuz-{RELEASE}"), image),
        (format!("./boot/config-{RELEASE}"), b"CONFIG_X=y\n".to_vec()),
        (
            "./usr/share/doc/linux/copyright".to_owned(),
            b"GPL\n".to_vec(),
        ),
    ]
    .into_iter()
    .chain(modules)
    .collect()
}

pub(crate) fn tar(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, &bytes[..]).unwrap();
    }
    builder.into_inner().unwrap()
}

pub(crate) fn deb_of(data_name: &str, data: &[u8]) -> Vec<u8> {
    let mut outer = ar::Builder::new(Vec::new());
    let members: [(&str, &[u8]); 3] = [
        ("debian-binary", b"2.0\n"),
        ("control.tar.xz", b"ignored"),
        (data_name, data),
    ];
    for (name, bytes) in members {
        let header = ar::Header::new(name.as_bytes().to_vec(), bytes.len() as u64);
        outer.append(&header, bytes).unwrap();
    }
    outer.into_inner().unwrap()
}

pub(crate) fn deb(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    deb_of("data.tar.xz", &xz(&tar(members)))
}
