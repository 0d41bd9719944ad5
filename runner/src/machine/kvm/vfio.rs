//! KVM's VFIO device of a VM: files are added to it and taken away (`Documentation/virt/kvm/devices/vfio.rst`).

use kvm_bindings::{
    KVM_DEV_VFIO_FILE, KVM_DEV_VFIO_FILE_ADD, KVM_DEV_VFIO_FILE_DEL, kvm_create_device, kvm_device_attr,
    kvm_device_type_KVM_DEV_TYPE_VFIO,
};
use kvm_ioctls::{DeviceFd, Error, VmFd};
use std::fs::File;
use std::os::fd::AsRawFd;

/// The device. A VM has one at most, which is made when it is first used.
#[derive(Debug, Default)]
pub struct Vfio(Option<DeviceFd>);

impl Vfio {
    /// KVM_DEV_VFIO_FILE_ADD. That KVM takes the file says nothing about coherency.
    ///
    /// # Errors
    /// EEXIST if it has the file, EINVAL for one that VFIO does not know, ENODEV for a KVM without VFIO device.
    pub fn add(&mut self, vm: &VmFd, file: &File) -> Result<(), Error> {
        self.set(vm, KVM_DEV_VFIO_FILE_ADD, file)
    }

    /// KVM_DEV_VFIO_FILE_DEL.
    ///
    /// # Errors
    /// ENOENT if it does not have the file, ENODEV for a KVM without VFIO device.
    pub fn delete(&mut self, vm: &VmFd, file: &File) -> Result<(), Error> {
        self.set(vm, KVM_DEV_VFIO_FILE_DEL, file)
    }

    fn set(&mut self, vm: &VmFd, attribute: u32, file: &File) -> Result<(), Error> {
        let device = match self.0.take() {
            Some(device) => device,
            None => {
                vm.create_device(&mut kvm_create_device { type_: kvm_device_type_KVM_DEV_TYPE_VFIO, fd: 0, flags: 0 })?
            }
        };
        let fd = file.as_raw_fd();
        let address = (&raw const fd).expose_provenance() as u64;
        let set = device.set_device_attr(&kvm_device_attr {
            group: KVM_DEV_VFIO_FILE,
            attr: attribute.into(),
            addr: address,
            flags: 0,
        });
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
        let file = File::open("/dev/null").unwrap();
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
