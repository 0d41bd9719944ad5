// What accesses cost, in ticks of the time stamp counter on top of the one that every instruction takes. The numbers are
// made up, in proportions as on silicon.

// A load or store that goes to memory and past the caches: UC, and loads of WC.
#define MEMTIME_UNCACHED 200
// A load or store of a line that was flushed.
#define MEMTIME_MISS 200
// A store that goes through the cache to memory: WT, WP.
#define MEMTIME_THROUGH 150
// A store into the open write-combining buffer.
#define MEMTIME_COMBINE 1
// Writing the write-combining buffer to memory.
#define MEMTIME_DRAIN 150
// A 16-byte load of WC out of the streaming buffer.
#define MEMTIME_GATHER 4
// MFENCE, SFENCE, SERIALIZE and CPUID, whatever they drain.
#define MEMTIME_FENCE 30
// CLFLUSH and CLFLUSHOPT.
#define MEMTIME_FLUSH 40

// After so many ticks without a flush, all lines are in the cache again, and Bochs is as fast as before.
#define MEMTIME_FORGET 1000000
