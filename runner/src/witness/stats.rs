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
            *stats.entry(name).or_default() += value;
        }
    }
    Ok(())
}

/// The statistics that are one number each.
fn read(file: &File) -> io::Result<Vec<(String, u64)>> {
    let mut header = [0; HEADER];
    file.read_exact_at(&mut header, 0)?;
    // flags, name_size, num_desc, id_offset, desc_offset, data_offset
    let [_, name_size, count, _, descriptors, data] =
        std::array::from_fn(|at| u32::from_le_bytes(std::array::from_fn(|byte| header[4 * at + byte])));
    let mut stats = Vec::new();
    let mut descriptor = vec![0; DESCRIPTOR + name_size as usize];
    for index in 0..u64::from(count) {
        let at = u64::from(descriptors) + index * descriptor.len() as u64;
        file.read_exact_at(&mut descriptor, at)?;
        // flags: u32, exponent: i16, size: u16, offset: u32, bucket_size: u32, name
        let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|byte| descriptor[at + byte]));
        let kind = word(0) & KVM_STATS_TYPE_MASK;
        if matches!(kind, KVM_STATS_TYPE_LINEAR_HIST | KVM_STATS_TYPE_LOG_HIST) {
            continue;
        }
        let name = descriptor[DESCRIPTOR..].split(|&byte| byte == 0).next().unwrap_or_default();
        let mut value = [0; 8];
        file.read_exact_at(&mut value, u64::from(data) + u64::from(word(8)))?;
        stats.push((String::from_utf8_lossy(name).into_owned(), u64::from_le_bytes(value)));
    }
    Ok(stats)
}
