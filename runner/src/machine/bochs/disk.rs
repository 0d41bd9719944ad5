//! The boot disk: what the ROM loads into memory, and where it goes then.
//!
//! A flat image of sectors of 512 bytes; all numbers are 32-bit and little-endian.
//!
//! | sector | offset | what |
//! |---|---|---|
//! | 0 | 0 | `KMTBOOT1` |
//! | 0 | 8 | number of segments, at most 30 |
//! | 0 | 12 | entry: where the ROM jumps, in flat 32-bit protected mode without paging |
//! | 0 | 16 | value of EBX there: for PVH the address of `hvm_start_info` |
//! | 0 | 20 | bit 0: set the MTRRs as firmware does |
//! | 0 | 24 | 8 bytes of zero |
//! | 0 | 32 + 16 n | segment n: its first sector, its number of sectors, its address, 0 |
//! | 1 and on | | the segments, each from the start of a sector on; the rest of its last sector is zero |

use std::borrow::Cow;
use std::io::{self, ErrorKind, Write};

/// Bytes of a sector.
pub const SECTOR: usize = 512;
/// The lowest address of a segment: below are the ROM's stack and the first sector.
pub const LOWEST: u32 = 0x7000;

const MAGIC: &[u8; 8] = b"KMTBOOT1";
const HEADER: usize = 32;
const ENTRY: usize = 16;
/// Sectors of a cylinder as Bochs counts them where it is to find out the geometry: an image has to be whole ones.
const CYLINDER: u64 = 16 * 63;

/// Bytes and where they go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Physical address, at least [`LOWEST`].
    pub address: u32,
    /// The bytes. Up to a sector less one byte of zeros is written behind them.
    pub bytes: Cow<'a, [u8]>,
}

/// What the MTRRs are at the entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mtrrs {
    /// As a reset leaves them: disabled, so that all memory is UC.
    Reset,
    /// Enabled: WB, but UC at 640 to 768 KiB and from 3 to 4 GiB.
    Firmware,
}

/// What is on a boot disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk<'a> {
    /// Physical address of the first instruction.
    pub entry: u32,
    /// EBX at the entry.
    pub start_info: u32,
    /// MTRRs at the entry.
    pub mtrrs: Mtrrs,
    /// What is loaded, in this order.
    pub segments: Vec<Segment<'a>>,
}

impl Disk<'_> {
    /// Writes the image.
    ///
    /// # Errors
    /// Too many segments, one below [`LOWEST`] or behind 4 GiB, and those of `to`.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let mut header =
            [MAGIC.as_slice(), &words(&[self.segments.len() as u32, self.entry, self.start_info])].concat();
        header.extend(words(&[u32::from(self.mtrrs == Mtrrs::Firmware), 0, 0]));
        let mut next = 1u32;
        for Segment { address, bytes } in &self.segments {
            let sectors = bytes.len().div_ceil(SECTOR) as u64;
            if *address < LOWEST || u64::from(*address) + sectors * SECTOR as u64 > 1 << 32 {
                return Err(invalid(format!("a segment of {:#x} bytes cannot go to {address:#x}", bytes.len())));
            }
            header.extend(words(&[next, sectors as u32, *address, 0]));
            next = next.saturating_add(sectors as u32);
        }
        if header.len() > SECTOR {
            let most = (SECTOR - HEADER) / ENTRY;
            return Err(invalid(format!("{} segments are more than a boot disk's {most}", self.segments.len())));
        }
        header.resize(SECTOR, 0);
        to.write_all(&header)?;
        for Segment { bytes, .. } in &self.segments {
            to.write_all(bytes)?;
            to.write_all(&[0; SECTOR][..bytes.len().next_multiple_of(SECTOR) - bytes.len()])?;
        }
        let missing = u64::from(next).next_multiple_of(CYLINDER) - u64::from(next);
        to.write_all(&vec![0; missing as usize * SECTOR])
    }
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn invalid(what: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn word(image: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(image[at..at + 4].try_into().unwrap())
    }

    fn disk(segments: Vec<(u32, Vec<u8>)>) -> Disk<'static> {
        let segments = segments.into_iter().map(|(address, bytes)| Segment { address, bytes: bytes.into() }).collect();
        Disk { entry: 0x10_0000, start_info: LOWEST, mtrrs: Mtrrs::Firmware, segments }
    }

    proptest! {
        #[test]
        fn what_is_on_the_disk_can_be_read_as_the_rom_reads_it(
            segments in prop::collection::vec((LOWEST..0x8000_0000, prop::collection::vec(any::<u8>(), 0..2000)), 0..=30)
        ) {
            let mut image = Vec::new();
            disk(segments.clone()).write(&mut image).unwrap();
            prop_assert_eq!(image.len() as u64 % (CYLINDER * SECTOR as u64), 0);
            prop_assert_eq!(&image[..8], MAGIC);
            prop_assert_eq!([12, 16, 20].map(|at| word(&image, at)), [0x10_0000, LOWEST, 1]);
            prop_assert_eq!(word(&image, 8) as usize, segments.len());
            for (n, (address, bytes)) in segments.iter().enumerate() {
                let [first, count, to] = [0, 4, 8].map(|at| word(&image, HEADER + ENTRY * n + at) as usize);
                let read = &image[first * SECTOR..][..count * SECTOR];
                prop_assert_eq!(to, *address as usize);
                prop_assert_eq!(&read[..bytes.len()], bytes);
                prop_assert!(read[bytes.len()..].iter().all(|&byte| byte == 0));
            }
        }
    }

    #[test]
    fn what_the_rom_could_not_load_is_refused() {
        let refused = |segments| disk(segments).write(&mut io::sink()).unwrap_err().to_string();
        assert_eq!(refused(vec![(0x6fff, vec![1])]), "a segment of 0x1 bytes cannot go to 0x6fff");
        assert_eq!(refused(vec![(u32::MAX - 510, vec![1])]), "a segment of 0x1 bytes cannot go to 0xfffffe01");
        assert_eq!(refused(vec![(LOWEST, vec![1]); 31]), "31 segments are more than a boot disk's 30");
    }
}
