# The guest of a guest, and the way into it and out. Its instructions use registers and the bytes under test only.
    .text

# fn vmx_enter(registers: &mut [u64; 4]) -> u64
    .globl vmx_enter
vmx_enter:
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    push rdi
    mov eax, 0x6c14                 # HOST_RSP
    vmwrite rax, rsp
    mov eax, 0x6c16                 # HOST_RIP
    mov edx, offset vmx_exit
    vmwrite rax, rdx
    mov rsi, [rdi + 8]
    mov rdi, [rdi]
    vmlaunch
    mov eax, 1                      # it did not
    pop rdi
    jmp 2f
vmx_exit:
    pop rdi
    mov ebx, ebx                    # 32 bits each; above them is what 32-bit mode leaves there
    mov ebp, ebp
    mov [rdi + 16], rbx
    mov [rdi + 24], rbp
    xor eax, eax
2:  pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret

# RDI: address, ESI: how many. Leaves the ticks of loads in EBX and those of stores in EBP. As in timed.rs, but for what
# is stored: the page is the test's own.
    .macro nested_loops value, address, stored
    mov \value, [\address]
    mov [\address], \stored
    mfence
    lfence
    rdtsc
    lfence
    mov ebx, eax
    mov ecx, esi
2:  mov \value, [\address]
    dec ecx
    jnz 2b
    lfence
    rdtsc
    sub eax, ebx
    mov ebx, eax
    mfence
    lfence
    rdtsc
    lfence
    mov ebp, eax
    mov ecx, esi
3:  mov [\address], \stored
    dec ecx
    jnz 3b
    mfence
    lfence
    rdtsc
    sub eax, ebp
    mov ebp, eax
    vmcall
    ud2
    .endm

    .globl nested_64
nested_64:
    nested_loops rax, rdi, rsi
    .code32
    .globl nested_32
nested_32:
    nested_loops eax, edi, esi
    .code64
