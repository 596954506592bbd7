//! Guests without Linux: an ELF file around a few instructions.

/// Where the code lies in the guest's memory, above all that Firecracker puts there.
const ADDRESS: u64 = 0x0100_0000;

/// Says "up" on the serial line and waits for ever, for interrupts that are switched off.
pub(super) fn waiting() -> Vec<u8> {
    let mut code = say("up\n");
    code.extend([
        0xfa, // cli
        0xf4, // again: hlt
        0xeb, 0xfd, // jmp again
    ]);
    elf(&code)
}

/// Says "up" and resets the machine, as Linux does when it restarts.
pub(super) fn resetting() -> Vec<u8> {
    let mut code = say("up\n");
    code.extend([
        0xb0, 0xfe, // mov al, 0xfe
        0xe6, 0x64, // out 0x64, al
        0xf4, // hlt
    ]);
    elf(&code)
}

/// Says "up", and then one letter after the other, a line for each, in the order of the alphabet and
/// round again. Which one comes next is in its memory.
pub(super) fn spelling() -> Vec<u8> {
    let mut code = say("up\n");
    code.extend([
        0x8a, 0x1c, 0x25, 0, 0, 0, 2, // next: mov bl, [0x2000000]
        0x88, 0xd8, 0x04, b'a', 0xee, // mov al, bl; add al, 'a'; out dx, al
        0xb0, b'\n', 0xee, // mov al, '\n'; out dx, al
        0xfe, 0xc3, // inc bl
        0x80, 0xfb, 26, 0x75, 2, // cmp bl, 26; jne within
        0x30, 0xdb, // xor bl, bl
        0x88, 0x1c, 0x25, 0, 0, 0, 2, // within: mov [0x2000000], bl
        0xb9, 0x00, 0x40, 0, 0, // mov ecx, 0x4000
        0xff, 0xc9, 0x75, 0xfc, // wait: dec ecx; jnz wait
        0xeb, 0xd6, // jmp next
    ]);
    elf(&code)
}

/// Fills the serial line as fast as it can.
pub(super) fn flooding() -> Vec<u8> {
    let mut code = vec![0x66, 0xba, 0xf8, 0x03]; // mov dx, 0x3f8
    let text = b"flood flood flood flood flood flood\n";
    for &byte in text {
        code.extend([0xb0, byte, 0xee]); // mov al, byte; out dx, al
    }
    let length = i32::try_from(text.len() * 3).expect("the text is short");
    let back = -(length + 5);
    code.push(0xe9); // jmp to the first byte
    code.extend(back.to_le_bytes());
    elf(&code)
}

fn say(text: &str) -> Vec<u8> {
    let mut code = vec![0x66, 0xba, 0xf8, 0x03]; // mov dx, 0x3f8
    for byte in text.bytes() {
        code.extend([0xb0, byte, 0xee]); // mov al, byte; out dx, al
    }
    code
}

/// A 64-bit executable with one segment that begins with its first instruction.
fn elf(code: &[u8]) -> Vec<u8> {
    const HEADER: u16 = 64;
    const PROGRAM_HEADER: u16 = 56;
    let offset = u64::from(HEADER + PROGRAM_HEADER);
    let length = code.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let half = |file: &mut Vec<u8>, value: u16| file.extend(value.to_le_bytes());
    half(&mut file, 2); // an executable
    half(&mut file, 62); // for x86-64
    file.extend(1_u32.to_le_bytes());
    for value in [ADDRESS, u64::from(HEADER), 0] {
        file.extend(value.to_le_bytes());
    }
    file.extend(0_u32.to_le_bytes());
    for value in [HEADER, PROGRAM_HEADER, 1, 0, 0, 0] {
        half(&mut file, value);
    }
    file.extend(1_u32.to_le_bytes()); // a segment to be loaded
    file.extend(5_u32.to_le_bytes()); // to be read and executed
    for value in [offset, ADDRESS, ADDRESS, length, length, 0x1000] {
        file.extend(value.to_le_bytes());
    }
    file.extend(code);
    file
}
