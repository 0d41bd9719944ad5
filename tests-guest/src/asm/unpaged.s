# A round of a probe with paging off: out of 64-bit mode, into 32-bit protected mode, and back. All that it needs lies below 4
# GiB and is mapped one to one. SDM Vol. 3A, "Initializing IA-32e Mode" and "Switching Out of IA-32e Mode".
    .section .rodata.unpaged, "a", @progbits
    .balign 8
unpaged_gdt:
    .quad 0
    .quad 0x00cf9b000000ffff        # 08: 32-bit code
    .quad 0x00cf93000000ffff        # 10: data
    .quad 0x00af9b000000ffff        # 18: 64-bit code
unpaged_gdt_register:
    .word unpaged_gdt_register - unpaged_gdt - 1
    .quad unpaged_gdt

    .section .text.unpaged_round, "ax", @progbits
# fn unpaged_round(address: u64, probe: u64) -> u32
    .globl unpaged_round
unpaged_round:
    push rbx
    push rbp
    sub rsp, 16
    sgdt [rsp]
    lgdt [rip + unpaged_gdt_register]
    push 0x08
    lea rax, [rip + unpaged_compatible]
    push rax
    retfq
    .code32
unpaged_compatible:
    mov eax, 0x10
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov eax, cr0
    and eax, 0x7fffffff
    mov cr0, eax                    # paging is off, and with it long mode
    jmp unpaged_here
unpaged_here:
    one_round eax, ebp, edi, 4
    mov esi, eax
    mov eax, cr0
    or eax, 0x80000000
    mov cr0, eax                    # EFER.LME, CR4.PAE and CR3 are as they were
    push 0x18
    mov ecx, offset unpaged_long
    push ecx
    retf
    .code64
unpaged_long:
    mov esp, esp                    # the upper half of RSP is not kept in 32-bit mode
    lgdt [rsp]
    push 0x08                       # code of the own GDT, whose data is at 10 as well
    lea rax, [rip + unpaged_back]
    push rax
    retfq
unpaged_back:
    mov eax, 0x10
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov eax, esi
    add rsp, 16
    pop rbp
    pop rbx
    ret
