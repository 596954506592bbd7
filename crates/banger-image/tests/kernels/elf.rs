//! What is read out of ELF files.

use banger_image::kernel::elf::{ElfError, inspect_kernel, module_depends};
use proptest::prelude::*;

use crate::support::fakes::{RELEASE, module, vmlinux};

fn inspect(bytes: &[u8]) -> Result<String, ElfError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    inspect_kernel(file.path())
}

#[test]
fn a_kernel_says_which_release_it_is() {
    assert_eq!(inspect(&vmlinux(RELEASE)).unwrap(), RELEASE);
}

#[test]
fn a_release_is_found_wherever_it_lies() {
    // Around the end of the window that is looked through at a time.
    const WINDOW: usize = 1024 * 1024;
    for before in [200, 103, 80, 79, 78, 64, 28, 27, 15, 14, 13, 1, 0] {
        let padding = WINDOW - before;
        let mut kernel = vmlinux("x")[..64].to_vec();
        kernel.resize(padding, 0);
        kernel.extend(b"Linux version 6.12.1-own (x)");
        assert_eq!(inspect(&kernel).unwrap(), "6.12.1-own", "{padding}");
    }
}

#[test]
fn what_cannot_boot_is_refused() {
    assert!(matches!(inspect(b""), Err(ElfError::NotX86)));
    assert!(matches!(inspect(&[b'x'; 100]), Err(ElfError::NotX86)));
    assert!(matches!(
        inspect(&module(&[])),
        Err(ElfError::NotExecutable)
    ));
    assert!(matches!(inspect(&vmlinux("%s")), Err(ElfError::NoRelease)));
    assert!(matches!(
        inspect(&vmlinux("../../x")),
        Err(ElfError::NoRelease)
    ));
    let mut arm = vmlinux(RELEASE);
    arm[18] = 183;
    assert!(matches!(inspect(&arm), Err(ElfError::NotX86)));
}

#[test]
fn a_module_says_what_it_needs() {
    assert_eq!(module_depends(&module(&[])).unwrap(), [""; 0]);
    assert_eq!(
        module_depends(&module(&["virtio", "a-b"])).unwrap(),
        ["virtio", "a-b"]
    );
    assert!(module_depends(&vmlinux(RELEASE)).is_err());
}

proptest! {
    #[test]
    fn hostile_modules_never_panic(at in 0usize..500, byte: u8, cut in 0usize..600) {
        let mut elf = module(&["virtio"]);
        let at = at % elf.len();
        elf[at] = byte;
        elf.truncate(cut.min(elf.len()));
        let _ = module_depends(&elf);
    }
}
