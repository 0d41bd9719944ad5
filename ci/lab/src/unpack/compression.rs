//! Compressed data, told by its first bytes.

use flate2::read::GzDecoder;
use liblzma::read::XzDecoder;
use lz4_flex::frame::FrameDecoder;
use ruzstd::decoding::StreamingDecoder;
use std::io::{self, Read};

/// A way to compress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Gzip,
    Xz,
    Zstd,
    Lz4,
}

/// First bytes, and what they stand for. Linux compresses with the old form of LZ4.
const MAGICS: [(&[u8], Kind); 4] = [
    (b"\x1f\x8b", Kind::Gzip),
    (b"\xfd7zXZ\0", Kind::Xz),
    (b"\x28\xb5\x2f\xfd", Kind::Zstd),
    (b"\x02\x21\x4c\x18", Kind::Lz4),
];

/// What a kernel may be compressed with and the lab cannot read, by first bytes: for a better error.
const STRANGE: [(&[u8], &str); 3] = [(b"BZh", "bzip2"), (b"\x5d\0\0", "LZMA"), (b"\x89LZO", "LZO")];

/// Whether the data are compressed in a way that [`decompress`] knows.
pub fn is_compressed(data: &[u8]) -> bool {
    kind(data).is_some()
}

fn kind(data: &[u8]) -> Option<Kind> {
    MAGICS.iter().find(|(magic, _)| data.starts_with(magic)).map(|&(_, kind)| kind)
}

/// The data, decompressed. What follows the compressed data is passed over.
///
/// # Errors
/// They are not compressed in a known way, or are damaged.
pub fn decompress(data: &[u8]) -> io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    match kind(data) {
        Some(Kind::Gzip) => GzDecoder::new(data).read_to_end(&mut plain),
        Some(Kind::Xz) => XzDecoder::new(data).read_to_end(&mut plain),
        Some(Kind::Zstd) => StreamingDecoder::new(data).map_err(io::Error::other)?.read_to_end(&mut plain),
        Some(Kind::Lz4) => lz4(data, &mut plain),
        None => {
            let strange = STRANGE.iter().find(|(magic, _)| data.starts_with(magic)).map(|(_, name)| *name);
            let how = strange.map_or("in an unknown way".to_owned(), |name| format!("with {name}"));
            return Err(io::Error::other(format!("compressed {how}; gzip, xz, zstd and LZ4 can be read")));
        }
    }?;
    Ok(plain)
}

/// The old form of LZ4 has no end of its own. A bzImage has the size of the plain data behind it, which is no block.
fn lz4(data: &[u8], plain: &mut Vec<u8>) -> io::Result<usize> {
    match FrameDecoder::new(data).read_to_end(plain) {
        Err(error) if plain.is_empty() => Err(error),
        _ => Ok(plain.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    /// The output of a program that is given `data`.
    fn piped(program: &str, arguments: &[&str], data: &[u8]) -> Option<Vec<u8>> {
        let mut command = Command::new(program);
        let mut child = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
        child.stdin.take()?.write_all(data).ok()?;
        Some(child.wait_with_output().ok()?.stdout)
    }

    #[test]
    fn what_kernels_are_compressed_with_can_be_read() {
        let data: Vec<u8> = (0..40_000u32).flat_map(|n| (n * n / 7).to_le_bytes()).collect();
        for (program, arguments) in [
            ("gzip", &["-9"][..]),
            ("xz", &["--check=crc32", "--x86", "--lzma2=dict=1MiB"]),
            ("zstd", &["-q", "-19"]),
            ("lz4", &["-l", "-9"]),
        ] {
            match piped(program, arguments, &data) {
                Some(packed) => assert_eq!(decompress(&packed).unwrap(), data, "{program}"),
                None => crate::skip::skip(&format!("there is no {program} here")),
            }
        }
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let said = |data: &[u8]| decompress(data).unwrap_err().to_string();
        assert!(said(b"BZh91AY").starts_with("compressed with bzip2"));
        assert!(said(b"hello").starts_with("compressed in an unknown way"));
        assert!(decompress(b"\x1f\x8b\x08\0\0\0").is_err());
    }
}
