//! What a zygote is handed once: the devices that its VMs may be given, opened, and the CPUs of its vCPUs.

use super::fds;
use crate::host::device::Devices;
use crate::host::dma::{Provider, Spec};
use crate::host::linux::Linux;
use crate::host::mmio::HostMmio;
use crate::machine::kvm::{KvmMachine, Lie};
use crate::machine::memfd;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use wire::step::Hazard;

/// The most bytes of it in JSON: paths and numbers of CPUs.
const MOST: usize = 1 << 20;

/// It in JSON. The files come beside it, in this order: provider, host MMIO, hazards, kernel.
#[derive(Debug, Serialize, Deserialize)]
struct Handed {
    pins: Vec<usize>,
    /// The provider of DMA, and whether it has a file.
    dma: Option<(Spec, bool)>,
    mmio: Option<Page>,
    /// By the word for the hazard.
    hazards: Vec<(String, Page)>,
    /// File and release of a kernel, which comes as a memory file.
    linux: Option<(PathBuf, String)>,
    lie: Option<Lie>,
}

/// A page of a file.
#[derive(Debug, Serialize, Deserialize)]
struct Page {
    offset: u64,
    what: String,
}

impl Page {
    fn of<'a>(mmio: &'a HostMmio, files: &mut Vec<BorrowedFd<'a>>) -> io::Result<Page> {
        let (file, offset) = mmio.parts().ok_or_else(|| io::Error::other("the page has no file any more"))?;
        files.push(file.as_fd());
        Ok(Page { offset, what: mmio.description().to_owned() })
    }

    fn open(self, file: Option<OwnedFd>) -> io::Result<HostMmio> {
        HostMmio::handed(file.ok_or_else(missing)?.into(), self.offset, self.what)
    }
}

fn missing() -> io::Error {
    io::Error::other("fewer files came than were announced")
}

/// Sends what a zygote needs to be such a machine.
///
/// # Errors
/// The zygote does not take it, or there is no memory for the kernel.
pub fn send(to: &UnixStream, machine: &KvmMachine) -> io::Result<()> {
    let (Devices { dma, mmio, hazards, linux }, pins, lie) = machine.parts();
    let kernel = linux.as_ref().map(|linux| memfd::with(&linux.vmlinux)).transpose()?;
    let mut files: Vec<BorrowedFd<'_>> = dma.iter().filter_map(Provider::file).map(AsFd::as_fd).collect();
    let handed = Handed {
        pins: pins.to_owned(),
        dma: dma.as_ref().map(|provider| (provider.spec().clone(), provider.file().is_some())),
        mmio: mmio.as_ref().map(|page| Page::of(page, &mut files)).transpose()?,
        hazards: hazards
            .iter()
            .map(|(hazard, page)| Ok((hazard.to_string(), Page::of(page, &mut files)?)))
            .collect::<io::Result<_>>()?,
        linux: linux.as_ref().map(|linux| (linux.named().0.to_owned(), linux.named().1.to_owned())),
        lie,
    };
    files.extend(kernel.as_ref().map(AsFd::as_fd));
    let json = serde_json::to_vec(&handed)?;
    fds::send(to, &(json.len() as u32).to_le_bytes(), &files)?;
    (&mut &*to).write_all(&json)
}

/// Receives it, and makes the machine.
///
/// # Errors
/// In words: it is not as [`send`] sends it, or /dev/kvm or a device cannot be used.
pub fn receive(from: &UnixStream) -> Result<KvmMachine, String> {
    let read = || -> io::Result<(Handed, Vec<OwnedFd>)> {
        let (length, files) = fds::receive(from)?;
        let length = u32::from_le_bytes(length) as usize;
        if length > MOST {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let mut json = vec![0; length];
        (&mut &*from).read_exact(&mut json)?;
        Ok((serde_json::from_slice(&json)?, files))
    };
    let (handed, files) = read().map_err(|error| format!("nothing came that sets a VMM up: {error}"))?;
    let Handed { pins, dma, mmio, hazards, linux, lie } = handed;
    let mut files = files.into_iter();
    let devices = || -> io::Result<Devices> {
        let dma = dma.map(|(spec, has_file)| {
            let file = if has_file { Some(files.next().ok_or_else(missing)?.into()) } else { None };
            io::Result::Ok(Provider::handed(spec, file))
        });
        Ok(Devices {
            dma: dma.transpose()?,
            mmio: mmio.map(|page| page.open(files.next())).transpose()?,
            hazards: hazards
                .into_iter()
                .map(|(word, page)| Ok((word.parse::<Hazard>().map_err(io::Error::other)?, page.open(files.next())?)))
                .collect::<io::Result<_>>()?,
            linux: linux
                .map(|(path, release)| {
                    let (mut file, mut vmlinux) = (File::from(files.next().ok_or_else(missing)?), Vec::new());
                    file.rewind()?;
                    file.read_to_end(&mut vmlinux)?;
                    io::Result::Ok(Linux::handed(path, vmlinux, release))
                })
                .transpose()?,
        })
    };
    let devices = devices().map_err(|error| format!("a device cannot be handed to a VMM: {error}"))?;
    let machine = KvmMachine::open().map_err(|trouble| trouble.to_string())?;
    Ok(machine.of_parts(devices, pins, lie))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Machine;

    #[test]
    fn devices_arrive_as_they_are() {
        let Ok(machine) = KvmMachine::open() else { return crate::skip::skip("no /dev/kvm") };
        let devices = Devices {
            dma: Some(Provider::of_any_file()),
            linux: Some(Linux::unnamed(b"a kernel".to_vec())),
            ..Devices::default()
        };
        let machine = machine.of_parts(devices, vec![1, 0], Some(Lie { index: 0x277, value: 7 }));
        let (a, b) = UnixStream::pair().unwrap();
        send(&a, &machine).unwrap();
        let came = receive(&b).unwrap();
        let (devices, pins, lie) = came.parts();
        assert_eq!((pins, lie.map(|lie| lie.value)), (&[1, 0][..], Some(7)));
        assert!(devices.dma.as_ref().unwrap().file().is_some() && devices.mmio.is_none());
        assert_eq!(devices.linux.as_ref().unwrap().vmlinux, b"a kernel");
        assert_eq!(came.description(), machine.description());
    }

    #[test]
    fn what_sets_nothing_up_is_said() {
        let (a, b) = UnixStream::pair().unwrap();
        fds::send(&a, &2u32.to_le_bytes(), &[]).unwrap();
        (&a).write_all(b"[]").unwrap();
        assert!(receive(&b).unwrap_err().starts_with("nothing came that sets a VMM up: invalid length 0"));
        fds::send(&a, &u32::MAX.to_le_bytes(), &[]).unwrap();
        assert_eq!(receive(&b).unwrap_err(), "nothing came that sets a VMM up: file too large");
        drop(a);
        assert!(receive(&b).is_err());
    }
}
