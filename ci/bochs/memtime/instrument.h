// Charges each memory access by its effective memory type, so that the time stamp counter shows the type.
// Every other hook stays the empty one that Bochs' stubs define for a build without instrumentation.

#undef BX_INSTRUMENTATION
#define BX_INSTRUMENTATION 0
#include "../stubs/instrument.h"
#undef BX_INSTRUMENTATION
#define BX_INSTRUMENTATION 1

// The clock's name and its ticks, written by the build from configs/clocks.
#include "ticks.h"

// Lets the clock of all devices and processors go on by what this access costs. `rw` is BX_READ, BX_WRITE or BX_RW, or
// one of their variants for shadow stacks.
void memtime_charge(unsigned memtype, unsigned rw);

// Nearly all accesses are WB, which costs nothing.
#define MEMTIME(memtype, rw) do { if ((memtype) != BX_MEMTYPE_WB) memtime_charge((memtype), (rw)); } while (0)

// Accesses of instructions, by linear address.
#undef BX_INSTR_LIN_ACCESS
#define BX_INSTR_LIN_ACCESS(cpu_id, lin, phy, len, memtype, rw)  MEMTIME(memtype, rw)
// Accesses by physical address: walks of page tables and EPT.
#undef BX_INSTR_PHY_ACCESS
#define BX_INSTR_PHY_ACCESS(cpu_id, phy, len, memtype, rw)  MEMTIME(memtype, rw)
