// What an access costs, by its effective memory type and by the state of cache and buffers.

#include "bochs.h"
#include "cpu/cpu.h"
#include "pc_system.h"
#include "costs.h"

unsigned memtime_pending = 0;

// A line is named by its number plus 1; 0 is none.
typedef Bit64u Line;

static Line line_of(bx_phy_address paddr) { return paddr / CACHE_LINE_SIZE + 1; }

// Lines that are not in the cache, which all processors share, each in the place of its number: all lines of a page have
// one. A line whose place another line takes counts as in the cache.
static const unsigned PLACES = 64;
static Line flushed[PLACES];
static Bit64u flushed_last;

// Buffers of a processor.
static struct Buffers {
  Line combining;   // the line of the open write-combining buffer
  Line streaming;   // the line of the streaming buffer, which a 16-byte load of WC fills
  unsigned taken;   // 16-byte parts of it that were loaded since, a bit each
} buffers[BX_MAX_SMP_THREADS_SUPPORTED];

// Lets the clock of all devices and processors go on.
static void charge(unsigned ticks)
{
  if (ticks != 0) BX_TICKN(ticks);
}

// The line leaves the cache.
static void leave(Line line)
{
  Line &place = flushed[line % PLACES];
  if (place == 0) memtime_pending++;
  place = line;
  flushed_last = bx_pc_system.time_ticks();
}

// The line is in the cache after this. What that costs.
static unsigned enter(Line line)
{
  Line &place = flushed[line % PLACES];
  if (place != line) return 0;
  place = 0;
  memtime_pending--;
  return MEMTIME_MISS;
}

// All lines are in the cache, if none left it for long.
static void forget()
{
  if (bx_pc_system.time_ticks() - flushed_last < MEMTIME_FORGET) return;
  for (unsigned n = 0; n < PLACES; n++) {
    if (flushed[n] != 0) enter(flushed[n]);
  }
}

void memtime_drain(unsigned cpu)
{
  Buffers &own = buffers[cpu];
  own.streaming = 0;
  if (own.combining == 0) return;
  own.combining = 0;
  memtime_pending--;
  charge(MEMTIME_DRAIN);
}

void memtime_fence(unsigned cpu)
{
  memtime_drain(cpu);
  charge(MEMTIME_FENCE);
}

void memtime_flush(unsigned cpu, bx_phy_address paddr)
{
  const Line line = line_of(paddr);
  if (buffers[cpu].combining == line) memtime_drain(cpu);
  leave(line);
  charge(MEMTIME_FLUSH);
}

// A load of WC. Each part of a line comes out of the streaming buffer once.
static unsigned load_wc(unsigned cpu, bx_phy_address paddr, unsigned len)
{
  Buffers &own = buffers[cpu];
  const Line line = line_of(paddr);
  if (own.combining == line) memtime_drain(cpu);
  if (len == 16) {
    const unsigned part = 1 << (paddr % CACHE_LINE_SIZE / 16);
    if (own.streaming == line && ! (own.taken & part)) {
      own.taken |= part;
      return MEMTIME_GATHER;
    }
    own.streaming = line;
    own.taken = part;
  }
  return MEMTIME_UNCACHED;
}

// A store of WC.
static unsigned store_wc(unsigned cpu, bx_phy_address paddr)
{
  Buffers &own = buffers[cpu];
  const Line line = line_of(paddr);
  if (own.streaming == line) own.streaming = 0;
  if (own.combining != line) {
    memtime_drain(cpu);
    own.combining = line;
    memtime_pending++;
  }
  return MEMTIME_COMBINE;
}

void memtime_access(unsigned cpu, bx_phy_address paddr, unsigned len, unsigned memtype, unsigned rw)
{
  // What VMX reads and writes for itself, such as bitmaps, has no type here: Bochs passes an address in its place.
  if (memtype > BX_MEMTYPE_UC_WEAK) return;
  forget();
  const bool both = (rw & 3) == BX_RW; // told of once, before the load
  const bool store = (rw & 1) != 0, load = both || ! store;
  const Line line = line_of(paddr);
  // Locked or not, which is not told.
  if (both) memtime_drain(cpu);
  unsigned cost = 0;
  switch (memtype) {
    case BX_MEMTYPE_WC:
      if (load) cost += load_wc(cpu, paddr, len);
      if (store) cost += store_wc(cpu, paddr);
      break;
    case BX_MEMTYPE_WT:
    case BX_MEMTYPE_WP:
      if (load) cost += enter(line);
      if (store) cost += MEMTIME_THROUGH;
      if (store && memtype == BX_MEMTYPE_WP) leave(line);
      break;
    case BX_MEMTYPE_WB:
      cost += enter(line);
      break;
    case BX_MEMTYPE_UC:
    case BX_MEMTYPE_UC_WEAK:
      memtime_drain(cpu);
      cost += (load + store) * MEMTIME_UNCACHED;
      break;
  }
  charge(cost);
}
