# The rounds of wire::probe, once for 64-bit mode and once for 32-bit protected mode with paging off. They use registers
# and the page under test only: no stack, no other memory.

# The clock, between what came before and what comes: EAX.
    .macro ticks
    mfence
    lfence
    rdtsc
    lfence
    .endm

# Leaves the ticks of one round of probe number ESI at \address in EAX. Uses EBX, ECX, EDX, EBP and \value (RAX or EAX).
# The TLB, and the cache where it may, hold the bytes before the first one is timed.
    .macro one_round value, kept, address, bytes
    mov \kept, [\address]
    cmp esi, 1
    je 21f
    cmp esi, 2
    je 22f
    cmp esi, 3
    je 23f
    cmp esi, 4
    je 24f
    cmp esi, 5
    je 25f
    cmp esi, 6
    je 26f
    cmp esi, 7
    je 27f
    cmp esi, 8
    je 28f
    cmp esi, 9
    je 29f

    ticks                           # load
    mov ebx, eax
    mov ecx, {ACCESSES}
2:  mov \value, [\address]
    lfence
    dec ecx
    jnz 2b
    jmp 9f

21: mov [\address], \kept           # drain
    ticks
    mov ebx, eax
    mov ecx, {ACCESSES}
2:  mov [\address], \kept
    mfence
    dec ecx
    jnz 2b
    jmp 9f

22: add \address, {STREAM}     # stream
    mov dword ptr [\address], 0
    ticks
    mov ebx, eax
    xor eax, eax
    mov ecx, {LINES}
2:  stores \address, \value, \bytes
    add \address, 64
    dec ecx
    jnz 2b
    jmp 9f

23: mov [\address], \kept           # reload
    ticks
    mov ebx, eax
    mov ecx, {ACCESSES}
2:  mov [\address], \kept
    mfence
    mov \value, [\address]
    lfence
    dec ecx
    jnz 2b
    jmp 9f

24: ticks                           # gather
    mov ebx, eax
    mov ecx, {LINES}
2:  movntdqa xmm0, [\address]
    movntdqa xmm0, [\address + 16]
    movntdqa xmm0, [\address + 32]
    movntdqa xmm0, [\address + 48]
    lfence
    add \address, 64
    dec ecx
    jnz 2b
    jmp 9f

25: ticks                           # lfence
    mov ebx, eax
    mov ecx, {ACCESSES}
2:  lfence
    dec ecx
    jnz 2b
    jmp 9f

26: ticks                           # mfence
    mov ebx, eax
    mov ecx, {ACCESSES}
2:  mfence
    dec ecx
    jnz 2b
    jmp 9f

27: ticks                           # flush
    mov ebx, eax
    mov ecx, {ACCESSES}
2:  clflush [\address]
    mfence
    dec ecx
    jnz 2b
    jmp 9f

28: ticks                           # flush and load
    mov ebx, eax
    mov ecx, {ACCESSES}
2:  clflush [\address]
    mfence
    mov \value, [\address]
    lfence
    dec ecx
    jnz 2b
    jmp 9f

29: ticks                           # walk, at CPL 0
    mov ebx, eax
    mov ecx, {ACCESSES}
2:  invlpg [\address]
    mov \value, [\address]
    lfence
    dec ecx
    jnz 2b

9:  ticks
    sub eax, ebx
    .endm

# Stores to all of a line.
    .macro stores address, value, bytes
    mov [\address], \value
    mov [\address + 8], \value
    mov [\address + 16], \value
    mov [\address + 24], \value
    mov [\address + 32], \value
    mov [\address + 40], \value
    mov [\address + 48], \value
    mov [\address + 56], \value
    .if \bytes == 4
    mov [\address + 4], \value
    mov [\address + 12], \value
    mov [\address + 20], \value
    mov [\address + 28], \value
    mov [\address + 36], \value
    mov [\address + 44], \value
    mov [\address + 52], \value
    mov [\address + 60], \value
    .endif
    .endm

    .section .text.probe_round, "ax", @progbits
# fn probe_round(address: u64, probe: u64) -> u32
    .globl probe_round
probe_round:
    push rbx
    push rbp
    one_round rax, rbp, rdi, 8
    pop rbp
    pop rbx
    ret

    .section .text.probe_round_4, "ax", @progbits
# fn probe_round_4(address: u64, probe: u64) -> u32
    .globl probe_round_4
probe_round_4:
    push rbx
    push rbp
    one_round eax, ebp, rdi, 4
    pop rbp
    pop rbx
    ret
