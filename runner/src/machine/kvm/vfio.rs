//! KVM's devices by which a VM gets non-coherent DMA: the VFIO device, to which files are added and taken away
//! (`Documentation/virt/kvm/devices/vfio.rst`), and the VIRTIO device of a proposal, which is told so.

use crate::host::dma::Provider;
use kvm_bindings::{
    KVM_DEV_VFIO_FILE, KVM_DEV_VFIO_FILE_ADD, KVM_DEV_VFIO_FILE_DEL, kvm_create_device, kvm_device_attr,
    kvm_device_type_KVM_DEV_TYPE_VFIO,
};
use kvm_ioctls::{DeviceFd, Error, VmFd};
use std::os::fd::AsRawFd;

/// KVM_DEV_TYPE_VIRTIO, of the kernels that have it (ci/kernels/patches).
pub const KVM_DEV_TYPE_VIRTIO: u32 = 64;
/// Its group of attributes.
const KVM_DEV_VIRTIO_NONCOHERENT: u32 = 1;
/// Its attributes: the VM has non-coherent DMA, and has it no more.
const KVM_DEV_VIRTIO_NONCOHERENT_SET: u32 = 1;
const KVM_DEV_VIRTIO_NONCOHERENT_CLEAR: u32 = 2;

/// The device. A VM has one at most, which is made when it is first used.
#[derive(Debug, Default)]
pub struct Vfio(Option<DeviceFd>);

impl Vfio {
    /// KVM_DEV_VFIO_FILE_ADD, or KVM_DEV_VIRTIO_NONCOHERENT_SET. That KVM takes a file says nothing about coherency.
    ///
    /// # Errors
    /// EEXIST if it has the file, EINVAL for one that VFIO does not know, ENODEV for a KVM without that device.
    pub fn add(&mut self, vm: &VmFd, provider: &Provider) -> Result<(), Error> {
        self.set(vm, provider, KVM_DEV_VFIO_FILE_ADD, KVM_DEV_VIRTIO_NONCOHERENT_SET)
    }

    /// KVM_DEV_VFIO_FILE_DEL, or KVM_DEV_VIRTIO_NONCOHERENT_CLEAR.
    ///
    /// # Errors
    /// ENOENT if it does not have the file, ENODEV for a KVM without that device.
    pub fn delete(&mut self, vm: &VmFd, provider: &Provider) -> Result<(), Error> {
        self.set(vm, provider, KVM_DEV_VFIO_FILE_DEL, KVM_DEV_VIRTIO_NONCOHERENT_CLEAR)
    }

    /// Sets the attribute of the device that the provider is for: of VIRTIO where it has no file.
    fn set(&mut self, vm: &VmFd, provider: &Provider, vfio: u32, virtio: u32) -> Result<(), Error> {
        let fd = provider.file().map(|file| file.as_raw_fd());
        let (type_, group, attr, addr) = match &fd {
            Some(fd) => {
                let address = std::ptr::from_ref(fd).expose_provenance() as u64;
                (kvm_device_type_KVM_DEV_TYPE_VFIO, KVM_DEV_VFIO_FILE, vfio, address)
            }
            None => (KVM_DEV_TYPE_VIRTIO, KVM_DEV_VIRTIO_NONCOHERENT, virtio, 0),
        };
        let device = match self.0.take() {
            Some(device) => device,
            None => vm.create_device(&mut kvm_create_device { type_, fd: 0, flags: 0 })?,
        };
        let set = device.set_device_attr(&kvm_device_attr { group, attr: attr.into(), addr, flags: 0 });
        self.0 = Some(device);
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::dma::Offer;
    use std::path::Path;

    /// Where the stub calls every file a VFIO group, KVM takes any once; elsewhere none.
    #[test]
    fn kvm_says_what_it_takes() {
        let kvm = match crate::host::kvm::open() {
            Ok(kvm) => kvm,
            Err(trouble) => return crate::skip::skip(&trouble.to_string()),
        };
        let vm = kvm.create_vm().unwrap();
        let file = Provider::of_any_file();
        let mut vfio = Vfio::default();
        let errno = |done: Result<(), Error>| done.map_err(|error| error.errno());
        match errno(vfio.delete(&vm, &file)) {
            Err(libc::ENODEV) => return crate::skip::skip("this KVM has no VFIO device"),
            deleted => assert_eq!(deleted, Err(libc::ENOENT)),
        }
        let stub = Offer::probe(Path::new("/")).stub;
        assert_eq!(errno(vfio.add(&vm, &file)), if stub { Ok(()) } else { Err(libc::EINVAL) });
        if stub {
            assert_eq!(errno(vfio.add(&vm, &file)), Err(libc::EEXIST));
            assert_eq!(errno(vfio.delete(&vm, &file)), Ok(()));
        }
    }
}
