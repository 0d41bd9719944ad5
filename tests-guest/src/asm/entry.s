# Entries: PVH in 32-bit protected mode (QEMU) and 64-bit mode (embedded VMM). Both end in guest_start(info, pvh).
    .section .note.Xen, "a", @note
    .balign 4
    .long 4, 4, 18                  # name size, descriptor size, XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .balign 4
    .long start_pvh

    .section .boot, "ax", @progbits
    .code32
    .globl start_pvh
start_pvh:                          # EBX: hvm_start_info; paging off
    cli
    cld
    mov dword ptr [boot_pml4], offset boot_pdpt + 7
    mov eax, offset boot_pd + 7     # present, writable, user: CPL3 code runs in the same mapping
    mov edi, offset boot_pdpt
    mov ecx, 4
2:  mov [edi], eax
    add eax, 4096
    add edi, 8
    dec ecx
    jnz 2b
    mov eax, 0x87                   # the same, and a 2 MiB page
    mov edi, offset boot_pd
    mov ecx, 2048
3:  mov [edi], eax
    add eax, 0x200000
    add edi, 8
    dec ecx
    jnz 3b
    mov eax, offset boot_pml4
    mov cr3, eax
    mov eax, cr4
    or eax, {START_CR4}
    mov cr4, eax
    mov ecx, 0xc0000080             # EFER: SCE, LME, NXE
    rdmsr
    or eax, 0x901
    wrmsr
    mov eax, cr0                    # CD and NW stay as they were found
    and eax, 0xfffffffb             # not EM
    or eax, 0x80010023              # PG, WP, NE, MP, PE
    mov cr0, eax
    lgdt [boot_gdtr]
    .byte 0xea                      # ljmp 8:5f
    .long 5f
    .word 8
    .code64
5:  mov edi, ebx
    mov esi, 1
    jmp 6f

    .globl start64
start64:                            # RDI: hvm_start_info; paging on, flat segments
    cli
    cld
    xor esi, esi
6:  mov esp, offset BOOT_AREA + {AREA_SIZE}
    call guest_start
    ud2

    .balign 8
    .globl boot_gdt
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff        # 64-bit code
boot_gdtr:
    .word boot_gdtr - boot_gdt - 1
    .long boot_gdt

    .section .bss
    .balign 4096
boot_pml4: .skip 4096
boot_pdpt: .skip 4096
boot_pd:   .skip 4096 * 4
