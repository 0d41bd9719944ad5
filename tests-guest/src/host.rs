//! Values through the VMM: set and got by host steps, and read by the guest itself.

use crate::doorbell::ring;
use crate::msr;
use crate::report::Out;
use wire::record::Series;
use wire::register::Place;
use wire::step::Step;

/// The ioctls by which the VMM reaches an MSR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// KVM_SET_MSRS and KVM_GET_MSRS.
    Msrs,
    /// KVM_SET_ONE_REG and KVM_GET_ONE_REG.
    OneReg,
}

impl Path {
    /// Has the VMM set the MSR `index` of vCPU `cpu`. What comes of it is in the VMM's own record.
    pub fn set(self, cpu: u8, index: u32, value: u64) {
        ring(match self {
            Path::Msrs => Step::SetMsr { cpu, index, value },
            Path::OneReg => Step::SetOneReg { cpu, index, value },
        });
    }

    /// Has the VMM get the MSR `index` of vCPU `cpu`.
    pub fn get(self, cpu: u8, index: u32) {
        ring(match self {
            Path::Msrs => Step::GetMsr { cpu, index },
            Path::OneReg => Step::GetOneReg { cpu, index },
        });
    }

    /// Has the VMM set the first `count` values of `series`, and get each again.
    pub fn sweep(self, cpu: u8, index: u32, series: Series, count: u64) {
        for n in 0..count {
            self.set(cpu, index, series.value(n));
            self.get(cpu, index);
        }
    }

    /// Has the VMM set each value on the vCPU that boots and get it again, and reads it there too.
    pub fn agree(self, out: &mut Out, index: u32, values: impl Iterator<Item = u64>) {
        for value in values {
            self.set(0, index, value);
            self.get(0, index);
            out.reads(Place::msr(index)).push(msr::try_rdmsr(index));
        }
    }
}
