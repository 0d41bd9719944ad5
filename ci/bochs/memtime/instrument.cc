// What an access costs, by its effective memory type.

#include "bochs.h"
#include "cpu/cpu.h"
#include "pc_system.h"

static const struct { unsigned load, store; } ticks[] = { MEMTIME_TICKS };

void memtime_charge(unsigned memtype, unsigned rw)
{
  // What VMX reads and writes for itself, such as bitmaps, has no type here: Bochs passes an address in its place.
  if (memtype >= sizeof(ticks) / sizeof(ticks[0])) return;
  unsigned cost;
  if ((rw & 3) == BX_RW) // told of once, before the load
    cost = ticks[memtype].load + ticks[memtype].store;
  else
    cost = (rw & 1) ? ticks[memtype].store : ticks[memtype].load;
  if (cost != 0) BX_TICKN(cost);
}
