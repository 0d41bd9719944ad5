//! Application processors: starting them by INIT-SIPI-SIPI or by the VMM, and having them run a closure.

use crate::area::{AREA_SIZE, Area, Death};
use crate::doorbell;
use crate::job::{Call, Job};
use crate::report::{self, Out};
use crate::{apic, cpu};
use core::arch::{asm, global_asm};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use volatile::VolatilePtr;
use wire::layout::{START_CR4, TRAMPOLINE, YIELD_PORT};
use wire::record::Start;
use wire::register::{Place, Register};
use wire::step::{Status, Step};

global_asm!(
    include_str!("asm/trampoline.s"),
    TRAMPOLINE = const TRAMPOLINE,
    AREA_SIZE = const AREA_SIZE,
    START_CR4 = const START_CR4,
    FOUND_CR0 = const FOUND_CR0,
    CR3 = const CR3,
    AREA = const AREA,
    GDT_REGISTER = const GDT_REGISTER,
);

// Parameters of the trampoline, as offsets in its page.
/// CR0 as found in real mode, written by the application processor.
const FOUND_CR0: usize = 0xfe0;
/// CR3 to load.
const CR3: usize = 0xfe4;
/// Address of the area.
const AREA: usize = 0xfe8;
/// What `lgdt` loads: the limit of two entries in 16 bits and, as the operand size is 16 bits, a 24-bit base.
const GDT_REGISTER: usize = 0xfec;

unsafe extern "C" {
    static trampoline: u8;
    static trampoline_end: u8;
    /// Null and 64-bit code, see entry.s.
    static boot_gdt: [u64; 2];
}

/// Whether vCPUs that wait for each other give way.
static POLITE: AtomicBool = AtomicBool::new(false);

/// From now on a vCPU that waits for another one gives way. On a host with fewer CPUs than vCPUs the other then runs at once,
/// not when the time slice is over; elsewhere it costs exits. For a VMM that answers the doorbell.
pub fn give_way() {
    POLITE.store(true, Ordering::Relaxed);
}

/// Once round the loop of a vCPU that waits.
fn wait() {
    if POLITE.load(Ordering::Relaxed) {
        // SAFETY: the VMM lets others run, and does nothing to memory.
        unsafe {
            asm!("out dx, al", in("dx") YIELD_PORT, in("al") 0u8, options(nomem, nostack, preserves_flags));
        }
    } else {
        core::hint::spin_loop();
    }
}

/// The vCPU does not run guest code.
const DOWN: u32 = 0;
/// It waits for a job.
const IDLE: u32 = 1;
/// It has a job.
const BUSY: u32 = 2;
/// It died.
const DEAD: u32 = 3;

/// How the vCPU that boots has an application processor do things. All zeros is a vCPU that does not run.
pub(crate) struct Mailbox {
    state: AtomicU32,
    job: AtomicU64,
    argument: AtomicU64,
}

/// An application processor that runs guest code, in the hands of the vCPU that boots.
pub struct Cpu {
    area: &'static Area,
}

impl Cpu {
    /// Starts vCPU `cpu` in the way of `how` and reports it.
    ///
    /// # Panics
    /// It does not come up, or the VMM refuses to start it.
    pub fn start(out: &mut Out, cpu: u8, how: Start) -> Cpu {
        let cpu = Cpu { area: Area::allocate(cpu) };
        match how {
            Start::Sipi => cpu.init_sipi(out),
            Start::Direct => cpu.start_by_vmm(out),
        }
        cpu
    }

    /// Its index.
    pub fn index(&self) -> u8 {
        self.area.cpu()
    }

    /// Sends INIT and SIPI, also to a vCPU that runs, and reports both, with CR0 as it was found in real mode.
    ///
    /// # Panics
    /// It does not come up.
    pub fn init_sipi(&self, out: &mut Out) {
        let (from, to) = (&raw const trampoline, &raw const trampoline_end);
        // SAFETY: the page is free for the trampoline, which fits in it, and no vCPU runs there while this one waits.
        unsafe {
            let page = core::ptr::with_exposed_provenance_mut::<u8>(TRAMPOLINE as usize);
            page.copy_from_nonoverlapping(from, to.addr() - from.addr());
        }
        let gdt = &raw const boot_gdt;
        parameter(CR3).write(cpu::cr3() as u32);
        parameter(AREA).write((self.area as *const Area).expose_provenance() as u32);
        parameter(GDT_REGISTER).write((gdt.addr() << 16 | 0xf) as u32);
        parameter(GDT_REGISTER + 4).write((gdt.addr() >> 16) as u32);
        self.area.mailbox.state.store(DOWN, Ordering::SeqCst);
        out.init(self.index());
        apic::init(self.index());
        apic::sipi(self.index(), (TRAMPOLINE >> 12) as u8);
        if !cpu::wait_until(|| self.is_up()) {
            // The second SIPI of the SDM's sequence is for CPUs that miss the first one.
            apic::sipi(self.index(), (TRAMPOLINE >> 12) as u8);
        }
        self.expect_up();
        let place = Place { cpu: self.index(), register: Register::Cr0 };
        out.reads(place).push(Ok(parameter(FOUND_CR0).read().into()));
        out.up(self.index(), Start::Sipi);
    }

    fn start_by_vmm(&self, out: &mut Out) {
        let area = self.area as *const Area;
        let step = Step::StartCpu {
            cpu: self.index(),
            entry: ap_start as *const () as u64,
            // As after a call: the ABI wants RSP to be 8 below a multiple of 16 at a function's first instruction.
            stack: self.area.main_stack_top() - 8,
            argument: area.expose_provenance() as u64,
        };
        assert!(doorbell::ring(step).status == Status::Done, "the VMM did not start the application processor");
        self.expect_up();
        out.up(self.index(), Start::Direct);
    }

    fn is_up(&self) -> bool {
        self.area.mailbox.state.load(Ordering::Acquire) != DOWN
    }

    fn expect_up(&self) {
        assert!(cpu::wait_until(|| self.is_up()), "the application processor did not come up");
        self.check_alive();
    }

    fn check_alive(&self) {
        if self.area.mailbox.state.load(Ordering::Acquire) == DEAD {
            // SAFETY: its owner wrote it before it said DEAD, and does nothing since.
            report::dead(self.index(), unsafe { self.area.death.get().read() });
        }
    }

    /// Has the vCPU run `work` and waits for the result.
    ///
    /// # Panics
    /// It did not finish within about a second.
    pub fn run<R: Send, F: FnOnce() -> R + Send>(&self, work: F) -> R {
        self.beside(work, || ()).0
    }

    /// Has the vCPU halt for good, so that it takes no time of others that share its CPU.
    pub fn stop(self) {
        let mailbox = &self.area.mailbox;
        mailbox.job.store(rest as *const () as u64, Ordering::Relaxed);
        mailbox.state.store(BUSY, Ordering::Release);
    }

    /// Has the vCPU run `work`, does `own` on this one meanwhile, and waits for the vCPU's result. Gives both.
    ///
    /// # Panics
    /// It did not finish within about a second after `own`.
    pub fn beside<R: Send, S>(&self, work: impl FnOnce() -> R + Send, own: impl FnOnce() -> S) -> (R, S) {
        let (mailbox, job) = (&self.area.mailbox, Job::new(work));
        let (function, argument) = job.call();
        mailbox.job.store(function as *const () as u64, Ordering::Relaxed);
        mailbox.argument.store(argument.expose_provenance() as u64, Ordering::Relaxed);
        mailbox.state.store(BUSY, Ordering::Release);
        let own = own();
        let done = cpu::wait_until(|| {
            wait();
            mailbox.state.load(Ordering::Acquire) != BUSY
        });
        assert!(done, "the application processor did not finish its job");
        self.check_alive();
        (job.result(), own)
    }
}

/// The parameter at that offset.
fn parameter(offset: usize) -> VolatilePtr<'static, u32> {
    let address = core::ptr::with_exposed_provenance_mut(TRAMPOLINE as usize + offset);
    // SAFETY: an aligned word in the trampoline's page, which only raw pointers refer to.
    unsafe { VolatilePtr::new(NonNull::new_unchecked(address)) }
}

/// First code of an application processor in 64-bit mode, on its area's stack. The trampoline knows it by this name.
#[unsafe(no_mangle)]
extern "C" fn ap_start(area: &'static Area) -> ! {
    area.load();
    let mailbox = &area.mailbox;
    loop {
        mailbox.state.store(IDLE, Ordering::Release);
        while mailbox.state.load(Ordering::Acquire) != BUSY {
            wait();
        }
        let job = mailbox.job.load(Ordering::Relaxed) as usize;
        let argument = core::ptr::with_exposed_provenance(mailbox.argument.load(Ordering::Relaxed) as usize);
        // SAFETY: `run` stored a function and the argument that belongs to it, and waits with the job in its hands.
        unsafe { core::mem::transmute::<usize, Call>(job)(argument) };
    }
}

/// A job that does not end.
unsafe extern "C" fn rest(_: *const u8) {
    cpu::halt()
}

/// Leaves word of an application processor's death and stops it.
pub(crate) fn bury(area: &Area, death: Death) -> ! {
    // SAFETY: own area; the vCPU that boots reads it only after DEAD.
    unsafe { area.death.get().write(death) };
    area.mailbox.state.store(DEAD, Ordering::Release);
    cpu::halt()
}
