//! Getting the kernel out of a bzImage.

use banger_image::kernel::bzimage::{BzImageError, extract};
use proptest::prelude::*;

use crate::support::fakes::{Packed, RELEASE, bzimage, payload, vmlinux};

fn check(packed: Packed, kernel: &[u8]) {
    let mut out = Vec::new();
    let size = extract(&bzimage(&payload(kernel, packed)), &mut out).unwrap();
    assert!(out == kernel, "{packed:?}");
    assert_eq!(size, kernel.len() as u64);
}

#[test]
fn every_packing_of_kernels_is_read() {
    for packed in [Packed::Lz4, Packed::Gzip, Packed::Xz, Packed::Zstd] {
        check(packed, &vmlinux(RELEASE));
    }
}

#[test]
fn lz4_kernels_have_many_blocks() {
    let kernel: Vec<u8> = (0..2_200_000u32)
        .flat_map(|i| (i / 100).to_le_bytes())
        .collect();
    check(Packed::Lz4, &kernel);
}

fn refused(image: &[u8]) -> BzImageError {
    extract(image, &mut Vec::new()).unwrap_err()
}

#[test]
fn what_is_no_bzimage_is_refused() {
    assert!(matches!(refused(b""), BzImageError::NotBzImage));
    assert!(matches!(refused(&[0; 4096]), BzImageError::NotBzImage));
    let unknown = refused(&bzimage(&payload(b"", Packed::Bzip2)));
    assert!(
        matches!(&unknown, BzImageError::UnknownPacking { start } if start == "425a683920616e64")
    );
    let mut old = bzimage(&payload(b"kernel", Packed::Lz4));
    old[0x206] = 7;
    old[0x207] = 2;
    assert!(matches!(
        refused(&old),
        BzImageError::OldProtocol { version: 0x0207 }
    ));
}

#[test]
fn damage_is_noticed() {
    let packed = payload(&vmlinux(RELEASE), Packed::Lz4);
    assert!(matches!(
        refused(&bzimage(&packed)[..2000]),
        BzImageError::Truncated
    ));
    let mut size = packed.clone();
    *size.last_mut().unwrap() ^= 1;
    assert!(matches!(
        refused(&bzimage(&size)),
        BzImageError::Size { .. }
    ));
    let mut block = packed.clone();
    block[4] ^= 1;
    extract(&bzimage(&block), &mut Vec::new()).unwrap_err();
    let mut beyond = bzimage(&packed);
    beyond[0x24b] = 0xff;
    assert!(matches!(refused(&beyond), BzImageError::Truncated));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn hostile_images_never_panic(at in 0usize..6000, byte: u8) {
        let mut image = bzimage(&payload(&vec![7; 20_000], Packed::Lz4));
        let at = at % image.len();
        image[at] = byte;
        let _ = extract(&image, &mut Vec::new());
    }
}
