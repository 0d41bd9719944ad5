//! KVM's statistics of a VM or a vCPU, as the file of KVM_GET_STATS_FD holds them (`Documentation/virt/kvm/api.rst`).

use crate::machine::kvm::sys;
use kvm_bindings::{KVM_CAP_BINARY_STATS_FD, KVM_STATS_TYPE_LINEAR_HIST, KVM_STATS_TYPE_LOG_HIST, KVM_STATS_TYPE_MASK};
use kvm_ioctls::Kvm;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

/// Bytes of `struct kvm_stats_header`.
const HEADER: usize = 24;
/// Bytes of `struct kvm_stats_desc` before the name.
const DESCRIPTOR: usize = 16;

/// Whether this KVM has them.
pub fn there(kvm: &Kvm) -> bool {
    kvm.check_extension_raw(KVM_CAP_BINARY_STATS_FD.into()) > 0
}

/// Adds the statistics of a VM or vCPU to `stats`.
///
/// # Errors
/// KVM_GET_STATS_FD is refused, or the file is not as it should be.
pub fn add(of: &impl AsRawFd, stats: &mut BTreeMap<String, u64>) -> io::Result<()> {
    for (name, value) in read(&sys::stats_fd(of)?)? {
        if value != 0 {
            let sum = stats.entry(name).or_default();
            *sum = sum.saturating_add(value);
        }
    }
    Ok(())
}

/// The statistics that are one number each. Three reads in all: a VM costs a millisecond, and has a hundred of them.
fn read(file: &File) -> io::Result<Vec<(String, u64)>> {
    let mut header = [0; HEADER];
    file.read_exact_at(&mut header, 0)?;
    // flags, name_size, num_desc, id_offset, desc_offset, data_offset
    let [_, name_size, count, _, descriptors_at, data_at] = std::array::from_fn(|at| word(&header, 4 * at));
    let size = DESCRIPTOR + name_size as usize;
    let mut descriptors = vec![0; size * count as usize];
    file.read_exact_at(&mut descriptors, descriptors_at.into())?;
    // flags: u32, exponent: i16, size: u16, offset: u32, bucket_size: u32, name
    let ends = descriptors
        .chunks_exact(size)
        .map(|it| word(it, 8) as usize + 8 * usize::from(it[6]) + 2048 * usize::from(it[7]));
    let mut data = vec![0; ends.max().unwrap_or(0)];
    file.read_exact_at(&mut data, data_at.into())?;
    let number =
        |it: &&[u8]| !matches!(word(it, 0) & KVM_STATS_TYPE_MASK, KVM_STATS_TYPE_LINEAR_HIST | KVM_STATS_TYPE_LOG_HIST);
    let stat = |it: &[u8]| {
        let name = it[DESCRIPTOR..].split(|&byte| byte == 0).next().unwrap_or_default();
        let at = word(it, 8) as usize;
        let value = data.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes);
        (String::from_utf8_lossy(name).into_owned(), value)
    };
    Ok(descriptors.chunks_exact(size).filter(number).map(stat).collect())
}

/// The little-endian word at a place that is there.
fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|byte| bytes[at + byte]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// A file as KVM's: header, id, descriptors, data.
    fn file(stats: &[(u32, &str, u64)]) -> File {
        const NAME: usize = 48;
        let (id, descriptors) = (HEADER, HEADER + NAME);
        let data = descriptors + stats.len() * (DESCRIPTOR + NAME);
        let header = [0, NAME, stats.len(), id, descriptors, data];
        let mut bytes: Vec<u8> = header.iter().flat_map(|&word| (word as u32).to_le_bytes()).collect();
        bytes.extend([b'k'; NAME]);
        for (index, (kind, name, _)) in stats.iter().enumerate() {
            bytes.extend(kind.to_le_bytes());
            bytes.extend([0, 0, 1, 0]);
            bytes.extend((8 * index as u32).to_le_bytes());
            bytes.extend([0; 4]);
            bytes.extend(name.bytes().chain(std::iter::repeat(0)).take(NAME));
        }
        bytes.extend(stats.iter().flat_map(|(.., value)| value.to_le_bytes()));
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        file
    }

    #[test]
    fn numbers_are_read_and_histograms_are_not() {
        let of_a_vm =
            file(&[(0, "remote_tlb_flush", 3), (KVM_STATS_TYPE_LOG_HIST, "halt_wait_hist", 7), (1, "pages_4k", 15)]);
        let wanted = [("remote_tlb_flush".to_owned(), 3), ("pages_4k".to_owned(), 15)];
        assert_eq!(read(&of_a_vm).unwrap(), wanted);
        let cut = file(&[(0, "exits", 1)]);
        cut.set_len(cut.metadata().unwrap().len() - 1).unwrap();
        assert!(read(&cut).is_err());
        assert!(read(&tempfile::tempfile().unwrap()).is_err());
    }

    #[test]
    fn this_kvm_counts() {
        let Ok(kvm) = crate::host::kvm::open() else { return crate::skip::skip("no /dev/kvm") };
        if !there(&kvm) {
            return crate::skip::skip("no KVM_CAP_BINARY_STATS_FD");
        }
        let vm = kvm.create_vm().unwrap();
        let names: Vec<String> =
            read(&sys::stats_fd(&vm).unwrap()).unwrap().into_iter().map(|(name, _)| name).collect();
        assert!(names.iter().any(|name| name == "remote_tlb_flush"), "{names:?}");
    }
}
