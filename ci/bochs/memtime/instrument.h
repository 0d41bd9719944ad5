// Charges each memory access by its effective memory type, so that the time stamp counter shows the type.
// Every other hook stays the empty one that Bochs' stubs define for a build without instrumentation.

#undef BX_INSTRUMENTATION
#define BX_INSTRUMENTATION 0
#include "../stubs/instrument.h"
#undef BX_INSTRUMENTATION
#define BX_INSTRUMENTATION 1

// The model's name, which the banner shows.
#define MEMTIME_CLOCK "memtime"

// Flushed lines and open write-combining buffers. While there are none, WB accesses cost nothing and change nothing.
extern unsigned memtime_pending;

// An access. `rw` is BX_READ, BX_WRITE or BX_RW, or one of their variants for shadow stacks.
void memtime_access(unsigned cpu, bx_phy_address paddr, unsigned len, unsigned memtype, unsigned rw);
// A line is flushed.
void memtime_flush(unsigned cpu, bx_phy_address paddr);
// A fence, or another instruction that waits for all stores before it.
void memtime_fence(unsigned cpu);
// An event that empties this processor's buffers.
void memtime_drain(unsigned cpu);

// Whether an access must be told of. Nearly none must.
#define MEMTIME_COUNTS(memtype) ((memtype) != BX_MEMTYPE_WB || memtime_pending != 0)
#define MEMTIME_ACCESS(cpu_id, phy, len, memtype, rw) \
  do { if (MEMTIME_COUNTS(memtype)) memtime_access((cpu_id), (phy), (len), (memtype), (rw)); } while (0)

// Accesses of instructions, by linear address.
#undef BX_INSTR_LIN_ACCESS
#define BX_INSTR_LIN_ACCESS(cpu_id, lin, phy, len, memtype, rw)  MEMTIME_ACCESS(cpu_id, phy, len, memtype, rw)
// Accesses by physical address: walks of page tables and EPT.
#undef BX_INSTR_PHY_ACCESS
#define BX_INSTR_PHY_ACCESS(cpu_id, phy, len, memtype, rw)  MEMTIME_ACCESS(cpu_id, phy, len, memtype, rw)

// CLFLUSH and CLFLUSHOPT.
#undef BX_INSTR_CLFLUSH
#define BX_INSTR_CLFLUSH(cpu_id, laddr, paddr)  memtime_flush((cpu_id), (paddr))
// MFENCE, SFENCE, SERIALIZE, CPUID: a hook that the patch adds.
#define BX_INSTR_FENCE(cpu_id)  memtime_fence(cpu_id)

// Interrupts and exceptions.
#undef BX_INSTR_INTERRUPT
#define BX_INSTR_INTERRUPT(cpu_id, vector)  memtime_drain(cpu_id)
// Instructions that serialise: MOV to CR, INVLPG and its kin, VM entries and exits; INVD and WBINVD; WRMSR; IRET.
#undef BX_INSTR_TLB_CNTRL
#define BX_INSTR_TLB_CNTRL(cpu_id, what, new_cr3)  memtime_drain(cpu_id)
#undef BX_INSTR_CACHE_CNTRL
#define BX_INSTR_CACHE_CNTRL(cpu_id, what)  memtime_drain(cpu_id)
#undef BX_INSTR_WRMSR
#define BX_INSTR_WRMSR(cpu_id, addr, value)  memtime_drain(cpu_id)
#undef BX_INSTR_FAR_BRANCH
#define BX_INSTR_FAR_BRANCH(cpu_id, what, prev_cs, prev_eip, new_cs, new_eip) \
  do { if ((what) == BX_INSTR_IS_IRET) memtime_drain(cpu_id); } while (0)
