//! The vmlinux in a bzImage: Linux, Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header".

use super::compression;
use std::io;

/// Where the number of 512-byte sectors of the setup code is; 0 means 4.
const SETUP_SECTS: usize = 0x1f1;
/// Where "HdrS" is.
const MAGIC: usize = 0x202;
/// Where the offset of the compressed kernel is, from the end of the setup code; its length follows.
const PAYLOAD_OFFSET: usize = 0x248;

/// Why there is no vmlinux.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// It is no kernel for x86.
    #[error("neither a bzImage nor an ELF file")]
    Strange,
    /// It is shorter than it says.
    #[error("the bzImage is cut short")]
    Short,
    /// The kernel in it cannot be decompressed.
    #[error("the kernel in the bzImage")]
    Payload(#[from] io::Error),
    /// What comes out of it is no kernel.
    #[error("what is in the bzImage is no ELF file")]
    NoElf,
}

/// The vmlinux, an ELF file, of an image that is a bzImage or a vmlinux itself.
///
/// # Errors
/// It is neither, or damaged.
pub fn vmlinux(image: &[u8]) -> Result<Vec<u8>, ImageError> {
    if image.starts_with(b"\x7fELF") {
        return Ok(image.to_vec());
    }
    if image.get(MAGIC..MAGIC + 4) != Some(b"HdrS") {
        return Err(ImageError::Strange);
    }
    let plain = compression::decompress(payload(image).ok_or(ImageError::Short)?)?;
    if plain.starts_with(b"\x7fELF") { Ok(plain) } else { Err(ImageError::NoElf) }
}

fn payload(image: &[u8]) -> Option<&[u8]> {
    let setup = match *image.get(SETUP_SECTS)? {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let number = |at: usize| image.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes) as usize);
    let begin = (setup + 1) * 512 + number(PAYLOAD_OFFSET)?;
    image.get(begin..begin.checked_add(number(PAYLOAD_OFFSET + 4)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;
    use std::io::Write;

    /// A bzImage with two sectors of setup code and its payload 16 bytes behind them.
    fn bzimage(kernel: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(kernel).unwrap();
        let packed = encoder.finish().unwrap();
        let mut image = vec![0; 3 * 512 + 16];
        image[SETUP_SECTS] = 2;
        image[MAGIC..MAGIC + 4].copy_from_slice(b"HdrS");
        image[PAYLOAD_OFFSET..PAYLOAD_OFFSET + 4].copy_from_slice(&16u32.to_le_bytes());
        image[PAYLOAD_OFFSET + 4..PAYLOAD_OFFSET + 8].copy_from_slice(&(packed.len() as u32).to_le_bytes());
        image.extend(packed);
        image
    }

    #[test]
    fn the_kernel_is_found_and_decompressed() {
        let kernel = b"\x7fELF and so on";
        assert_eq!(vmlinux(&bzimage(kernel)).unwrap(), kernel);
        assert_eq!(vmlinux(kernel).unwrap(), kernel);
    }

    #[test]
    fn what_is_no_kernel_is_told_from_a_damaged_one() {
        let image = bzimage(b"\x7fELF and so on");
        assert!(matches!(vmlinux(b"hello"), Err(ImageError::Strange)));
        assert!(matches!(vmlinux(&image[..image.len() - 1]), Err(ImageError::Short)));
        assert!(matches!(vmlinux(&bzimage(b"hello")), Err(ImageError::NoElf)));
        let mut damaged = image;
        damaged[3 * 512 + 16] = 0;
        assert!(matches!(vmlinux(&damaged), Err(ImageError::Payload(_))));
    }

    proptest! {
        #[test]
        fn no_image_is_too_much(mut image in proptest::collection::vec(any::<u8>(), 0x250..0x400), is_image: bool) {
            if is_image {
                image[MAGIC..MAGIC + 4].copy_from_slice(b"HdrS");
            }
            let _ = vmlinux(&image);
        }
    }
}
